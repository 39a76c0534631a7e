"""The Newton system H d = -g of a proximal point step, H = shift I + tau (A_F A_F' + D), by a Cholesky or LU factor.

Few rows: dense, by LAPACK. More: SuperLU in its symmetric mode, rows in an order that is found once for the pattern of
A A', which holds those of all A_F A_F'; but dense again where that pattern is nearly full. A problem whose factor might
take minutes, or longer than there is time, has no system: what bounds the work is the envelope of A A' in reverse
Cuthill-McKee order.
"""

import math

import numpy as np

FEW_ROWS = 600
MOST_DENSE = 4000  # rows of a dense factor: 128 MB
NEARLY_FULL = 0.25
MOST_PRODUCTS = 2e7  # that A A' sums up
MOST_WORK = 2e10  # of a factor, in multiplications, as bounded by the envelope
SECONDS_A_PRODUCT = 3e-10  # of a factor, guessed: such an envelope is not filled
SECONDS_A_TERM = 1e-8  # of A A'
LIFT = 1e-8  # relative, of a diagonal that rounding has made indefinite


def newton_system(k, scaled, seconds=math.inf):
    """The system of a scaled problem, or None where a factor would take too long; `seconds` is all the time left."""
    m = scaled.row_lower.size
    if m <= FEW_ROWS:
        return Dense(k, scaled)
    terms = float((np.diff(scaled.tindptr).astype(float) ** 2).sum())
    if (terms > MOST_PRODUCTS and m > MOST_DENSE) or SECONDS_A_TERM * terms > seconds:
        return None
    system = Sparse(scaled)
    return system if system.affordable(seconds) else None


class Dense:
    """H as an array."""

    def __init__(self, k, scaled):
        m = scaled.row_lower.size
        self.k = k
        self._parts = (scaled.indptr, scaled.indices, scaled.data, scaled.tindptr, scaled.tindices, scaled.tdata)
        self._H, self._L, self._info = np.empty((1, m, m)), np.empty((1, m, m)), np.zeros(1, np.int32)

    def solve(self, free, slack, tau, shift, g):
        """d, of which only a matrix with NaN in it makes NaN."""
        k, H = self.k, self._H[0]
        k.proximal_hessian(*self._parts, free, slack, tau, shift, H)
        k.cholesky(self._H, 0.0, self._L, self._info)
        if self._info[0]:
            H.reshape(-1)[:: len(H) + 1] *= 1 + LIFT
            k.cholesky(self._H, LIFT * tau, self._L, self._info)
        d = -g.reshape(1, 1, -1)
        k.cholesky_solve(self._L, d)
        return d.reshape(-1)


class Sparse:
    """H as a sparse matrix with its rows in a good order."""

    def __init__(self, scaled):
        from scipy.sparse import csr_array, eye_array

        m, n = scaled.row_lower.size, scaled.c.size
        A = csr_array((scaled.data, scaled.indices, scaled.indptr), shape=(m, n))
        pattern = csr_array((np.ones(scaled.data.size), scaled.indices, scaled.indptr), shape=(m, n))
        pattern = (pattern @ pattern.T + eye_array(m)).tocsc()
        self.m, self._full = m, pattern.nnz > NEARLY_FULL * m * m
        self._pattern, self._A = pattern, A
        self._order = None

    def affordable(self, seconds=math.inf):
        """Whether a factor takes seconds at most, and no more than these."""
        if self.m <= MOST_DENSE and math.isinf(seconds):
            return True
        work = self.m**3 / 3 if self._full else _envelope(self._pattern)
        if SECONDS_A_PRODUCT * work > seconds:
            return False
        return self.m <= MOST_DENSE or (not self._full and work <= MOST_WORK)

    def _prepare(self):
        order = np.arange(self.m) if self._full else _good_order(self._pattern)
        self._order, self._A, self._pattern = order, self._A[order].tocsc(), None

    def solve(self, free, slack, tau, shift, g):
        """d"""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve
        from scipy.sparse import dia_array

        if self._order is None:
            self._prepare()
        m, order, d = self.m, self._order, np.empty(self.m)
        F = self._A[:, np.flatnonzero(free)]
        H = (F @ F.T) * tau + dia_array(((shift + tau * slack[order])[None], [0]), shape=(m, m))
        if m <= MOST_DENSE and H.nnz > NEARLY_FULL * m * m:
            dense = np.asfortranarray(H.toarray())
            try:
                factor = cho_factor(dense, lower=True, overwrite_a=True, check_finite=False)
                d[order] = -cho_solve(factor, g[order], check_finite=False)
                return d
            except LinAlgError:  # by rounding: LU does not mind
                pass
        d[order] = -_symmetric_lu(H.tocsc(), "NATURAL").solve(g[order])
        return d


def _symmetric_lu(matrix, ordering):
    from scipy.sparse.linalg import splu

    return splu(matrix, permc_spec=ordering, diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def _good_order(pattern):
    """Of minimum degree, which SuperLU tells only when it factorises something: a diagonally dominant matrix."""
    from scipy.sparse import dia_array

    m = pattern.shape[0]
    dominant = pattern + dia_array((np.asarray(pattern.sum(1)).reshape(1, m), [0]), shape=(m, m))
    return np.argsort(_symmetric_lu(dominant.tocsc(), "MMD_AT_PLUS_A").perm_c)


def _envelope(pattern):
    """Multiplications of an envelope factorisation in reverse Cuthill-McKee order."""
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    place = np.empty(pattern.shape[0], dtype=np.int64)
    order = reverse_cuthill_mckee(pattern.tocsr(), symmetric_mode=True)
    place[order] = np.arange(order.size)
    rows = np.repeat(np.arange(order.size), np.diff(pattern.indptr))
    reach = np.maximum(place[rows] - place[pattern.indices], 0)
    width = np.zeros(order.size)
    np.maximum.at(width, rows, reach)
    return float((width**2).sum())
