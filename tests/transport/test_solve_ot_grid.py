"""ntsolve.solve_ot_grid: bounds that hold, plans that are feasible, answers that linear programming confirms."""

import pickle

import numpy as np
import ot
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.dispatch import kernels_for
from ntsolve.transport import gridbounds
from ntsolve.transport.gridbox import COARSEST, Box
from ntsolve.transport.hot import GridProblem, Hot
from tests.backends import BACKENDS, to_device, to_host


def images(m, n, seed=0, zeros=0.0):
    """Two images of mass 1, smooth and rough, with some pixels empty."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:m, :n]
    mu = np.exp(-((y - m / 3) ** 2 + (x - n / 4) ** 2) / (m * n / 12)) + 0.1 * rng.random((m, n))
    nu = rng.random((m, n)) ** 3
    for image in (mu, nu):
        image[rng.random((m, n)) < zeros] = 0
    return mu / mu.sum(), nu / nu.sum()


def pair_costs(m, n, power, spacing=(1.0, 1.0)):
    y, x = (index.ravel() * step for index, step in zip(np.mgrid[:m, :n], spacing, strict=True))
    return abs(y[:, None] - y) ** power + abs(x[:, None] - x) ** power


@pytest.mark.parametrize(
    ("m", "n", "zeros"), [(9, 9, 0), (6, 11, 0.5), (1, 20, 0.3), (16, 2, 0), (1, 1, 0), (32, 34, 0.8)]
)
@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 1.5])
def test_the_bounds_enclose_the_cost_that_linear_programming_finds(m, n, zeros, cost):
    mu, nu = images(m, n, zeros=zeros if m * n > 1 else 0)
    power = {"sqeuclidean": 2.0, "cityblock": 1.0}.get(cost, cost)
    if m * n > 500 and power != 2:
        pytest.skip("one of that size is enough")
    C = pair_costs(m, n, power)
    want = ot.emd2(mu.ravel(), nu.ravel(), C, numItermax=10**7)
    result = ntsolve.solve_ot_grid(mu, nu, cost=cost, tol=1e-3)
    assert result.success
    assert result.lower_bound * (1 - 1e-9) <= want <= result.upper_bound * (1 + 1e-9)
    assert result.gap <= 1e-3 * result.lower_bound
    plan = result.sparse_plan()
    np.testing.assert_allclose(plan.sum(1), mu.ravel(), atol=1e-13)
    np.testing.assert_allclose(plan.sum(0), nu.ravel(), atol=1e-13)
    assert plan.data.min() > 0
    assert plan.multiply(C).sum() == pytest.approx(result.value, rel=1e-9)
    u, v = result.potentials
    assert (u.ravel()[:, None] + v.ravel() <= C + 1e-9 * C.max()).all()
    assert (u * mu).sum() + (v * nu).sum() == pytest.approx(result.lower_bound, rel=1e-9)


def test_coarser_grids_lead_to_finer_ones():
    mu, nu = images(64, 32)
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-3)
    assert result.success
    assert result.gap <= 1e-3 * result.lower_bound
    assert ntsolve.solve_ot_grid(mu, nu, tol=1e-3, maxiter=3, on_failure="ignore").status == Status.MAXITER


def test_bounds_hold_whenever_it_is_stopped():
    mu, nu = images(32, 32)
    best = ntsolve.solve_ot_grid(mu, nu, tol=1e-3)
    for maxiter in (0, 1, 30, 100):
        result = ntsolve.solve_ot_grid(mu, nu, maxiter=maxiter, on_failure="ignore")
        assert result.lower_bound <= best.upper_bound
        assert best.lower_bound <= result.upper_bound
        np.testing.assert_allclose(result.sparse_plan().sum(0), nu.ravel(), atol=1e-13)


@pytest.mark.parametrize("spacing", [0.1, (2.0, 0.5), np.array([0.5, 1.0])])
def test_the_size_of_a_pixel_counts(spacing):
    mu, nu = images(8, 6)
    pair = (spacing, spacing) if np.ndim(spacing) == 0 else spacing
    want = ot.emd2(mu.ravel(), nu.ravel(), pair_costs(8, 6, 2, pair))
    result = ntsolve.solve_ot_grid(3 * mu, 3 * nu, spacing=spacing)
    assert result.success
    assert result.lower_bound <= 3 * want * (1 + 1e-9)
    assert result.value == pytest.approx(3 * want, rel=1e-4)


def test_nothing_has_to_move_between_equal_images():
    mu, _ = images(12, 12)
    result = ntsolve.solve_ot_grid(mu, mu)
    assert result.success
    assert result.value == pytest.approx(0, abs=1e-12)


def test_images_that_differ_by_rounding_are_equal(rng):
    mu, _ = images(12, 12)
    result = ntsolve.solve_ot_grid(mu, mu * (1 + 1e-16 * rng.standard_normal(mu.shape)))
    assert result.success
    assert result.value == 0


@pytest.mark.parametrize(("size", "cost"), [(8, 8.0), (8, 20.0), (12, 6.0)])
def test_a_cost_that_is_tiny_beside_the_longest_move_is_no_excuse(rng, size, cost):
    mu, nu = (image / image.sum() for image in rng.random((2, size, size)))
    result = ntsolve.solve_ot_grid(mu, nu, cost=cost, tol=1e-3, maxiter=3000, on_failure="ignore")
    assert result.success == (result.gap <= 1e-3 * result.lower_bound)
    want = ot.emd2(mu.ravel(), nu.ravel(), np.minimum(pair_costs(size, size, cost), 1e4))
    assert result.lower_bound <= want * (1 + 1e-6) <= result.upper_bound * (1 + 2e-6)


def test_little_mass_that_moves_by_little_is_seen(rng):
    mu = rng.random((16, 16)) + 1
    mu /= mu.sum()
    nu = mu.copy()
    nu[5, 5:7] += -1e-8, 1e-8
    result = ntsolve.solve_ot_grid(mu, nu, floor=0)
    assert result.success
    assert result.gap <= 1e-4 * result.lower_bound
    assert result.residual == pytest.approx(result.gap / result.lower_bound)
    assert result.value == pytest.approx(1e-8, rel=1e-4)


def test_masses_of_many_orders_of_magnitude_take_no_more_iterations(rng):
    mu, nu = rng.random((2, 24, 24)) ** 6
    result = ntsolve.solve_ot_grid(mu / mu.sum(), nu / nu.sum(), maxiter=4000)
    assert result.success


def test_the_clock_decides_nothing(rng):
    """Blocks of iterations are as long as they are quick, and of one where a callback looks on."""
    mu, nu = rng.random((2, 24, 24)) ** 6
    settings = {"maxiter": 700, "on_failure": "ignore"}
    result = ntsolve.solve_ot_grid(mu / mu.sum(), nu / nu.sum(), **settings)
    watched = ntsolve.solve_ot_grid(mu / mu.sum(), nu / nu.sum(), **settings, callback=lambda state: None)
    assert result.nit == watched.nit
    assert result.restarts == watched.restarts
    np.testing.assert_array_equal(result.x, watched.x)
    assert (result.lower_bound, result.upper_bound) == (watched.lower_bound, watched.upper_bound)


def test_what_a_coarse_grid_found_is_told_of_the_fine_one():
    mu, nu = images(40, 40)
    result = ntsolve.solve_ot_grid(mu, nu, maxiter=400, on_failure="ignore")
    best = ntsolve.solve_ot_grid(mu, nu, tol=1e-3)
    assert result.status == Status.MAXITER
    assert 0.8 * best.value <= result.lower_bound <= best.upper_bound
    assert best.lower_bound <= result.upper_bound <= 1.2 * best.value
    np.testing.assert_allclose(result.sparse_plan().sum(0), nu.ravel(), atol=1e-13)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-7, 1e-10, 1e-13])
def test_images_that_are_all_but_equal_end_by_tol_or_by_the_floor(rng, size):
    mu, _ = images(16, 16)
    nu = mu * (1 + size * rng.standard_normal(mu.shape))
    nu /= nu.sum()
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-3)
    corner_to_corner = 2 * 15**2
    assert result.success
    assert result.gap <= max(1e-3 * result.lower_bound, 1e-10 * corner_to_corner)
    assert result.lower_bound <= ot.emd2(mu.ravel(), nu.ravel(), pair_costs(16, 16, 2)) + 1e-13 * corner_to_corner
    # the mass that differs moves by a pixel at least
    assert abs(mu - nu).sum() / 2 * (1 - 1e-3) - 1e-10 * corner_to_corner <= result.value
    strict = ntsolve.solve_ot_grid(mu, nu, tol=1e-3, floor=0, maxiter=200, on_failure="ignore")
    assert strict.success == (strict.gap <= 1e-3 * strict.lower_bound)


def sparse_images(m, n, filled, seed=0):
    """Few pixels with mass, on some lines only; those of the second image mostly elsewhere."""
    rng = np.random.default_rng(seed)
    both = np.zeros((2, m, n))
    for image in both:
        lines = rng.random(m) < 0.6, rng.random(n) < 0.6
        image[(rng.random((m, n)) < filled) & lines[0][:, None] & lines[1]] = 1
        image[rng.integers(m), rng.integers(n)] = 1
        image *= rng.random((m, n)) + 0.1
        image /= image.sum()
    return both


@pytest.mark.parametrize(
    ("m", "n", "filled"), [(13, 17, 0.1), (40, 33, 0.05), (34, 35, 0.4), (2, 31, 0.3), (17, 17, 0)]
)
def test_pixels_without_mass_cost_nothing_and_change_nothing(m, n, filled):
    mu, nu = sparse_images(m, n, filled)
    C = pair_costs(m, n, 2.0)
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-4)
    want = ot.emd2(mu.ravel(), nu.ravel(), C, numItermax=10**7)
    assert result.success
    assert result.lower_bound * (1 - 1e-9) <= want <= result.upper_bound * (1 + 1e-9)
    u, v = result.potentials
    assert np.isfinite(result.x).all()
    assert (u.ravel()[:, None] + v.ravel() <= C + 1e-9 * C.max()).all()
    np.testing.assert_allclose(result.sparse_plan().sum(1), mu.ravel(), atol=1e-13)
    np.testing.assert_allclose(result.sparse_plan().sum(0), nu.ravel(), atol=1e-13)


def test_the_projection_meets_the_constraints(rng):
    mu, nu = sparse_images(9, 12, 0.5)
    with kernels_for(mu=mu) as k:
        hot = Hot(GridProblem(k, mu, nu, rng.random((9, 9)), rng.random((12, 12))), np.float64)
    hot.f[:], hot.g[:] = rng.random(hot.f.shape), rng.random(hot.g.shape)
    for part, state in enumerate((hot.f, hot.g)):
        of = (hot.of_f, hot.of_g)[part]
        hot.sums[2 * part][:] = state.sum(1)
        np.add.at(hot.sums[2 * part + 1], of.line, state)
    hot.find_potentials()
    y1, y2, y3, minus_y2 = hot.potentials
    f = hot.f + hot.sigma * hot.of_f.speeds[:, None] * (y1[:, None] + y2[hot.of_f.line] - hot.C[hot.of_f.place])
    g = hot.g + hot.sigma * hot.of_g.speeds[:, None] * (y3[:, None] + minus_y2[hot.of_g.line] - hot.D[hot.of_g.place])
    np.testing.assert_allclose(f.sum(1), hot.of_f.masses, atol=1e-12)
    np.testing.assert_allclose(g.sum(1), hot.of_g.masses, atol=1e-12)
    through = np.zeros_like(y2), np.zeros_like(minus_y2)
    np.add.at(through[0], hot.of_f.line, f)
    np.add.at(through[1], hot.of_g.line, g)
    np.testing.assert_allclose(through[0].T, through[1], atol=1e-12)


def test_potentials_in_single_precision_are_feasible_too():
    mu, nu = (image.astype(np.float32) for image in images(7, 7))
    u, v = ntsolve.solve_ot_grid(mu, nu, tol=1e-3).potentials
    assert (u.ravel()[:, None].astype(float) + v.ravel() <= pair_costs(7, 7, 2) + 1e-12).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kind_and_dtype_of_the_images_come_back(backend):
    mu, nu = (to_device(image.astype(np.float32), backend) for image in images(6, 5))
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-2)
    assert result.success
    assert result.backend == backend
    for array in (result.x, result.middle):
        assert type(array) is type(mu)
        assert array.dtype == np.float32
    assert result.x.shape == (2, 6, 5)
    host = ntsolve.solve_ot_grid(to_host(mu), to_host(nu), tol=1e-2)
    assert result.value == pytest.approx(host.value, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_plan_is_there_whole_and_without_what_is_small(backend, monkeypatch):
    mu, nu = (3 * image.astype(np.float32) for image in images(5, 4))
    result = ntsolve.solve_ot_grid(to_device(mu, backend), to_device(nu, backend), tol=1e-3)
    assert type(result.plan) is type(result.x)
    assert result.plan.dtype == np.float32
    plan, sparse = to_host(result.plan), result.sparse_plan()
    np.testing.assert_allclose(plan, sparse.toarray(), rtol=1e-6)
    np.testing.assert_allclose(plan.sum(1), mu.ravel(), atol=1e-5)
    assert (plan * pair_costs(5, 4, 2.0)).sum() == pytest.approx(result.value_linear, rel=1e-5)
    assert result.value_linear == result.value
    assert result.marginal_error < 1e-12
    few = result.sparse_plan(0.05)
    assert few.data.min() > 0.05
    assert few.nnz == (sparse.data > 0.05).sum() < sparse.nnz
    with pytest.raises(ValueError, match="threshold"):
        result.sparse_plan(-1)
    monkeypatch.setattr("ntsolve.transport.gridresult.LARGEST_PLAN", 399)
    with pytest.raises(ValueError, match="sparse_plan"):
        result.plan


def test_the_number_of_threads_does_not_change_the_answer():
    mu, nu = images(64, 64)
    found = []
    for threads in (1, 2):
        with ntsolve.config(threads=threads):
            found.append(ntsolve.solve_ot_grid(mu, nu, maxiter=60, on_failure="ignore").x.tobytes())
    assert found[0] == found[1]


def test_a_result_pickles_and_the_input_is_left_alone():
    mu, nu = images(7, 7)
    before = mu.tobytes(), nu.tobytes()
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-2)
    twin = pickle.loads(pickle.dumps(result))
    assert twin.value == result.value
    assert (twin.sparse_plan() != result.sparse_plan()).nnz == 0
    assert (mu.tobytes(), nu.tobytes()) == before


def test_callback_time_limit_and_history():
    mu, nu = images(16, 16)
    seen = []
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-2, callback=lambda state: seen.append(state.residual))
    assert result.success
    assert len(seen) == result.nit == len(result.history) - 1
    assert ntsolve.solve_ot_grid(mu, nu, time_limit=0, on_failure="ignore").status == Status.TIME_LIMIT
    assert ntsolve.solve_ot_grid(mu, nu, callback=lambda s: s.nit == 2).status == Status.CALLBACK_STOP


def test_bad_arguments_are_named():
    mu, nu = images(5, 5)
    bad = mu.copy()
    bad[2, 2] = np.nan
    cases = (
        ((bad, nu), {}, "mu"),
        ((mu, -nu), {}, "nu"),
        ((mu, 2 * nu), {}, "mu"),
        ((mu, nu[:4]), {}, "nu"),
        ((mu[0], nu), {}, "mu"),
        ((mu, nu), {"cost": 0.5}, "cost"),
        ((mu, nu), {"cost": "l3"}, "cost"),
        ((mu, nu), {"spacing": 0}, "spacing"),
        ((mu, nu), {"tol": -1}, "tol"),
    )
    for arguments, options, name in cases:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            ntsolve.solve_ot_grid(*arguments, **options)
    with pytest.raises(ValueError, match=r"mu sums to .* Scale one of them$"):
        ntsolve.solve_ot_grid(mu, 2 * nu)


def test_mass_on_lines_is_carried_in_order(rng):
    p, q = rng.random((4, 9)), rng.random((4, 9))
    q *= (p.sum(1) / q.sum(1))[:, None]
    cost = abs(np.arange(9.0)[:, None] - np.arange(9)) ** 2
    want = sum(ot.emd2(a, b, cost) for a, b in zip(p, q, strict=True))
    assert gridbounds.line_cost(p, q, cost) == pytest.approx(want, rel=1e-10)


def test_a_matrix_is_fitted_to_sums_it_can_have(rng):
    rows, columns = rng.random(6) * (rng.random(6) < 0.7), rng.random(5)
    columns *= rows.sum() / columns.sum()
    for start in (rng.random((6, 5)) - 0.3, np.zeros((6, 5)), np.eye(6, 5)):
        fitted = gridbounds.fit(start, rows, columns)
        assert fitted.min() >= 0
        np.testing.assert_allclose(fitted.sum(1), rows, atol=1e-14)
        np.testing.assert_allclose(fitted.sum(0), columns, atol=1e-14)


def framed(image, shape, at):
    """The image in a larger one, empty but for it."""
    out = np.zeros(shape)
    out[at[0] : at[0] + image.shape[0], at[1] : at[1] + image.shape[1]] = image
    return out


@pytest.mark.parametrize(
    ("inner", "outer", "at"),
    [((9, 7), (14, 20), (2, 11)), ((5, 12), (30, 12), (25, 0)), ((20, 21), (21, 33), (0, 12))],
)
def test_empty_lines_around_the_masses_change_nothing_but_the_time(inner, outer, at):
    mu, nu = images(*inner, zeros=0.3)
    framed_pair = [framed(image, outer, at) for image in (mu, nu)]
    small, large = ntsolve.solve_ot_grid(mu, nu, tol=1e-3), ntsolve.solve_ot_grid(*framed_pair, tol=1e-3)
    assert large.success
    assert large.nit == small.nit
    assert large.upper_bound == pytest.approx(small.upper_bound, rel=1e-5)
    assert large.middle.shape == outer
    u, v = large.potentials
    C = pair_costs(*outer, 2.0)
    assert (u.ravel()[:, None] + v.ravel() <= C + 1e-9 * C.max()).all()
    assert (u * framed_pair[0]).sum() + (v * framed_pair[1]).sum() == pytest.approx(large.lower_bound, rel=1e-9)
    plan = large.sparse_plan()
    np.testing.assert_allclose(plan.sum(1), framed_pair[0].ravel(), atol=1e-13)
    np.testing.assert_allclose(plan.sum(0), framed_pair[1].ravel(), atol=1e-13)


@pytest.mark.parametrize("to", [(3, 4), (3, 9), (12, 17), (0, 0)])
def test_all_mass_in_one_pixel(to):
    mu, nu = np.zeros((2, 13, 18))
    mu[3, 4], nu[to] = 2.0, 2.0
    result = ntsolve.solve_ot_grid(mu, nu)
    assert result.success
    cost = 2.0 * ((to[0] - 3) ** 2 + (to[1] - 4) ** 2)
    assert result.upper_bound == pytest.approx(cost, rel=1e-9, abs=1e-12)
    assert result.lower_bound == pytest.approx(cost, rel=1e-3, abs=1e-12)
    plan = result.sparse_plan()
    assert plan.nnz == 1
    assert plan[3 * 18 + 4, to[0] * 18 + to[1]] == pytest.approx(2.0)


@pytest.mark.parametrize("power", [1.0, 1.7, 2.0])
@pytest.mark.parametrize("across", [True, False])
def test_masses_on_one_line_need_no_iteration(rng, power, across):
    a, b = (rng.random((2, 1, 90)) + 1e-3) * (rng.random((2, 1, 90)) < 0.7)
    a, b = a / a.sum(), b / b.sum()
    shape = (1, 90) if across else (90, 1)
    result = ntsolve.solve_ot_grid(a.reshape(shape), b.reshape(shape), cost=power, tol=1e-9, floor=0)
    assert result.success
    assert result.nit == 0
    assert result.value == pytest.approx(ot.emd2(a.ravel(), b.ravel(), pair_costs(1, 90, power)), rel=1e-9)
    inside = [framed(image.reshape(shape), (95, 93), (2, 1)) for image in (a, b)]
    assert ntsolve.solve_ot_grid(*inside, cost=power).nit == 0


def test_masses_that_nowhere_overlap(rng):
    mu, nu = np.zeros((2, 24, 31))
    mu[2:7, 3], nu[20, 10:18] = rng.random(5) + 0.1, rng.random(8) + 0.1
    mu, nu = mu / mu.sum(), nu / nu.sum()
    result = ntsolve.solve_ot_grid(mu, nu, tol=1e-5)
    want = ot.emd2(mu.ravel(), nu.ravel(), pair_costs(24, 31, 2.0))
    assert result.success
    assert result.lower_bound * (1 - 1e-9) <= want <= result.upper_bound * (1 + 1e-9)


def test_a_box_can_be_halved_and_holds_all_mass(rng):
    for _ in range(200):
        shape = rng.integers(1, 140, 2)
        a, b = np.zeros((2, *shape))
        for image in (a, b):
            for _ in range(rng.integers(1, 4)):
                image[rng.integers(shape[0]), rng.integers(shape[1])] = 1 + rng.random()
        box = Box(a, b)
        assert np.array_equal(box.put(box.cut(a)), a)
        assert np.array_equal(box.put(box.cut(b)), b)
        rows, columns = (np.ptp(index) + 1 for index in np.nonzero(a + b))
        few = 2 ** max(0, int(np.floor(np.log2(min(rows, columns) / COARSEST))))
        assert all(size % few == 0 for size in box.shape)
        assert rows <= box.shape[0] < rows + few
        assert columns <= box.shape[1] < columns + few
