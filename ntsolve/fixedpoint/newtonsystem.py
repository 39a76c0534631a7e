"""The systems of Newton steps, H = A diag(w) A' + diag(d): factors by Cholesky or LU, on the host.

A proximal point step has w = tau for columns strictly inside their bounds and 0 for others, an interior point step
positive weights for all.

Few rows, or a pattern of A A' that fills: dense, by LAPACK. Else SuperLU in its symmetric mode, rows in an order that
is found once for that pattern, which holds those of all H; the entries are linear in w, by a matrix that is made once.
A problem whose factor might take minutes, or longer than there is time, has no system: what bounds the work is the
envelope of A A' in reverse Cuthill-McKee order.
"""

import math
import time
from typing import Any

import numpy as np

FEW_ROWS = 200
MOST_DENSE = 4000  # rows of a dense factor: 128 MB
NEARLY_FULL = 0.25
MOST_PRODUCTS = 2e7  # that A A' sums up
MOST_KEPT = 2_000_000  # of these products, kept
MOST_WORK = 2e10  # of a factor, in multiplications, as bounded by the envelope
SECONDS_A_PRODUCT, SECONDS_A_DENSE = 1e-10, 5e-11  # of a factor, guessed: such an envelope is not filled
SECONDS_AN_ENTRY = 5e-8  # of H, besides
SECONDS_TO_BEGIN = 5e-6, 2e-8  # a row, and a term of A A', until what a factor takes is known
SAFE = 3.0  # times that, where there is not much time left
SECONDS_A_TERM, SECONDS_A_DENSE_TERM = 1e-8, 1e-9  # of A A', sparse and dense
LIFTS = 1e-12, 1e-9, 1e-6  # relative, of a diagonal that rounding has made indefinite
LIFT_OF_ALL = 1e-4  # times that, of the largest entry
MANY_ZEROS = 0.7  # entries of H, of its pattern, below which it is worth leaving the others out


def seconds_to_begin(scaled):
    """What it takes to find out what a factor takes, guessed."""
    m = scaled.indptr.size - 1
    if m <= FEW_ROWS:
        return 0.0
    a_row, a_term = SECONDS_TO_BEGIN
    return a_row * m + a_term * _terms(scaled)


def _terms(scaled):
    """Products that A A' sums up."""
    return float((np.diff(scaled.tindptr).astype(float) ** 2).sum())


def newton_system(k, scaled, seconds=math.inf):
    """The system of a scaled problem, or None where a factor would take too long; `seconds` is all the time left."""
    m = scaled.row_lower.size
    if m <= FEW_ROWS:
        return Dense(k, scaled)
    terms = _terms(scaled)
    if (terms > MOST_PRODUCTS and m > MOST_DENSE) or SECONDS_A_TERM * terms > seconds:
        return None
    system = Sparse(scaled, terms)
    if m <= MOST_DENSE and SECONDS_A_DENSE * m**3 / 3 < system.seconds:
        return Dense(k, scaled) if SAFE * SECONDS_A_DENSE * m**3 / 3 <= seconds else None
    return system if system.affordable(seconds) else None


class _System:
    """What both have in common.

    Attributes
    ----------
    seconds : float
        What a factor takes: guessed, until there has been one.
    """

    seconds: float

    def factor(self, w, d):
        """Of A diag(w) A' + diag(d), for `back`."""
        began = time.perf_counter()
        self._factor(w, d)
        self.seconds = time.perf_counter() - began

    def solve(self, free, slack, tau, shift, g):
        """-g by H = shift I + tau (A_F A_F' + D), of which only a matrix with NaN in it makes NaN."""
        self.factor(tau * free, shift + tau * slack)
        return -self.back(g)

    def _factor(self, w, d):
        raise NotImplementedError

    def back(self, g):
        """The solution for a right-hand side g."""
        raise NotImplementedError


class Dense(_System):
    """H as an array."""

    def __init__(self, k, scaled):
        m, n = scaled.row_lower.size, scaled.c.size
        self.k = k
        self._A = scaled.indptr, scaled.indices, scaled.data, scaled.tindptr, scaled.tindices
        self._tdata = scaled.tdata
        self._column = np.repeat(np.arange(n), np.diff(scaled.tindptr))
        self._none = np.zeros(m, np.int8)
        self._H, self._L, self._info = np.empty((1, m, m)), np.empty((1, m, m)), np.zeros(1, np.int32)
        self.seconds = SECONDS_A_DENSE * m**3 / 3 + SECONDS_A_DENSE_TERM * _terms(scaled)

    def _factor(self, w, d):
        k, H, diagonal = self.k, self._H[0], self._H.reshape(-1)[:: len(d) + 1]
        k.proximal_hessian(*self._A, self._tdata * w[self._column], (w > 0).astype(np.int8), self._none, 1.0, 0.0, H)
        diagonal += d
        k.cholesky(self._H, 0.0, self._L, self._info)
        for lift in LIFTS:
            if not self._info[0]:
                break
            diagonal *= 1 + lift
            k.cholesky(self._H, LIFT_OF_ALL * lift * diagonal.max(initial=0.0), self._L, self._info)

    def back(self, g):
        d = g.reshape(1, 1, -1).copy()
        self.k.cholesky_solve(self._L, d)
        return d.reshape(-1)


class Sparse(_System):
    """H as a sparse matrix with its rows in a good order."""

    def __init__(self, scaled, terms):
        from scipy.sparse import csr_array, eye_array

        m, n = scaled.row_lower.size, scaled.c.size
        A = csr_array((scaled.data, scaled.indices, scaled.indptr), shape=(m, n))
        pattern = csr_array((np.ones(scaled.data.size), scaled.indices, scaled.indptr), shape=(m, n))
        pattern = (pattern @ pattern.T + eye_array(m)).tocsc()
        self.m, self._full = m, pattern.nnz > NEARLY_FULL * m * m
        self._pattern, self._A, self._terms = pattern, A, terms
        self._order: Any = None
        self._by_weights: Any = None
        self._work = m**3 / 3 if self._full else _envelope(pattern)
        self.seconds = SECONDS_A_PRODUCT * self._work + SECONDS_AN_ENTRY * pattern.nnz
        if terms > MOST_KEPT:
            self.seconds += SECONDS_A_TERM * terms

    def affordable(self, seconds=math.inf):
        """Whether a factor takes seconds at most, and no more than these."""
        if self.m <= MOST_DENSE and math.isinf(seconds):
            return True
        if SAFE * SECONDS_A_PRODUCT * self._work > seconds:
            return False
        return self.m <= MOST_DENSE or (not self._full and self._work <= MOST_WORK)

    def _prepare(self):
        self._order = np.arange(self.m) if self._full else _good_order(self._pattern)
        self._A = self._A[self._order].tocsc()
        pattern, self._pattern = self._pattern, None
        if self._terms > MOST_KEPT:
            return
        pattern = pattern[self._order][:, self._order].tocsc()
        pattern.sort_indices()
        columns = np.repeat(np.arange(self.m), np.diff(pattern.indptr))
        self._diagonal = np.flatnonzero(pattern.indices == columns)
        self._indices, self._indptr = pattern.indices, pattern.indptr
        self._by_weights = _products(self._A, columns.astype(np.int64) * self.m + pattern.indices)

    def _weighted(self, w, d):
        """H in CSC."""
        from scipy.sparse import csc_array, dia_array

        m = self.m
        if self._by_weights is None:
            some = np.flatnonzero(w)
            F = self._A[:, some]
            return ((F * w[some]) @ F.T + dia_array((d[None], [0]), shape=(m, m))).tocsc()
        data = self._by_weights @ w
        data[self._diagonal] += d
        kept = data != 0
        if np.count_nonzero(kept) >= MANY_ZEROS * data.size:
            return csc_array((data, self._indices, self._indptr), shape=(m, m))
        before = np.concatenate([[0], np.cumsum(kept)])[self._indptr]
        return csc_array((data[kept], self._indices[kept], before.astype(self._indptr.dtype)), shape=(m, m))

    def _factor(self, w, d):
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        if self._order is None:
            self._prepare()
        m, H = self.m, self._weighted(w, d[self._order])
        if m <= MOST_DENSE and H.nnz > NEARLY_FULL * m * m:
            try:
                factor = cho_factor(H.toarray(order="F"), lower=True, overwrite_a=True, check_finite=False)
                self._back = lambda g: cho_solve(factor, g, check_finite=False)
                return
            except LinAlgError:  # by rounding: LU does not mind
                pass
        self._back = _symmetric_lu(H, "NATURAL").solve

    def back(self, g):
        d = np.empty(self.m)
        d[self._order] = self._back(g[self._order])
        return d


def _products(A, places):
    """The matrix that takes w to the entries of A diag(w) A' at `places`, sorted, of column * m + row; A in CSC."""
    from scipy.sparse import csr_array

    m, n = A.shape
    lengths = np.diff(A.indptr).astype(np.int64)
    column = np.repeat(np.arange(n), lengths)
    each = lengths[column]  # entries in the column of an entry
    first = np.repeat(np.arange(A.nnz), each)
    starts = np.cumsum(each) - each
    second = np.arange(first.size) - np.repeat(starts - A.indptr[column], each)
    at = np.searchsorted(places, A.indices[first].astype(np.int64) * m + A.indices[second])
    return csr_array((A.data[first] * A.data[second], (at, column[first])), shape=(places.size, n))


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
    first = np.minimum.reduceat(place[pattern.indices], pattern.indptr[:-1])  # its diagonal is in each column
    return float(((place - first).astype(float) ** 2).sum())
