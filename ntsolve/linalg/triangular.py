"""Incomplete Cholesky and symmetric successive over-relaxation, as preconditioners of a sparse matrix.

Both are z = B^-1 r with B = (D + S) D^-1 (D + S'), positive definite by construction, see
kernels/contracts/triangular.py: IC(0) of Meijerink and van der Vorst, Math. Comp. 31 (1977), and SSOR, section 4.1.2
of Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., with a relaxation omega,

    B = (1 / (2 - omega)) (D/omega + N) (D/omega)^-1 (D/omega + N'),    A = N + D + N'.

IC(0) exists for M-matrices; elsewhere d_i <= 0 may turn up. Then A + shift diag(A) is factorised instead, as by
Manteuffel, Math. Comp. 34 (1980), with a shift that doubles from 0.001 on until there is a factor. The lower triangle
of A is what is read, and what a factor is of.
"""

from typing import Any

import numpy as np

from .. import matrices, operators, validate
from ..dispatch import kernels_for
from ..kernels.contracts.triangular import levels_in_order
from .linear_operator import WithKernels, linear_operator

FIRST_SHIFT = 1e-3


class TwoSweeps(WithKernels, operators.Operator):
    """z = scale B^-1 r on the backend of A: S is what `data` has below the diagonal, in the pattern of A."""

    fixed = True

    def __init__(self, k, pattern, data, D, scale):
        super().__init__(k, pattern.place.size, data.dtype)
        self.pattern, self.data, self.scale = pattern, data, scale
        self.dinv = k.xp.ascontiguousarray(1 / D)

    def matvec(self, x, y):
        p = self.pattern
        self.k.two_sweeps(p.indptr, p.indices, p.place, self.data, self.dinv, self.scale, p.order, p.level_ptr, x, y)


class Pattern:
    """The lower triangle of a CSR matrix and its mirror image, sorted, each diagonal entry there; and its levels."""

    def __init__(self, k, parts):
        import scipy.sparse as sp

        indptr, indices, data = (k.to_host(part) for part in parts)
        n = indptr.size - 1
        A = sp.csr_array((data[: indptr[-1]], indices[: indptr[-1]], indptr), shape=(n, n))
        if not A.has_canonical_format:
            A = A.copy()
            A.sum_duplicates()
        diagonal = A.diagonal()
        bad = np.flatnonzero(~(diagonal > 0))
        self.broken = int(bad[0]) if bad.size else None
        below = sp.tril(A, -1, format="csr")
        full = below + below.T + sp.diags_array(diagonal, format="csr", dtype=A.dtype)
        full.sort_indices()
        rows = np.repeat(np.arange(n), np.diff(full.indptr))
        place = np.flatnonzero(full.indices == rows).astype(full.indptr.dtype)
        xp = k.xp
        self.indptr, self.indices, self.data = xp.asarray(full.indptr), xp.asarray(full.indices), xp.asarray(full.data)
        self.place, self.diagonal = xp.asarray(place), xp.asarray(diagonal)
        if self.broken is None:
            level = xp.zeros(n, dtype="int32")
            k.row_levels(self.indptr, self.indices, self.place, level)
            self.order, self.level_ptr = (xp.asarray(part) for part in levels_in_order(k.to_host(level)))


def incomplete_cholesky(k, pattern):
    """(the preconditioner, its shift); None where no shift below a thousand helps."""
    factor, broke = k.xp.empty_like(pattern.data), k.xp.zeros(1, dtype="int64")
    shift = 0.0
    while shift < 1e3:
        k.ic0_factor(pattern.indptr, pattern.indices, pattern.place, pattern.data, shift, factor, broke)
        if int(k.to_host(broke)[0]) < 0:
            return TwoSweeps(k, pattern, factor, factor[pattern.place], 1.0), shift
        shift = max(FIRST_SHIFT, 2 * shift)
    return None, shift


def of_system(k, A, name):
    """The `Pattern` of the matrix of a system, for M="ic0"."""
    if not isinstance(A, operators.Sparse):
        raise ValueError(f'M="{name}" needs the entries of A: pass A as a real sparse matrix (scipy.sparse, cupyx), '
                         'or take M="jacobi" or None')  # fmt: skip
    return Pattern(k, A.parts)


class _Factors:
    """What `ic0` and `ssor` return: a fixed, symmetric positive definite approximation of the inverse of A.

    Passed as `M=` to `ntsolve.cg`; or applied by `matvec`, `@` and `as_linear_operator()`.
    """

    _sweeps: TwoSweeps

    def __init__(self, pattern, where):
        self._pattern, self._where = pattern, where

    @property
    def shape(self):
        """(n, n)"""
        return (self._pattern.place.size,) * 2

    @property
    def dtype(self):
        """Of the numbers in it."""
        return self._sweeps.dtype

    def for_system(self, k, system):
        """The operator for a solve with `system`; a TypeError or ValueError where it does not fit."""
        if self._where != k.NAME:
            raise TypeError(f"arrays on different devices: M on {self._where}, b on {k.NAME}")
        return system.A.on_unknowns(lambda inner: self._sweeps_for(k, inner), system)

    def _sweeps_for(self, k, system):
        if system.complex or self.shape[0] != system.A.n:
            order = "complex" if system.complex else f"of order {system.A.n}"
            raise ValueError(f"M is real and of order {self.shape[0]}, A is {order}")
        return self._sweeps_in(k, system.b.dtype)

    def _sweeps_in(self, k, dtype):
        sweeps = self._sweeps
        if sweeps.dtype == dtype:
            return sweeps
        data = sweeps.data.astype(dtype)
        return TwoSweeps(k, self._pattern, data, 1 / sweeps.dinv.astype(dtype), sweeps.scale)

    def matvec(self, r) -> Any:
        """M r.

        Parameters
        ----------
        r : array (..., n)

        Returns
        -------
        array (..., n)
            Of the larger dtype of M and r.
        """
        r, own = validate.own_kind("r", r)
        with kernels_for(r=r) as k:
            if self._where != k.NAME:
                raise TypeError(f"arrays on different devices: M on {self._where}, r on {k.NAME}")
            r = validate.numeric("r", r, check=False)
            if r.dtype.kind == "c":
                raise TypeError("r is complex, M is real")
            if r.ndim == 0 or r.shape[-1] != self.shape[0]:
                raise ValueError(f"r has shape {tuple(r.shape)}, M has order {self.shape[0]}")
            dtype = np.result_type(r.dtype, self.dtype)
            rows = k.xp.ascontiguousarray(r.astype(dtype, copy=False)).reshape(-1, self.shape[0])
            z = k.xp.empty_like(rows)
            self._sweeps_in(k, dtype).matvec(rows, z)
            return own(z.reshape(r.shape))

    __matmul__ = matvec

    def as_linear_operator(self) -> Any:
        """As a scipy.sparse.linalg.LinearOperator (of cupyx for CuPy), for other libraries' solvers."""
        return linear_operator(self, self._where)


class IncompleteCholesky(_Factors):
    """What `ic0` returns.

    Attributes
    ----------
    shift : float
        The matrix that was factorised is A + shift diag(A); 0.0 unless IC(0) of A itself breaks down.
    """

    def __init__(self, pattern, where, sweeps, shift):
        super().__init__(pattern, where)
        self._sweeps, self.shift = sweeps, shift

    def __repr__(self):
        return f"IncompleteCholesky(order={self.shape[0]}, dtype={self.dtype}, shift={self.shift:g})"


class SSOR(_Factors):
    """What `ssor` returns.

    Attributes
    ----------
    omega : float
    """

    def __init__(self, pattern, where, k, omega):
        super().__init__(pattern, where)
        self.omega = omega
        D = pattern.diagonal / pattern.diagonal.dtype.type(omega)
        self._sweeps = TwoSweeps(k, pattern, pattern.data, D, 2 - omega)

    def with_omega(self, omega) -> "SSOR":
        """The same matrix with another relaxation; shares all but n numbers with this one."""
        omega = _relaxation(omega)
        with kernels_for(A=self._pattern.data) as k:
            return SSOR(self._pattern, self._where, k, omega)

    def __repr__(self):
        return f"SSOR(order={self.shape[0]}, dtype={self.dtype}, omega={self.omega:g})"


def _relaxation(omega):
    omega = validate.positive("omega", omega)
    if omega >= 2:
        raise ValueError(f"omega must be less than 2, not {omega}")
    return omega


def _pattern_of(k, A):
    if not (hasattr(A, "shape") and len(A.shape) == 2 and A.shape[0] == A.shape[1]):
        raise ValueError(f"A must be a square sparse matrix, not of shape {tuple(getattr(A, 'shape', ()))}")
    system = operators.linear_system(k, A, k.xp.zeros(A.shape[0], dtype="float32"))
    if system.complex or not isinstance(system.A, operators.Sparse):
        raise TypeError("A must be a real sparse matrix (scipy.sparse, cupyx.scipy.sparse)")
    pattern = Pattern(k, system.A.parts)
    if pattern.broken is not None:
        raise ValueError(f"A is not positive definite: its diagonal entry {pattern.broken} is not positive")
    return pattern


def ic0(A) -> IncompleteCholesky:
    """Incomplete Cholesky factorisation without fill-in, as a preconditioner.

    Parameters
    ----------
    A : sparse matrix (n, n)
        Real, symmetric positive definite; its lower triangle is what is read.

    Returns
    -------
    IncompleteCholesky
        For `M=` of `ntsolve.cg`, for as many solves as you like; `shift` says what was added to the diagonal, if
        anything. ``ntsolve.cg(A, b, M="ic0")`` makes one for a single solve.

    Raises
    ------
    TypeError, ValueError
        Where A is not a real sparse matrix, or has a diagonal entry that is not positive.

    Notes
    -----
    Meijerink and van der Vorst, Math. Comp. 31 (1977); the shift is that of Manteuffel, Math. Comp. 34 (1980): 0.001,
    doubled until the factorisation exists. Takes the memory of A once more, twice where A is not in sorted CSR.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> import ntsolve
    >>> T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(30, 30))
    >>> A = (sp.kron(T, sp.eye_array(30)) + sp.kron(sp.eye_array(30), T)).tocsr()
    >>> M = ntsolve.ic0(A)
    >>> ntsolve.cg(A, np.ones(900), M=M).nit < 0.5 * ntsolve.cg(A, np.ones(900)).nit
    True
    """
    A = matrices.take("A", A)
    with kernels_for(A=A) as k:
        pattern = _pattern_of(k, A)
        sweeps, shift = incomplete_cholesky(k, pattern)
        if sweeps is None:
            raise ValueError("A is not positive definite: no shift of its diagonal gives a factor")
        return IncompleteCholesky(pattern, k.NAME, sweeps, shift)


def ssor(A, omega) -> SSOR:
    """Symmetric successive over-relaxation, as a preconditioner.

    Parameters
    ----------
    A : sparse matrix (n, n)
        Real, symmetric, with a positive diagonal; its lower triangle is what is read.
    omega : float
        The relaxation, between 0 and 2. `ntsolve.RelaxationTuner` learns a good one from solve to solve.

    Returns
    -------
    SSOR
        For `M=` of `ntsolve.cg`. `with_omega` gives the same with another relaxation for next to nothing.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> import ntsolve
    >>> A = sp.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(100, 100))
    >>> M = ntsolve.ssor(A, 1.5)
    >>> ntsolve.cg(A, np.ones(100), M=M).nit < ntsolve.cg(A, np.ones(100), M="jacobi").nit
    True
    >>> M.with_omega(1.2)
    SSOR(order=100, dtype=float64, omega=1.2)
    """
    omega, A = _relaxation(omega), matrices.take("A", A)
    with kernels_for(A=A) as k:
        return SSOR(_pattern_of(k, A), k.NAME, k, omega)
