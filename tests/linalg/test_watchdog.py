"""Whatever M does: the answer is right or the status says so, and Jacobi-CG would not have been much cheaper."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device, to_host

from ..parallel.team import together
from .adversaries import PRECONDITIONERS, SYSTEMS, draw
from .problems import poisson, rhs, spd

RTOL = 1e-8


def bounded(name, A, b, M):
    """Solve, look at the answer and the cost: iterations, each a product with A. Returns whether Jacobi was beaten."""
    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=RTOL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ntsolve.PerformanceWarning)
        result = ntsolve.cg(A, b, M=M, rtol=RTOL, on_failure="ignore")
    assert jacobi.success
    right = np.linalg.norm(b - A @ result.x) <= RTOL * np.linalg.norm(b) * (1 + 1e-6)
    assert bool(result.success) == right, name
    assert result.success or result.status < 0
    assert len(result.history) == result.nit + 1
    if not result.success:  # only where M was wrong from its first application on
        assert result.nit == 0, name
        assert result.status in (Status.INDEFINITE_PRECONDITIONER, Status.NAN_OR_INF)
    assert result.nit <= 1.25 * jacobi.nit, f"{name}: {result.nit} iterations, Jacobi {jacobi.nit}"


FAST = [(kind, system) for number, kind in enumerate(PRECONDITIONERS) for system in [list(SYSTEMS)[number % 5]]]
FAST += [(kind, "anisotropic") for kind in ("random diagonal", "nan later", "identity", "huge", "cubes", "Jacobi")]


@pytest.mark.parametrize(("kind", "system"), FAST)
def test_the_answer_is_right_and_the_cost_is_bounded(kind, system):
    rng = np.random.default_rng(5)
    A = SYSTEMS[system](rng)
    bounded(kind, A, rng.standard_normal(A.shape[0]), PRECONDITIONERS[kind](A, rng))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_a_thousand_preconditioners(first):
    for seed in range(first, first + 50):
        bounded(*draw(seed))


def coarse(A, size, rest):
    """The solution on sums of so many neighbours, and next to nothing of what is left."""
    n = A.shape[0]
    P = sp.csr_array((np.ones(n), (np.arange(n), np.arange(n) // size)))
    inner = sp.linalg.splu((P.T @ A @ P).tocsc()).solve
    return lambda r: P @ inner(P.T @ r) + rest * r / A.diagonal()


@pytest.mark.parametrize("rest", [1e-2, 1e-4, 1e-9])
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name not in ("shifted chain", "dense")])
def test_an_m_that_leads_at_first_and_falls_behind_costs_a_quarter_at_most(system, rest):
    A = SYSTEMS[system](np.random.default_rng(7))
    b = rhs(A.shape[0])
    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=RTOL)
    result = ntsolve.cg(A, b, M=coarse(A, 10, rest), rtol=RTOL, on_failure="ignore")
    assert result.success
    assert result.nit <= jacobi.nit + max(8, jacobi.nit // 4)


def test_an_m_of_that_kind_which_is_useful_is_let_go():
    A, b = SYSTEMS["shifted chain"](np.random.default_rng(0)), rhs(400)
    result = ntsolve.cg(A, b, M=coarse(A, 10, 1e-6), rtol=RTOL)
    assert "given up" not in result.message
    assert result.nit <= 0.4 * ntsolve.cg(A, b, M="jacobi", rtol=RTOL).nit


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, "random"])
@pytest.mark.parametrize("at", [3, 6, 9])
def test_an_m_under_suspicion_that_breaks_costs_a_quarter_at_most(at, bad):
    A, b = poisson(24), rhs(576)
    rng, good, calls = np.random.default_rng(at), coarse(A, 10, 1e-6), []

    def M(r):
        calls.append(1)
        return good(r) if len(calls) < at else rng.standard_normal(r.size) if bad == "random" else bad * r

    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=RTOL)
    result = ntsolve.cg(A, b, M=M, rtol=RTOL, on_failure="ignore")
    assert result.success
    assert np.linalg.norm(b - A @ result.x) <= RTOL * np.linalg.norm(b) * (1 + 1e-6)
    assert result.nit <= jacobi.nit + max(8, jacobi.nit // 4)


@pytest.mark.parametrize("system", ["poisson", "graph"])
def test_a_stop_while_jacobi_leads_changes_nothing(system, tmp_path):
    A = SYSTEMS[system](np.random.default_rng(5))
    b, M, path = rhs(A.shape[0]), coarse(A, 10, 1e-6), tmp_path / "run.npz"

    def solved(**options):
        return ntsolve.cg(A, b, M=M, rtol=RTOL, on_failure="ignore", **options)

    whole = solved()
    for cut in (3, 4, 6, 9, 14, 15, 25, 40, whole.nit - 1):
        path.unlink(missing_ok=True)
        stopped = solved(maxiter=cut, checkpoint=path)
        assert stopped.status == Status.MAXITER
        assert stopped.nit == len(stopped.history) - 1 == cut
        result = solved(resume=path)
        assert np.array_equal(result.x, whole.x)
        assert (result.nit, result.message) == (whole.nit, whole.message)


@pytest.mark.parametrize("stop", [None, 9, 13, 30])
def test_ranks_agree_while_jacobi_leads(stop):
    A, b = poisson(24), rhs(576)
    halves = [slice(0, 280), slice(280, 576)]  # multiples of 10, but for the last
    Ms = [coarse(A[own][:, own].tocsr(), 10, 1e-6) for own in halves]

    def run(comm):
        rank = comm.Get_rank()
        callback = (lambda state: state.nit >= stop) if stop and rank == 1 else None
        return ntsolve.cg(A[halves[rank]], b[halves[rank]], M=Ms[rank], rtol=RTOL, comm=comm, on_failure="ignore",
                          callback=callback)  # fmt: skip

    parts = together(2, run)
    assert np.array_equal(parts[0].history, parts[1].history)
    assert parts[0].nit == parts[1].nit
    assert parts[0].message == parts[1].message
    if stop:
        assert all(each.status == Status.CALLBACK_STOP for each in parts)
        assert parts[0].nit == stop
    else:
        assert all(each.success for each in parts)
        both = lambda r: np.concatenate([M(r[own]) for M, own in zip(Ms, halves, strict=True)])
        alone = ntsolve.cg(A, b, M=both, rtol=RTOL, on_failure="ignore")
        assert alone.message == parts[0].message
        assert abs(alone.nit - parts[0].nit) <= 2


def useless(seed=0):
    rng = np.random.default_rng(seed)
    return lambda r: r * rng.uniform(0.01, 2, r.size) ** 3


def test_an_m_that_is_given_up_is_warned_about_and_named_in_the_message():
    A, b = poisson(16), rhs(256)
    with pytest.warns(ntsolve.PerformanceWarning, match="M was given up after"):
        result = ntsolve.cg(A, b, M=useless(), rtol=RTOL)
    assert result.success
    assert "M was given up" in result.message
    assert "M was given up" in ntsolve.cg(A, b, M=useless(), rtol=RTOL, on_failure="ignore").message  # and no warning


@pytest.mark.parametrize("make", [np.linalg.inv, lambda A: np.linalg.inv(A + 0.1 * np.diag(A.diagonal()))])
def test_a_useful_m_is_left_alone(make):
    A = poisson(14)
    result = ntsolve.cg(A, rhs(196), M=make(A.toarray()), rtol=RTOL)
    assert "given up" not in result.message
    assert result.nit < 20


def _ssor(A):
    lower, upper, d = sp.tril(A).tocsr(), sp.triu(A).tocsr(), A.diagonal()
    solve = sp.linalg.spsolve_triangular
    return lambda r: solve(upper, d * solve(lower, r), lower=False)


def _nonlinear(M):
    return lambda r: (z := M(r)) * (1 + 0.3 * np.sign(z))


def _noisy(M, size):
    rng = np.random.default_rng(1)
    return lambda r: (z := M(r)) + size * np.linalg.norm(z) / np.sqrt(z.size) * rng.standard_normal(z.size)


@pytest.mark.parametrize("spoil", [_nonlinear, lambda M: _noisy(M, 0.05)])
def test_a_useful_m_that_is_not_quite_linear_is_left_alone_and_stays_useful(spoil):
    A = poisson(32)
    b, M = rhs(A.shape[0]), _ssor(A)
    exact, spoilt = (ntsolve.cg(A, b, M=each, rtol=RTOL) for each in (M, spoil(M)))
    assert "given up" not in exact.message + spoilt.message
    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=RTOL)
    assert exact.nit <= 0.55 * jacobi.nit
    assert spoilt.nit <= 0.8 * jacobi.nit  # flexible CG that remembers one direction takes more than Jacobi-CG


@pytest.mark.parametrize("changes", [10, 20, 30])
@pytest.mark.parametrize("into", ["random", "diagonal", "one vector"])
def test_an_m_that_changes_its_mind_late_is_given_up(changes, into):
    A = poisson(40)
    n = A.shape[0]
    rng, b, good = np.random.default_rng(changes), rhs(n), _ssor(A)
    vector = rng.standard_normal(n)
    bad = {
        "random": lambda r: (v := rng.standard_normal(n)) * np.sign(v @ r),
        "diagonal": lambda r: r * rng.uniform(0.01, 2, n) ** 3,
        "one vector": lambda r: vector * (vector @ r),
    }[into]
    calls = []

    def M(r):
        calls.append(1)
        return good(r) if len(calls) < changes else bad(r)

    with pytest.warns(ntsolve.PerformanceWarning, match="given up"):
        result = ntsolve.cg(A, b, M=M, rtol=RTOL)
    assert result.success
    assert len(result.history) == result.nit + 1
    assert result.nit <= 1.25 * ntsolve.cg(A, b, M="jacobi", rtol=RTOL).nit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_directions_are_kept_for_each_system_of_a_batch(backend, dtype):
    A = (poisson(10).toarray()).astype(dtype)
    b = rhs(3, 100).astype(dtype)
    inverse = to_device(np.linalg.inv(A + 0.05 * np.eye(100)).astype(dtype), backend)

    def M(r):
        z = r @ inverse
        return z * (1 + 0.3 * (z > 0))

    rtol = 1e-8 if dtype == "float64" else 1e-4
    together = ntsolve.cg(to_device(A, backend), to_device(b, backend), M=M, rtol=rtol)
    assert together.success.all()
    x = to_host(together.x).astype(float)
    assert (np.linalg.norm(b - x @ A, axis=1) <= 1.01 * rtol * np.linalg.norm(b, axis=1)).all()
    for i in range(3):
        alone = ntsolve.cg(to_device(A, backend), to_device(b[i], backend), M=M, rtol=rtol)
        assert abs(alone.nit - together.nit[i]) <= 1


def test_directions_are_kept_orthogonal_where_m_is_not_symmetric():
    """So that no more are needed than there are unknowns, up to the number of them that are kept."""
    A = spd(20, 20, condition=1e4)
    L = np.tril(A)
    result = ntsolve.cg(A, rhs(20), M=lambda r: np.linalg.solve(L, r), rtol=RTOL)
    assert result.success
    assert result.nit <= 20 + 8  # of them Jacobi-CG's


def test_jacobi_as_a_function_is_left_alone():
    A = SYSTEMS["badly scaled poisson"](np.random.default_rng(1))
    result = ntsolve.cg(A, rhs(400), M=lambda r: r / A.diagonal(), rtol=RTOL)
    assert "given up" not in result.message


def test_each_system_of_a_batch_is_judged_by_itself():
    A, b = poisson(12), rhs(3, 144)
    good = np.linalg.inv(A.toarray())
    M = np.stack([good, np.diag(np.random.default_rng(0).uniform(0.001, 2, 144) ** 3), good])
    with pytest.warns(ntsolve.PerformanceWarning, match="given up for 1 of 3 systems"):
        result = ntsolve.cg(A, b, M=M, rtol=RTOL)
    assert result.success.all()
    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=RTOL)
    assert (result.nit[[0, 2]] <= 12).all()
    assert result.nit[1] <= 1.25 * jacobi.nit[1]
    assert result.history.shape == (result.nit.max() + 1, 3) or len(result.history) > result.nit.max()


def test_a_system_that_m_fails_at_once_loses_nothing_by_waiting_for_the_others():
    rng = np.random.default_rng(11)
    G = rng.standard_normal((60, 60))
    A, b = G @ G.T + 0.5 * np.eye(60), rng.standard_normal((2, 60))
    with pytest.warns(ntsolve.PerformanceWarning, match="given up for 2 of 2"):
        result = ntsolve.cg(A, b, M=lambda r: np.roll(r, 1), rtol=RTOL)
    assert result.success.all()
    assert result.nit.min() < result.nit.max()  # one is given up before the race, and waits for its end
    assert (result.nit <= 1.25 * ntsolve.cg(A, b, M="jacobi", rtol=RTOL).nit).all()


def test_an_operator_without_a_diagonal_has_cg_for_a_rival():
    A, b = poisson(16), rhs(256)
    with pytest.warns(ntsolve.PerformanceWarning, match="given up"):
        result = ntsolve.cg(lambda v: A @ v, b, M=useless(), rtol=RTOL)
    assert result.success
    assert result.nit <= 1.25 * ntsolve.cg(A, b, rtol=RTOL).nit


def test_stops_are_kept_in_every_phase():
    A, b = poisson(16), rhs(256)
    for maxiter in (1, 4, 6, 8, 20):
        result = ntsolve.cg(A, b, M=useless(), rtol=RTOL, maxiter=maxiter, on_failure="ignore")
        assert result.nit == maxiter
        assert result.status == Status.MAXITER
        assert len(result.history) == maxiter + 1
    seen = []

    def note(state):
        seen.append((state.residual, np.linalg.norm(b - A @ state.x)))

    result = ntsolve.cg(A, b, M=useless(), rtol=RTOL, on_failure="ignore", callback=note)
    assert len(seen) == result.nit
    np.testing.assert_allclose(*np.transpose(seen), rtol=1e-6, atol=1e-9)


def test_an_indefinite_matrix_is_not_blamed_on_m():
    A = np.diag(np.r_[-1.0, np.linspace(1, 2, 39)])
    result = ntsolve.cg(A, rhs(40), M=lambda r: r, on_failure="ignore")
    assert result.status == Status.INDEFINITE_OPERATOR


@pytest.mark.parametrize("size", [1e-290, 1e-160, 1e160, 1e290])
def test_the_size_of_m_does_not_matter(size):
    A, b = spd(30, 30, condition=20), rhs(30)
    M = np.linalg.inv(A + 0.05 * np.eye(30))
    want, got = (ntsolve.cg(sp.csr_array(A), b, M=lambda r, s=s: s * (M @ r), rtol=RTOL) for s in (1.0, size))
    assert got.success
    assert got.nit == want.nit
