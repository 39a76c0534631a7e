"""What the transport kernels promise beyond their contracts: precision, denormals, and that they fit together."""

import platform

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numba import njit
from numba.core.errors import TypingError

from ntsolve.kernels import cpu as k
from ntsolve.kernels.contracts import gibbs, scaling
from ntsolve.kernels.cpu import lanes
from ntsolve.kernels.settings import THREADS

DENORMAL = 5e-324


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def kernel(C, reg, log_v, a, b, delta=0.0, order=None):
    """(starts, ends, offsets, values), log_sum, col of the stored kernel."""
    n, m = C.shape
    width = gibbs.width_of(m)
    starts = np.arange(n, dtype=np.int64) * (width // 8)
    ends, room = np.empty(n, np.int64), n * (width // 8)
    offsets, values = np.empty(room, np.int32), np.empty((room, 8))
    log_sum, col, work = np.empty(n), np.zeros(width), np.empty(gibbs.workspace_shape(3, width))
    k.gibbs_kernel(C, None, None, 0, order, padded(log_v), 1 / reg, a, 1.0, padded(b), delta, starts, ends, offsets,
                   values, log_sum, col, work)  # fmt: skip
    return (starts, ends, offsets, values), log_sum, col


def padded(x, pad=0.0):
    return np.concatenate([x, np.full(gibbs.width_of(x.size) - x.size, pad)])


def masses(rng, n):
    x = rng.uniform(0.5, 1.5, n)
    return x / x.sum()


@njit
def _exp(x, y):
    for j in range(0, x.size, 8):
        lanes.store(y, j, lanes.exp(lanes.load(x, j), -300.0))


@njit
def _to_float32(x, y):
    for j in range(0, x.size, 8):
        lanes.store(y, j, lanes.toward_zero(lanes.load(x, j)))


@njit
def _halved(x, y, flush):
    """y = x / 2, with or without denormal numbers; and what is left of the setting afterwards."""
    mode = lanes.flush_denormals() if flush else np.int32(0)
    for j in range(x.size):
        y[j] = 0.5 * x[j]
    if flush:
        lanes.restore_denormals(mode)


def test_exp_is_right_to_the_last_place_and_nothing_far_below(rng):
    x = np.concatenate([np.linspace(-320, 5, 80_000), -(10.0 ** rng.uniform(-20, 2, 8_000)), [0.0] * 8])
    y = np.empty_like(x)
    _exp(x, y)
    want = np.exp(x)
    normal = x > -300
    assert (abs(y - want)[normal] <= 1.5 * np.spacing(want[normal])).all()
    assert (y[~normal] == 0).all()
    assert (y[x == 0] == 1).all()
    for never in (-np.inf, np.nan):
        _exp(np.full(8, never), y[:8])
        assert (y[:8] == 0).all()


def test_float32_toward_zero_never_grows(rng):
    x = np.concatenate([rng.uniform(0, 1, 4000), np.exp(rng.uniform(-60, 0, 4000))])
    y = np.empty(x.size, np.float32)
    _to_float32(x, y)
    assert (y <= x).all()
    assert (y >= np.nextafter(x.astype(np.float32), np.float32(0))).all()


def test_denormal_numbers_are_flushed_inside_and_kept_outside():
    x, y = np.full(4, 3 * DENORMAL), np.empty(4)
    _halved(x, y, True)
    if platform.machine() in ("x86_64", "AMD64"):
        assert (y == 0).all()
    assert (x * 1.0 > 0).all()
    _halved(np.full(4, 2 * DENORMAL), y, False)
    assert (y == DENORMAL).all()


@pytest.mark.parametrize("count", [1, 2])
def test_kernels_leave_the_treatment_of_denormal_numbers_as_it_was(rng, count):
    C = rng.random((40, 50))
    token = THREADS.set(count)
    try:
        kernel(C, 1e-3, np.zeros(50), masses(rng, 40), masses(rng, 50))
        y = np.empty(4)
        _halved(np.full(4, 2 * DENORMAL), y, False)
    finally:
        THREADS.reset(token)
    assert (y == DENORMAL).all()


@pytest.mark.parametrize("where", ["read-only", "offset by one element", "a slice of rows"])
def test_costs_may_lie_anywhere(rng, where):
    whole = rng.random((60, 37))
    C = whole.copy()
    if where == "read-only":
        C.flags.writeable = False
    elif where == "offset by one element":
        C = np.concatenate([[0.0], C.ravel()])[1:].reshape(C.shape)
    else:
        C = np.concatenate([C, C])[20:80]
        whole = C.copy()
    a, b = masses(rng, 60), masses(rng, 37)
    store, _, col = kernel(C, 0.05, np.zeros(37), a, b)
    R = np.exp(-whole / 0.05)
    R /= R.sum(1, keepdims=True)
    np.testing.assert_allclose(scaling.dense(*store, width=40)[:, :37], R, rtol=1e-13)
    np.testing.assert_allclose(col[:37], a @ R, rtol=1e-13)


def test_costs_in_another_order_are_refused_not_misread(rng):
    C = np.asfortranarray(rng.random((20, 24)))
    with pytest.raises(TypingError, match="not C-contiguous"):
        kernel(C, 0.05, np.zeros(24), masses(rng, 20), masses(rng, 24))


def test_rows_may_be_passed_a_few_at_a_time(rng):
    C, log_v = rng.random((50, 30)), rng.standard_normal(30)
    a, width = masses(rng, 50), 32
    results = []
    for chunk in (50, 17):
        log_sum, col, work = np.empty(50), np.zeros(width), np.empty(gibbs.workspace_shape(2, width))
        for low in range(0, 50, chunk):
            rows = slice(low, low + chunk)
            k.gibbs_sums(C[rows], None, None, 0, padded(log_v), 20.0, a[rows], 1.0, log_sum[rows], col, work)
        results.append((log_sum, col))
    assert results[0][0].tobytes() == results[1][0].tobytes()
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-14)


def test_annealing_is_a_kernel_at_a_quarter_of_the_regularisation(rng):
    """R at reg, to the fourth power, is R at reg / 4 for the scaled potentials, up to a factor for each row."""
    n, m, reg = 30, 45, 0.2
    C, a, b = rng.random((n, m)), masses(rng, n), masses(rng, m)
    store, _, _ = kernel(C, reg, np.zeros(m), a, b)
    width = gibbs.width_of(m)
    v, s, y, work = np.ones(width), np.empty(n), np.empty(width), np.empty(gibbs.workspace_shape(2, width))
    err = np.empty(31)
    k.sinkhorn_steps(*store, a, 1.0, padded(b), 1.0, 1e-3, 2.0, 0, 30, v, s, y, err, work)
    top = np.empty(width)
    u = a / s
    k.scaling_column_max(*store, u, top, work)
    starts, ends, offsets, values = store
    k.scaling_anneal(4, v, u, top * v, 0.0, starts, ends, offsets, values)
    direct, _, _ = kernel(C, reg / 4, 4 * np.log(v[:m]), a, b)
    R, want = scaling.dense(*store, width=width), scaling.dense(*direct, width=width)
    np.testing.assert_allclose(R / R.sum(1, keepdims=True), want, rtol=1e-10, atol=1e-300)


def test_newton_step_on_a_compacted_kernel_solves_the_schur_system(rng):
    n, m, reg = 40, 33, 0.05
    C, a, b = rng.random((n, m)), masses(rng, n), masses(rng, m)
    width, store = gibbs.width_of(m), kernel(C, reg, np.zeros(m), a, b)[0]
    work, v = np.empty(gibbs.workspace_shape(2, width)), np.ones(width)
    s, y = np.empty(n), np.empty(width)
    k.scaling_sweep(*store, v, a, 1.0, s, y, work)
    starts, ends, offsets = np.empty(n, np.int64), np.empty(n, np.int64), np.empty_like(store[2])
    values = np.empty(store[3].shape, np.float32)
    k.scaling_compact(*store, v, s, a, padded(b), 0.0, 3, starts, ends, offsets, values)
    T = starts, ends, offsets, values
    d = padded((v * y)[:m] + 0.1 * b, 1.0)
    diagonal = np.empty(width)
    k.scaling_diagonal(*T, a, diagonal, work)
    right = padded(b - (v * y)[:m])
    dinv, x, r = 1 / (d - diagonal), np.zeros(width), right.copy()
    p, rz, t = dinv * right, np.empty(201), np.empty(n)
    rz[0] = r @ p
    k.schur_cg_steps(*T, a, d, dinv, 1e-24 * rz[0], 200, x, r, p, rz, t, work)
    dense = scaling.dense(*T, width=width)
    S = np.diag(d) - dense.T @ (a[:, None] * dense)
    assert np.linalg.eigvalsh(S)[0] > 0
    np.testing.assert_allclose(x, np.linalg.solve(S, right), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("reg", [0.3, 1e-2, 1e-3])
def test_bounds_enclose_the_unregularised_cost_for_any_potentials(rng, reg):
    n, m = 12, 15
    C, a, b = rng.random((n, m)), masses(rng, n), masses(rng, m)
    exact = scipy.optimize.linprog(
        C.ravel(),
        A_eq=np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))]),
        b_eq=np.concatenate([a, b]),
    ).fun
    width = gibbs.width_of(m)
    work = np.empty(gibbs.workspace_shape(2, width))
    for _ in range(5):
        g = padded(rng.standard_normal(m) * reg)
        col, log_sum = np.zeros(width), np.empty(n)
        k.gibbs_sums(C, None, None, 0, g / reg, 1 / reg, a, 1.0, log_sum, col, work)
        keep = padded(np.minimum(1, b / col[:m]))
        left = padded(b - (col * keep)[:m])
        f, kept, short, reach = np.empty((4, n))
        low = np.full(width, np.inf)
        k.gibbs_certificate(C, None, None, 0, g, 1 / reg, a, keep, left, f, kept, short, reach, low, work)
        lower, upper = a @ f + b @ low[:m], kept.sum() + short @ reach / short.sum()
        assert lower - 1e-12 <= exact <= upper + 1e-12
        # the rounded plan itself, written out
        log_u = np.log(a) - log_sum
        P = np.empty((n, m))
        k.plan_dense(C, None, None, 0, log_u, g / reg, 1 / reg, P, work)
        Q = P * keep[:m] + np.outer(short, left[:m]) / short.sum()
        np.testing.assert_allclose(Q.sum(1), a, rtol=1e-12)
        np.testing.assert_allclose(Q.sum(0), b, rtol=1e-12)
        assert (Q * C).sum() == pytest.approx(upper, rel=1e-12)


def test_a_sparse_plan_is_the_dense_one_above_the_threshold(rng):
    C, log_v = rng.random((25, 41)), padded(rng.standard_normal(41))
    log_u, work = -np.log(np.exp(log_v[:41] - 30 * C).sum(1)), np.empty(gibbs.workspace_shape(2, 48))
    P, counts = np.empty((25, 41)), np.empty(25, np.int64)
    k.plan_dense(C, None, None, 0, log_u, log_v, 30.0, P, work)
    k.plan_count(C, None, None, 0, log_u, log_v, 30.0, 0.02, counts, work)
    indptr = np.concatenate([[0], counts.cumsum()])
    indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1])
    k.plan_sparse(C, None, None, 0, log_u, log_v, 30.0, 0.02, indptr, indices, data, work)
    sparse = scipy.sparse.csr_array((data, indices, indptr), shape=P.shape).toarray()
    assert (sparse == np.where(P > 0.02, P, 0)).all()


def test_a_step_that_cannot_be_taken_says_so(rng):
    """A column without mass underflows: err is inf, v stays, and nothing is NaN."""
    C = np.zeros((4, 8))
    C[:, 3] = np.inf
    a, b = masses(rng, 4), masses(rng, 8)
    store, _, _ = kernel(C, 1.0, np.zeros(8), a, b)
    v, s, y, err = np.ones(8), np.empty(4), np.empty(8), np.empty(4)
    k.sinkhorn_steps(*store, a, 1.0, b, 1.0, 1e-9, 2.0, 0, 3, v, s, y, err, np.empty(gibbs.workspace_shape(1, 8)))
    assert err.tolist() == [np.inf, -1, -1, -1]
    assert (v == 1).all()
