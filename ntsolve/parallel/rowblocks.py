"""A matrix of which each rank has some consecutive rows, and systems of linear equations with it.

Rank r has rows offsets[r] .. offsets[r + 1] of A, with columns numbered through all of A, and the same part of every
vector. Of the entries of a vector that other ranks have, its rows need a few, the halo. Which these are is worked out
once. With O the columns of the rank's own entries and H those of the halo,

    (A x)_r = O x_r + H x_halo                                                                           (1)

and O x_r is computed while the halo is on its way. H has only the rows that need a halo. In a residual b - A x these
rows are computed as a whole, so that each entry is rounded once, as in one process.
"""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from .. import matrices, operators, validate
from ..dispatch import home, kernels_for
from ..kernels.contracts import workspace_shape
from .comm import join


class RowPartition:
    """A square matrix whose consecutive rows are on the ranks of a communicator: the A of a distributed solve.

    `ntsolve.cg` makes one where it is given rows and `comm`. Made ahead, it saves further solves with the same matrix
    the work of finding out who needs what of whom.

    Parameters
    ----------
    A : sparse matrix or array (n_local, n)
        This rank's rows, which follow those of the ranks before it; all columns. There may be none: (0, n).
    comm : communicator
        With the methods of mpi4py's `Get_rank, Get_size, Allreduce, Allgatherv`; None for this process alone. Making a
        RowPartition is collective.
    check : bool
        Look for NaN and infinity.

    Attributes
    ----------
    shape : tuple
        (n_local, n)
    dtype : dtype
        Of the numbers in it.
    offsets : int array (size + 1,)
        Rank r has rows offsets[r] up to offsets[r + 1].
    halo : int array
        The entries of a vector that this rank needs of others, numbered through.
    comm : communicator

    Raises
    ------
    TypeError, ValueError
        Where A does not fit; a RankError on the other ranks.

    Examples
    --------
    With one process; of more, each passes its rows, ``mpi4py.MPI.COMM_WORLD``, and its part of b:

    >>> import numpy as np, scipy.sparse as sp, ntsolve
    >>> rows = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50), format="csr")
    >>> A = ntsolve.RowPartition(rows, comm=None)
    >>> A
    RowPartition(rows 0 to 50 of 50, halo of 0)
    >>> ntsolve.cg(A, np.ones(50), rtol=1e-8).status.name
    'CONVERGED'
    """

    def __init__(self, A, comm, *, check=True) -> None:
        self.comm, ranks = comm, join(comm)
        if not hasattr(ranks, "exchange"):
            raise TypeError("comm must be a communicator, as mpi4py has them, where A is a matrix")
        with ranks.together():
            A = matrices.take("A", A)
            sparse = matrices.is_sparse(A)
            if not (sparse or home(A) is not None) or len(A.shape) != 2:
                raise TypeError("A must be a sparse matrix or an array, of rows (n_local, n)")
            with kernels_for(A=A) as k:
                A = matrices.in_csr("A", A, check) if sparse else validate.numeric("A", A, check=check)
                self.shape, self.dtype, self.backend = tuple(map(int, A.shape)), np.dtype(A.dtype), k.NAME
                ranks.alike(**{"the dtype of A": str(self.dtype), "the kind of A": str(sparse)})
                self.offsets = np.append(0, np.cumsum(ranks.gather(np.array([self.shape[0]], dtype=np.int64))))
                if self.offsets[-1] != self.shape[1]:
                    raise ValueError(f"A has {self.shape[1]} columns, and the rows of all ranks add up to "
                                     f"{self.offsets[-1]}")  # fmt: skip
                first, end = self._bounds = tuple(map(int, self.offsets[ranks.rank : ranks.rank + 2]))
                self._A, self._rows, self.halo = A, None, np.zeros(0, dtype=np.int64)
                if ranks.size == 1:
                    return
                make = _Whole if not sparse else _Complex if self.dtype.kind == "c" else _Split
                self._A, self._rows = None, make(k, A, first, end)
                self.halo = self._rows.needed
                self._plan = _Plan(k, ranks, self.offsets, self.halo)

    def __repr__(self):
        first, end = self._bounds
        return f"RowPartition(rows {first} to {end} of {self.shape[1]}, halo of {self.halo.size})"

    def among(self, comm):
        """Who takes part in a solve with it for which `comm` was given."""
        if not (comm is None or comm is self.comm or comm == self.comm):
            raise ValueError("comm is not the communicator that the RowPartition was made for")
        return join(self.comm)

    def linear_system(self, k, b, x0, *, names, **options):
        """The rank's part of A x = b, for `operators.linear_system`."""
        name, given = names
        if self.backend != k.NAME:
            raise TypeError(f"arrays on different devices: {name} on {self.backend}, {given} on {k.NAME}")
        n = self.shape[0]
        if self._rows is None:
            return operators.linear_system(k, self._A, b, x0, names=names, **options)
        if b.ndim and b.shape[-1] != n:
            raise ValueError(f"{given} has {b.shape[-1]} entries along its last axis, and this rank has {n} rows of "
                             f"{name}")  # fmt: skip
        square = SimpleNamespace(shape=(n, n), dtype=self.dtype, matvec=None)
        system = operators.linear_system(k, square, b, x0, names=names, **options)
        halo = _Halo(self._plan, join(self.comm), k.xp)
        if system.complex and self.dtype.kind != "c":
            A = _OnParts(self._rows.operator(k, np.zeros(0, system.dtype).real.dtype, halo), system.dtype)
        else:
            A = self._rows.operator(k, system.dtype, halo)
        return replace(system, A=operators.RealView(A) if system.complex else A)


def ranks_of(A, comm):
    """What a solve with A reduces with: that of `comm`, or of the one that A was made for."""
    return A.among(comm) if hasattr(type(A), "among") else join(comm)


def linear_system(k, A, b, x0, comm, *, own, check, names=("A", "b")):
    """What this rank has of A x = b: A a RowPartition, rows, or whatever maps the local part of x to that of A x."""
    if comm.size > 1 and (matrices.is_sparse(A) or home(A) is not None):
        A = RowPartition(A, comm, check=check)
    return operators.linear_system(k, A, b, x0, own=own, check=check, names=names)


# ---- the halo -------------------------------------------------------------------------------------------------------


class _Plan:
    """Who needs which entries of whom: `send` {rank: local numbers} and `receive` {rank: its slice of the halo}."""

    def __init__(self, k, ranks, offsets, needed):
        starts = np.searchsorted(needed, offsets)
        self.size = needed.size
        self.receive = {rank: slice(int(low), int(high))
                        for rank, (low, high) in enumerate(pairwise(starts))
                        if high > low}  # fmt: skip
        counts = ranks.gather(np.diff(starts)[None])[:, ranks.rank]  # how many each rank needs of this one
        asked = {rank: np.empty(count, dtype=np.int64) for rank, count in enumerate(counts) if count}
        wanted = {rank: needed[part] - offsets[rank] for rank, part in self.receive.items()}
        ranks.exchange(wanted, asked)()
        self.send = {rank: k.xp.asarray(numbers) for rank, numbers in asked.items()}


class _Halo:
    """The exchange, for the ranks and arrays of one solve."""

    def __init__(self, plan, ranks, xp):
        self.plan, self.ranks, self.xp = plan, ranks, xp

    def fetch(self, x):
        """Begin it for the local vectors (batch, n_local); returns a function that waits for the halo (batch, h)."""
        xp, plan, batch = self.xp, self.plan, len(x)
        halo = xp.empty((batch, plan.size), x.dtype)
        direct = batch == 1  # its parts are contiguous
        taken = {rank: halo[:, part] if direct else xp.empty((batch, part.stop - part.start), x.dtype)
                 for rank, part in plan.receive.items()}  # fmt: skip
        wait = self.ranks.exchange({rank: xp.take(x, numbers, axis=1) for rank, numbers in plan.send.items()}, taken)

        def finish():
            wait()
            if not direct:
                for rank, part in plan.receive.items():
                    halo[:, part] = taken[rank]
            return halo

        return finish


# ---- the rows -------------------------------------------------------------------------------------------------------


def _parts(rows, columns, data, count, index):
    """CSR of entries that are in the order of rows."""
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=count)))
    return indptr.astype(index), columns.astype(index), data


class _Entries:
    """The entries of CSR rows, on the host: which are of the rank's own columns, and their numbers in [halo|own|halo].

    The columns that a row needs keep their order: first the halo from ranks before, then the rank's own, then the rest.
    """

    def __init__(self, k, A, first, end):
        indptr, self.columns, self.data = (k.to_host(part) for part in (A.indptr, A.indices, A.data))
        count = int(indptr[-1])
        self.columns, self.data, self.n = self.columns[:count], self.data[:count], end - first
        self.rows = np.repeat(np.arange(self.n), np.diff(indptr))
        self.mine = (self.columns >= first) & (self.columns < end)
        foreign = self.columns[~self.mine]
        self.needed, place = np.unique(foreign, return_inverse=True)
        self.needed = self.needed.astype(np.int64)
        self.before = int(np.searchsorted(self.needed, first))
        self.places = place  # in the halo, of the entries that are not mine
        self.local = np.subtract(self.columns, first, dtype=np.int64)
        self.extended = self.local + self.before
        self.extended[~self.mine] = place + self.n * (foreign >= end)
        self.index = np.int32 if max(count, self.n + self.needed.size) < 2**31 else np.int64
        own = self.mine & (self.local == self.rows)
        self.diagonal = np.zeros(self.n, self.data.dtype)
        np.add.at(self.diagonal, self.rows[own], self.data[own])


class _Split:
    """Real sparse rows, as (1) has them."""

    def __init__(self, k, A, first, end):
        e = _Entries(k, A, first, end)
        self.needed, self.before = e.needed, e.before
        edge = np.unique(e.rows[~e.mine])
        at_edge = np.isin(e.rows, edge)
        number = np.searchsorted(edge, e.rows)
        own = _parts(e.rows[e.mine], e.local[e.mine], e.data[e.mine], e.n, e.index)
        tail = _parts(number[~e.mine], e.places, e.data[~e.mine], edge.size, e.index)
        whole = _parts(number[at_edge], e.extended[at_edge], e.data[at_edge], edge.size, e.index)
        self.own, self.tail, self.whole = (tuple(k.xp.asarray(part) for part in parts) for parts in (own, tail, whole))
        self.edge, self.diagonal = k.xp.asarray(edge), k.xp.asarray(e.diagonal)

    def operator(self, k, dtype, halo):
        def sparse(parts):
            indptr, indices, data = parts
            return operators.Sparse(k, indptr, indices, data.astype(dtype, copy=False), lambda: self.diagonal)

        return SplitRows(sparse(self.own), sparse(self.tail), sparse(self.whole), self.edge, self.before, halo)


class _Complex:
    """Complex sparse rows, in [halo|own|halo]."""

    def __init__(self, k, A, first, end):
        e = _Entries(k, A, first, end)
        self.needed, self.before, self.diagonal = e.needed, e.before, k.xp.asarray(e.diagonal)
        parts = [k.xp.asarray(part) for part in _parts(e.rows, e.extended, e.data, e.n, e.index)]
        self.A = type(A)((parts[2], parts[1], parts[0]), shape=(e.n, e.n + e.needed.size))

    def operator(self, k, dtype, halo):
        A = self.A.astype(dtype)

        def product(x, y):
            y[...] = (A @ x.T).T

        whole = SimpleNamespace(k=k, n=A.shape[0], dtype=dtype, matvec=product, residual=None)
        return WholeRows(whole, self.before, halo, self.diagonal)


class _Whole:
    """Dense rows, which need all of a vector."""

    def __init__(self, k, A, first, end):
        self.A, self.before = A, first
        self.needed = np.append(np.arange(first), np.arange(end, A.shape[1]))
        n = end - first
        self.diagonal = k.xp.ascontiguousarray(A[:, first:end]).reshape(n * n)[:: n + 1]

    def operator(self, k, dtype, halo):
        kind = operators.Stack if dtype.kind == "c" else operators.Dense
        whole = kind(k, k.xp.ascontiguousarray(self.A.astype(dtype, copy=False))[None])
        return WholeRows(whole, self.before, halo, self.diagonal)


def _extended(xp, before, x, halo):
    return xp.concatenate([halo[:, :before], x, halo[:, before:]], axis=1)


class SplitRows(operators.Operator):
    """(1), from the rank's own columns, the tail of H, and the rows at the edge as a whole."""

    capturable = False

    def __init__(self, own, tail, whole, edge, before, halo):
        super().__init__(own.k, own.n, own.dtype)
        self.own, self.tail, self.whole, self.edge, self.before, self.halo = own, tail, whole, edge, before, halo

    @property
    def block(self):
        return self.own

    def _tail(self, halo):
        t = self.k.xp.empty((len(halo), self.tail.n), self.dtype)
        self.tail.matvec(halo, t)
        return t

    def matvec(self, x, y):
        wait = self.halo.fetch(x)
        self.own.matvec(x, y)
        halo = wait()
        if self.edge.size:
            y[:, self.edge] += self._tail(halo)

    def matvec_dot(self, p, q, pq, work):
        wait = self.halo.fetch(p)
        self.own.matvec_dot(p, q, pq, work)
        halo = wait()
        if self.edge.size:
            t, more = self._tail(halo), self.k.xp.empty_like(pq)
            q[:, self.edge] += t
            self.k.dot(self.k.xp.take(p, self.edge, axis=1), t, more, self.k.xp.empty(workspace_shape(*t.shape)))
            pq += more

    def residual(self, b, x, r):
        wait = self.halo.fetch(x)
        self.own.residual(b, x, r)
        halo, xp = wait(), self.k.xp
        if self.edge.size:
            rows = xp.empty((len(x), self.edge.size), self.dtype)
            self.whole.residual(xp.take(b, self.edge, axis=1), _extended(xp, self.before, x, halo), rows)
            r[:, self.edge] = rows

    def diagonal(self):
        return self.own.diagonal()


class WholeRows(operators.Operator):
    """Rows as one piece, times [halo|own|halo]: dense or complex ones."""

    capturable = False

    def __init__(self, whole, before, halo, diagonal):
        super().__init__(whole.k, diagonal.size, whole.dtype)
        self.whole, self.before, self.halo, self._diagonal = whole, before, halo, diagonal

    def _all(self, x):
        return _extended(self.k.xp, self.before, x, self.halo.fetch(x)())

    def matvec(self, x, y):
        self.whole.matvec(self._all(x), y)

    def residual(self, b, x, r):
        if self.whole.residual is None:
            super().residual(b, x, r)
        else:
            self.whole.residual(b, self._all(x), r)

    def diagonal(self):
        return self._diagonal.astype(self.dtype)[None]


class _OnParts(operators.Operator):
    """A real matrix on complex vectors."""

    capturable = False

    def __init__(self, real, dtype):
        super().__init__(real.k, real.n, dtype)
        self.real = real

    def matvec(self, x, y):
        xp = self.k.xp
        re, im = (xp.empty(x.shape, self.real.dtype) for _ in range(2))
        self.real.matvec(xp.ascontiguousarray(x.real), re)
        self.real.matvec(xp.ascontiguousarray(x.imag), im)
        y[...] = re + 1j * im

    def diagonal(self):
        return self.real.diagonal().astype(self.dtype)
