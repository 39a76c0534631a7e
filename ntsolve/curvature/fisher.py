"""The inverse of the empirical Fisher matrix, from m gradients, without ever forming it.

For gradients g_i, the rows of G (m, d), the matrix of Frantar, Kurtic, Alistarh, "M-FAC: Efficient Matrix-Free
Approximations of Second-Order Information", NeurIPS 2021, is

    F = damp I + (1/m) sum_i g_i g_i'                                                                    (1)

The paper applies its inverse by a recursion over rank-one updates, in O(d m^2) steps of one vector at a time. The
recursion is the Cholesky factorisation of the m x m matrix A = m damp I + G G' in disguise (see `recursion`), so here

    F^-1 x = (x - G' A^-1 G x) / damp                                                                    (2)
    F^-1 g_k = m G' A^-1 e_k, for one of the gradients themselves                                        (3)

with matrix products and one factorisation; every sum is in float64, so that (2) holds its digits down to a small damp.
Where one gradient takes the place of another the factor follows in O(m^2): dropping a row is a rank-one update of what
comes after it (Gill, Golub, Murray, Saunders, Math. Comp. 28 (1974), method C1), appending one a triangular solve.
"""

import copy
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..reductions import SERIAL
from .gathered import Gathered, parts
from .gradients import InMemory, gradients, stored
from .inverse import Dual, Empty, InverseOperator, Primal
from .matrix import FisherMatrix
from .recursion import DynamicRecursion, StaticRecursion


class EmpiricalFisher(FisherMatrix):
    """The empirical Fisher matrix of m gradients and, above all, its inverse.

    Parameters
    ----------
    G : array (m, d), memory map, or iterable of rows (d,) or of chunks (rows, d)
        The gradients, one a row, float16, float32 or float64; not changed, and not copied where it is a contiguous
        array. A memory map larger than the budget (see `ntsolve.config`) is read piece by piece. What an iterable
        brings is kept in memory up to half the budget, and in a temporary file beyond that.
    damp : float
        What is added to the diagonal: positive.
    block_size : int, optional
        Use the diagonal blocks of this order alone, as the paper does for pruning. Default: the whole matrix. A block
        of order less than m is factored as it is, a larger one through its m x m dual.
    method : {"cholesky", "recursion"}
        "recursion" is the paper's algorithm as it is written there, for comparison: in memory and without blocks.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: the columns of G are shared among its ranks.
        Each passes its own, none maybe; d, vectors and indices are then those of the own columns, and F is the matrix
        of all. `block_size` has to divide the number of columns of each rank but the last. All ranks call `solve`,
        `matvec`, `append`, `replace`, `with_damp` and `log_det` together; the other methods need no one else.

    Attributes
    ----------
    m, d : int
        Gradients there are, and the length of each.
    shape : tuple
        (d, d)
    dtype : dtype
        In which the gradients are worked with: float32 or float64.
    damp : float
    block_size : int or None

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit: NaN or infinity in G (found in the sums, without a pass of its own), no
        gradients, a file shorter than its map, a damp that is not positive or is lost in rounding.

    Notes
    -----
    Setting up takes one pass over G and O(d m^2) operations, `solve` two passes for up to 16 right-hand sides. Beside
    G there are two m x m matrices for each block of columns, or two of the order of a block where that is smaller.
    Vectors are rows, as everywhere; a result has the dtype that NumPy gives to X and G together.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> G = np.random.default_rng(0).standard_normal((5, 40))
    >>> F = ntsolve.EmpiricalFisher(G, damp=1e-3)
    >>> x = np.ones(40)
    >>> bool(np.allclose(F.matvec(F.solve(x)), x))
    True
    >>> bool(np.allclose(F.diag(), np.diag(np.linalg.inv(1e-3 * np.eye(40) + G.T @ G / 5))))
    True
    """

    def __init__(self, G, *, damp, block_size=None, method="cholesky", comm=None) -> None:
        self._comm = comm
        with self._together():
            self._setup(damp, block_size, method)
            self._rows = gradients(G, part=self._ranks is not SERIAL)
            self.d, self._capacity = self._rows.d, self._rows.m
            self._order = list(range(self._rows.m))
            self._moving = False
            if method == "recursion" and not isinstance(self._rows, InMemory):
                raise ValueError('method="recursion" needs gradients in memory')
            self._agree(self._rows.working)
            with self._kernels() as k:
                self._inverse = self._make(k)
                self._inverse.factor()

    def _setup(self, damp, block_size, method):
        self.damp = validate.positive("damp", damp)
        self.block_size = None if block_size is None else validate.count("block_size", block_size, least=1)
        self._method = validate.choice("method", method, ("cholesky", "recursion"))
        if method == "recursion" and block_size is not None:
            raise ValueError('method="recursion" takes no block_size')
        if method == "recursion" and self._ranks is not SERIAL:
            raise ValueError('method="recursion" takes no comm')

    def _agree(self, dtype):
        """Look whether the ranks have parts of one matrix."""
        self._ranks.alike(damp=self.damp)
        self._whole, self._apart = parts(self._ranks, self.d, self._capacity, self.block_size, dtype)

    @classmethod
    def window(cls, m, d, damp, *, start=None, dtype="float32", block_size=None, method="cholesky",
               comm=None) -> "EmpiricalFisher":  # fmt: skip
        """The Fisher matrix of the last m gradients, to be filled by `append`.

        Parameters
        ----------
        m : int
            Gradients that it holds at most.
        d : int
            Length of a gradient.
        damp : float
        start : array (k, d), optional
            The gradients to begin with, the oldest first; at most m. Copied.
        dtype : {"float16", "float32", "float64"}
            In which gradients are kept.
        block_size, method, comm : optional
            As above; "recursion" is the paper's dynamic algorithm.

        Returns
        -------
        EmpiricalFisher
            While it holds k < m gradients, it is `damp` times the identity plus their sum over k; empty, the first
            alone. It lives where the first gradient does, on the CPU or on a GPU.

        Examples
        --------
        >>> import numpy as np, ntsolve
        >>> F = ntsolve.EmpiricalFisher.window(8, 3, 0.1)
        >>> for g in np.random.default_rng(0).standard_normal((20, 3)):
        ...     F.append(g)
        >>> F.m, F.solve_newest().shape
        (8, (3,))
        """
        F = cls.__new__(cls)
        F._comm = comm
        with F._together():
            F._setup(damp, block_size, method)
            F.d = validate.count("d", d, least=1 if F._ranks is SERIAL else 0)
            F._capacity = validate.count("m", m, least=1)
            F._rows, F._order, F._inverse = None, [], Empty(F.d, F.damp)
            F._dtype, F._moving = stored("dtype", dtype), True
            F._agree(F._dtype)
            F._ranks.alike(**{"the number of gradients in start": 0 if start is None else len(start)})
            if start is not None:
                F._begin(start)
        return F

    def _begin(self, start):
        start = validate.numeric("start", validate.own_kind("start", start)[0])
        if start.ndim != 2 or start.shape[1] != self.d or start.shape[0] > self._capacity:
            raise ValueError(f"start has shape {tuple(start.shape)}, not (k, {self.d}) with k <= {self._capacity}")
        if not len(start):
            return
        with kernels_for(start=start) as k:
            array = k.xp.zeros((self._capacity, self.d), self._dtype)
            array[: len(start)] = start
            self._rows, self._order = InMemory(array, owned=True, m=len(start)), list(range(len(start)))
            self._inverse = self._make(k)
            self._inverse.factor()

    # ---- others made of it ------------------------------------------------------------------------------------------

    def with_damp(self, damp) -> "EmpiricalFisher":
        """The same gradients with another damp: a factorisation, but no pass over G.

        Parameters
        ----------
        damp : float

        Returns
        -------
        EmpiricalFisher
            A new one. Both may change afterwards without the other's noticing.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.damp = validate.positive("damp", damp)
        other._order, other._diagonal = list(self._order), None
        if isinstance(self._rows, InMemory):
            self._rows.owned = False
            other._rows = copy.copy(self._rows)
        with self._together(), self._kernels() as k:
            self._ranks.alike(damp=other.damp)
            other._inverse = other._make(k, self._inverse.gram) if self.m else Empty(self.d, other.damp)
            other._inverse.factor()
        return other

    def __copy__(self):
        return self.with_damp(self.damp)

    def __deepcopy__(self, memo):
        return self.with_damp(self.damp)

    def __reduce__(self):
        """For pickle: the gradients and the settings, from which the factor is made anew."""
        if self._comm is not None:
            raise TypeError("comm: what is shared among ranks cannot be pickled; pickle the gradients of each rank")
        if not isinstance(self._rows, InMemory | None):
            raise TypeError("G is in a file, which a pickle would copy: pickle its path, and make this anew from it")
        options = {"damp": self.damp, "block_size": self.block_size, "method": self._method}
        window = {"m": self._capacity, "d": self.d, "dtype": np.dtype(self._dtype).name} if self._moving else None
        return _unpickled, (self.gradients(), options, window)

    def as_linear_operator(self) -> Any:
        """F^-1 as an operator: the `M` of `ntsolve.cg`, `ntsolve.ihvp` or one of SciPy's solvers.

        Returns
        -------
        LinearOperator
            SciPy's, where the gradients are on the CPU; on a GPU an object with the same `shape`, `dtype`, `matvec` and
            `@`.
        """
        operator = InverseOperator(self)
        if self._rows is not None and self._rows.on_device:
            return operator
        from scipy.sparse.linalg import aslinearoperator

        return aslinearoperator(operator)

    # ---- the window -------------------------------------------------------------------------------------------------

    def gradients(self) -> Any:
        """The gradients it is made of, the oldest first; a copy.

        Returns
        -------
        array (m, d)
            In the dtype that they are kept in.
        """
        if self._rows is None:
            return np.zeros((0, self.d), self._dtype)
        with self._kernels() as k:
            return self._rows.rows(k.xp.asarray(self._order))

    def append(self, g) -> None:
        """Take in a gradient; once there are as many as fit, the oldest leaves.

        Parameters
        ----------
        g : array (d,)
            NaN or infinity is a ValueError, and nothing has changed.
        """
        with self._together():
            g = self._gradient(g)
            self._ranks.alike(m=self.m)  # all have come so far, and nothing has changed
            self._append(g)

    def _append(self, g):
        if self.m == self._capacity:
            self._exchange(0, g)
            return
        with kernels_for(gradients=self._rows and self._rows.array, g=g) as k:
            if self._rows is None:
                self._rows = InMemory(k.xp.zeros((self._capacity, self.d), self._dtype), owned=True, m=0)
            self._rows.own(self._capacity)
            self._rows.array[self.m] = g
            self._rows.m += 1
            self._diagonal = None
            order = [*self._order, self.m]
            if self.m:
                self._inverse.append(order)
            else:
                self._inverse = self._make(k)
            self._order = order

    def replace(self, g, index=0) -> None:
        """Put a gradient in the place of another; it is the newest then.

        Parameters
        ----------
        g : array (d,)
            NaN or infinity is a ValueError, and nothing has changed.
        index : int
            Which one leaves, counted from the oldest, which is the default.
        """
        with self._together():
            if isinstance(index, bool) or not hasattr(index, "__index__"):
                raise TypeError(f"index must be a whole number, not {type(index).__name__}")
            if not -self.m <= index < self.m:
                raise ValueError(f"index must be one of the {self.m} gradients there are, not {index}")
            g, age = self._gradient(g), int(index) % self.m
            self._ranks.alike(index=age)
            self._exchange(age, g)

    def _exchange(self, age, g):
        with self._kernels(g=g):
            self._rows.own(self._capacity)
            slot = self._order[age]
            order = [*self._order[:age], *self._order[age + 1 :], slot]
            before = self._rows.array[slot].copy()
            self._rows.array[slot] = g
            try:
                self._inverse.exchange(age, order)
            except BaseException:
                self._rows.array[slot] = before
                raise
            self._order, self._diagonal = order, None

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _make(self, k, gram=None):
        if self._method == "recursion":
            return (DynamicRecursion if self._moving else StaticRecursion)(k, self._rows, self.damp)
        width = min(self.block_size or self._whole, self._whole)
        mine = min(width, max(1, self.d))
        if self._apart:
            return (Dual if self._capacity <= width else Primal)(k, self._rows, mine, self.damp, gram)
        if self._capacity <= width:
            return Dual(k, self._rows, mine, self.damp, gram, self._ranks, self._whole)
        return Gathered(k, self._rows, width, self.damp, self._ranks, gram)

    def _gradient(self, g):
        if self._rows is not None and not isinstance(self._rows, InMemory):
            raise ValueError("gradients in a file are left as they are: for those that change, EmpiricalFisher.window")
        g = validate.numeric("g", validate.own_kind("g", g)[0])
        if tuple(g.shape) != (self.d,):
            raise ValueError(f"g must have the shape ({self.d},), not {tuple(g.shape)}")
        if g.dtype.kind == "c":
            raise TypeError("g is complex, the gradients are real")
        kept = self._dtype if self._rows is None else self._rows.array.dtype
        with np.errstate(over="ignore"):
            return validate.numeric(f"g as {kept}", g.astype(kept)).astype(kept)


def _unpickled(gradients, options, window):
    if window is None:
        return EmpiricalFisher(gradients, **options)
    return EmpiricalFisher.window(start=gradients, **window, **options)
