"""DeepConjugateDirection: the network is what its page says, the iteration what the paper says, the answers right."""

import warnings

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse.linalg

import ntsolve
from ntsolve.linalg import dcd_network
from tests.backends import BACKENDS, to_device, to_host

DCD, Grid = ntsolve.DeepConjugateDirection, ntsolve.GridOperator


def parameters(dim, seed=0, channels=(5, 6), features=3, before=1, after=2, size=1.0):
    """A network of any numbers."""
    rng, made, inputs = np.random.default_rng(seed), {}, 1
    for level in range(3):
        width = channels[min(level, 1)]
        at = f"levels.{level}."
        shapes = {"feature1.weight": (features, 3), "feature2.weight": (features, features)}
        shapes |= {"gate.weight": (width, features), "enter.weight": (width, inputs), "leave.weight": (inputs, width)}
        shapes |= {f"before.{n}.weight": (width, width) for n in range(before)}
        shapes |= {f"after.{n}.weight": (width, width) for n in range(after)}
        for name, (outer, inner) in shapes.items():
            spread = size / np.sqrt(inner * 3**dim)
            made[at + name] = (spread * rng.standard_normal((outer, inner, *[3] * dim))).astype(np.float32)
        for name, outer in (("feature1", features), ("feature2", features), ("gate", width)):
            made[f"{at}{name}.bias"] = rng.standard_normal(outer).astype(np.float32)
        inputs = width
    return made


def domain(shape, seed=0):
    """A box with an obstacle, walls on one side, air around."""
    mask = np.ones(shape, dtype=bool)
    solid = np.zeros(shape, dtype=bool)
    low = np.random.default_rng(seed).integers(1, np.array(shape) // 2)
    block = tuple(slice(a, a + max(1, n // 4)) for a, n in zip(low, shape, strict=True))
    mask[block], solid[block] = False, seed % 2 == 0
    outside = [("neumann" if seed % 3 == 0 else "dirichlet", "dirichlet"), *["dirichlet"] * (len(shape) - 1)]
    return Grid.poisson(mask, solid=solid, outside=outside)


def reference(weights, fields, r, depth=0):
    """Equations (1) - (5) with SciPy's correlate, in float64; r (inputs, ...), fields (3, ...)."""
    at = f"levels.{min(depth, 2)}."

    def convolve(name, x):
        w = weights[f"{at}{name}.weight"].astype(float)
        each = [[scipy.ndimage.correlate(c, t, mode="constant") for c, t in zip(x, row, strict=True)] for row in w]
        return np.array(each).sum(1)

    def biased(name, x):
        bias = weights[f"{at}{name}.bias"]
        return convolve(name, x) + bias.reshape(-1, *[1] * (x.ndim - 1))

    def pooled(x):
        x = np.pad(x, [(0, 0), *[(0, n % 2) for n in x.shape[1:]]])
        for axis in range(1, x.ndim):
            x = (x.take(range(0, x.shape[axis], 2), axis) + x.take(range(1, x.shape[axis], 2), axis)) / 2
        return x

    inside = fields[:1] > 0
    gate = inside * biased("gate", np.maximum(biased("feature2", np.maximum(biased("feature1", fields), 0)), 0))
    h = gate * convolve("enter", r)
    blocks = {way: [name for name in weights if name.startswith(f"{at}{way}.")] for way in ("before", "after")}
    for name in sorted(blocks["before"]):
        h = h + gate * np.maximum(convolve(name.removeprefix(at).removesuffix(".weight"), h), 0)
    if max(fields.shape[1:]) >= 4:
        surfaces = np.array([1, 2, 2]).reshape(3, *[1] * (fields.ndim - 1))
        below = reference(weights, surfaces * pooled(fields), pooled(h), depth + 1)
        for axis in range(1, below.ndim):
            below = np.repeat(below, 2, axis)
        h = h + inside * below[tuple(slice(n) for n in h.shape)]
    for name in sorted(blocks["after"]):
        h = h + gate * np.maximum(convolve(name.removeprefix(at).removesuffix(".weight"), h), 0)
    return inside * convolve("leave", h)


@pytest.mark.parametrize("shape", [(5, 4), (9, 16), (8, 5, 6)])
def test_network_is_the_one_of_its_equations(shape):
    A, weights = domain(shape), parameters(len(shape))
    r = np.random.default_rng(1).standard_normal(shape) * A.mask
    faces = 2 * len(shape)
    fields = np.array([A.mask, A.mask - A.open_faces / faces, A.sink / faces])
    expected = reference(weights, fields, r[None])[0]
    expected *= np.sign((r * expected).sum())
    got = DCD(A, weights=weights, blocks=False).matvec(r)
    np.testing.assert_allclose(got, expected, atol=1e-5 * abs(expected).max())
    assert not got[~A.mask].any()


@pytest.mark.parametrize(("shape", "blocks", "closed"), [((20, 33), (5, 9), True), ((70, 8), (18, 2), False),
                                                         ((9, 11, 10), (3, 3, 3), False),
                                                         ((30, 6, 4), (8, 2, 1), True)])  # fmt: skip
def test_blocks_are_solved_for_exactly_around_the_network(shape, blocks, closed):
    solid = np.zeros(shape, dtype=bool)
    solid[:5, 2:5] = solid[-3, 1:] = True  # a block with nothing but wall in it, others in parts
    A = Grid.poisson(~solid, solid=solid, spacing=0.1, outside="neumann" if closed else "dirichlet")
    M, network = (DCD(A, weights=parameters(len(shape)), blocks=with_them) for with_them in (True, False))
    places = [np.arange(n) // 4 for n in shape]
    number = np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), blocks)[~solid]
    Z = np.eye(np.prod(blocks))[:, number]
    matrix = A.tocsr().toarray()
    Q = Z.T @ np.linalg.pinv(Z @ matrix @ Z.T, rcond=1e-9) @ Z
    b = np.random.default_rng(1).standard_normal((2, A.shape[0]))
    for r, z in zip(b @ matrix, M.matvec(b @ matrix), strict=True):
        q = network.matvec(r - matrix @ (Q @ r))
        difference = z - (Q @ r + q - Q @ (matrix @ q))
        if closed:  # A is singular: both are known up to a constant
            difference -= difference.mean()
        np.testing.assert_allclose(difference, 0, atol=1e-4 * abs(z).max())
        np.testing.assert_allclose(Z @ matrix @ z, Z @ r, atol=1e-4 * np.linalg.norm(Z @ r))


def test_network_is_positively_homogeneous_and_not_linear():
    A = domain((12, 12))
    M = DCD(A, weights=parameters(2))
    r, s = np.random.default_rng(2).standard_normal((2, A.shape[0]))
    for factor in (1e-200, 7.0, 1e200):
        np.testing.assert_allclose(M.matvec(factor * r), factor * M.matvec(r), rtol=1e-6, atol=factor * 1e-6)
    assert abs(M.matvec(r + s) - M.matvec(r) - M.matvec(s)).max() > 1e-3
    assert not M.matvec(0 * r).any()
    np.testing.assert_array_equal(M.matvec(np.stack([r, s])), np.stack([M.matvec(r), M.matvec(s)]))
    np.testing.assert_array_equal(M.as_linear_operator() @ r, M.matvec(r))


def test_with_the_identity_for_a_network_the_iteration_is_conjugate_gradients(monkeypatch):
    A = domain((10, 14))
    b = np.random.default_rng(3).standard_normal(A.shape[0])
    monkeypatch.setattr(DCD, "matvec_rows", lambda self, k, r, z: np.copyto(z, r))
    result = DCD(A, weights=parameters(2)).solve(b, rtol=1e-9, directions=2)
    histories = [result.history, ntsolve.cg(A, b, rtol=1e-9).history]
    assert abs(len(histories[0]) - len(histories[1])) <= 1
    np.testing.assert_allclose(histories[0][:20], histories[1][:20], rtol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (32, 32, 32)])
def test_shipped_network_takes_a_fifth_of_the_iterations(shape):
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = (sum(a**2 for a in axes) < 0.9) & ~((abs(axes[0] - 0.2) < 0.15) & (abs(axes[1]) < 0.3))
    A = Grid.poisson(mask)
    b = np.random.default_rng(4).standard_normal(A.shape[0])
    plain = ntsolve.cg(A, b, rtol=1e-4)
    result = DCD(mask).solve(b, rtol=1e-4, directions=2)
    assert result.success
    assert np.linalg.norm(b - A @ result.x) <= 1e-4 * np.linalg.norm(b)
    assert 5 * result.nit <= plain.nit


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (32, 32, 32)])
def test_shipped_network_takes_a_fifth_of_the_iterations_among_walls_with_little_air(shape):
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    solid = (sum((a - 0.4) ** 2 for a in axes) < 0.04) | ((abs(axes[0] - 0.7) < 0.06) & (axes[1] < 0.6))
    air = axes[-1] > 0.9 + 0.05 * np.sin(6 * axes[0])
    A = Grid.poisson(~(solid | air), solid=solid & ~air, outside="neumann")
    b = np.random.default_rng(4).standard_normal(A.shape[0])
    result = DCD(A).solve(b, rtol=1e-4, directions=2)
    assert result.success
    assert 5 * result.nit <= ntsolve.cg(A, b, rtol=1e-4).nit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_are_right(dtype):
    A = domain((20, 24))
    b = np.random.default_rng(5).standard_normal((2, *A.grid_shape)).astype(dtype)
    rtol = 1e-9 if dtype == "float64" else 1e-4
    exact = np.array([scipy.sparse.linalg.spsolve(A.tocsr().tocsc(), one[A.mask].astype(float)) for one in b])
    M = DCD(A)
    before = b.copy()
    result = M.solve(b, rtol=rtol)
    assert result.success.all()
    assert result.x.dtype == b.dtype
    np.testing.assert_array_equal(b, before)
    error = np.linalg.norm(result.x[:, A.mask] - exact) / np.linalg.norm(exact)
    assert error < 100 * rtol
    assert M.solve(b, x0=result.x, rtol=10 * rtol).nit.max() == 0
    accelerated = ntsolve.cg(A, b[0], M=M, rtol=rtol)
    assert accelerated.success
    assert accelerated.nit < 0.6 * ntsolve.cg(A, b[0], rtol=rtol).nit


@pytest.mark.parametrize(("shape", "share"), [((40, 40), 0.6), ((12, 12, 12), 0.8)])
def test_where_the_network_is_of_no_use_it_takes_the_iterations_of_conjugate_gradients(shape, share):
    A = Grid.poisson(np.random.default_rng(0).random(shape) < share)  # holes everywhere, as it was not trained for
    b = A @ np.random.default_rng(1).standard_normal(A.shape[0])
    M, plain = DCD(A), ntsolve.cg(A, b, rtol=1e-7)
    for result in (M.solve(b, rtol=1e-7), M.solve(b, rtol=1e-7, directions=2), given_up(A, b, M)):
        assert result.success
        assert result.nit <= 1.25 * plain.nit + 4


def given_up(A, b, M):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ntsolve.PerformanceWarning)
        return ntsolve.cg(A, b, M=M, rtol=1e-7)


def test_a_start_does_not_matter_where_the_answer_is_zero():
    A = Grid.poisson(np.ones((8, 8), dtype=bool))
    result = DCD(A).solve(np.zeros(64), np.ones(64))
    assert (result.success, result.nit, result.x.any()) == (True, 0, False)


def test_batch_of_domains_is_each_of_them():
    masks = np.ones((2, 16, 16), dtype=bool)
    masks[0, 4:7, 4:7] = masks[1, 10:, :5] = False
    b = np.random.default_rng(6).standard_normal(masks.shape)
    result = DCD(Grid.poisson(masks, ndim=2)).solve(b, rtol=1e-6)
    assert result.success.all()
    for mask, one, x, nit in zip(masks, b, result.x, result.nit, strict=True):
        alone = DCD(mask).solve(one, rtol=1e-6)
        assert alone.nit == nit
        np.testing.assert_allclose(alone.x, x, rtol=1e-8, atol=1e-10)


def test_each_system_keeps_more_directions_when_it_is_slow():
    A, options = domain((12, 12)), {"rtol": 1e-6, "maxiter": 25, "on_failure": "ignore"}
    M = DCD(A, weights=parameters(2, 1))
    b = np.stack([np.ones(A.shape[0]), np.random.default_rng(9).standard_normal(A.shape[0])])
    together = M.solve(b, **options)
    assert together.nit.max() > 6
    for one, column in zip(b, together.history.T, strict=True):
        alone = M.solve(one, **options)
        np.testing.assert_allclose(alone.history, column[: len(alone.history)], rtol=1e-6)
        two = M.solve(one, directions=2, **options)
        np.testing.assert_allclose(two.history[:5], alone.history[:5], rtol=1e-12)
        assert not np.allclose(two.history[-1], alone.history[-1])


@pytest.mark.parametrize("scale", [1e-250, 1.0, 1e250])
def test_scale_of_the_problem_does_not_matter(scale):
    A = Grid.poisson(np.ones((16, 16), dtype=bool), spacing=1e-3)
    b = np.random.default_rng(7).standard_normal(256)
    result, plain = DCD(A).solve(scale * b, rtol=1e-6), DCD(np.ones((16, 16), dtype=bool)).solve(b, rtol=1e-6)
    assert result.success
    assert abs(result.nit - plain.nit) <= 1
    np.testing.assert_allclose(result.x / scale * 1e6, plain.x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_any_network_gives_a_right_answer_or_says_so(seed):
    A = domain((9, 11), seed)
    size = (1e-3, 1.0, 30.0)[seed % 3]
    b = np.random.default_rng(seed).standard_normal(A.shape[0])
    result = DCD(A, weights=parameters(2, seed, size=size)).solve(b, rtol=1e-6, maxiter=60, on_failure="ignore")
    residual = np.linalg.norm(b - A @ result.x)
    assert result.residual == pytest.approx(residual, rel=1e-6)
    assert result.success == (residual <= 1e-6 * np.linalg.norm(b))
    assert result.success or result.status.name == "MAXITER"
    answer = ntsolve.cg(A, b, M=DCD(A, weights=parameters(2, seed, size=size)), on_failure="ignore")
    assert answer.success == (np.linalg.norm(b - A @ answer.x) <= 1e-5 * np.linalg.norm(b))


def test_it_ends_when_asked_to():
    A = domain((16, 16))
    M, b = DCD(A), np.ones(A.shape[0])
    seen = []
    stopped = M.solve(b, rtol=1e-12, callback=lambda state: seen.append(state.residual) or len(seen) == 2)
    assert (stopped.status.name, stopped.nit, len(stopped.history)) == ("CALLBACK_STOP", 2, 3)
    assert M.solve(b, maxiter=1, rtol=1e-12, on_failure="ignore").status.name == "MAXITER"
    assert M.solve(b, time_limit=0.0, on_failure="ignore").status.name == "TIME_LIMIT"
    with pytest.raises(ntsolve.ConvergenceError, match="maxiter"):
        M.solve(b, maxiter=1, rtol=1e-12, on_failure="raise")
    with pytest.warns(ntsolve.PrecisionWarning):
        assert M.solve(b, rtol=0.0).status.name == "STALLED"
    zero = M.solve(0 * b)
    assert (zero.success, zero.nit, zero.x.any()) == (True, 0, False)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_cuda_twin_gives_the_same(backend):
    mask = np.ones((7, 9), dtype=bool)
    mask[2:4, 3] = False
    b = np.random.default_rng(8).standard_normal(mask.shape)
    weights = parameters(2, channels=(3, 3))
    on_cpu = DCD(mask, weights=weights).matvec(b)
    M = DCD(to_device(mask, backend), weights=weights)
    np.testing.assert_allclose(to_host(M.matvec(to_device(b, backend))), on_cpu, atol=1e-5 * abs(on_cpu).max())
    options = {"rtol": 1e-6, "maxiter": 4, "on_failure": "ignore"}
    there, here = M.solve(to_device(b, backend), **options), DCD(mask, weights=weights).solve(b, **options)
    assert (there.backend, there.nit) == ("cuda", here.nit)
    np.testing.assert_allclose(to_host(there.x), here.x, atol=1e-4 * abs(here.x).max())


def test_shipped_files_are_small_and_plain():
    for dim in (2, 3):
        found = dcd_network.shipped(dim)
        assert 4 * sum(value.size for value in found.values()) < 2e6
        assert DCD(np.ones((8,) * dim, dtype=bool)).parameters == sum(value.size for value in found.values())


def test_a_matrix_of_a_grid_will_do():
    A = Grid.poisson(np.ones((8, 9), dtype=bool))
    assert DCD(A.tocsr()).A.grid_shape == A.grid_shape


def test_bad_input_is_refused_by_name(tmp_path):
    mask = np.ones((8, 8), dtype=bool)
    good = parameters(2)
    with pytest.raises(ValueError, match=r"A must .* coefficients"):
        DCD(Grid.diffusion(np.linspace(1, 2, 64).reshape(8, 8)))
    with pytest.raises(ValueError, match="A must not have periodic"):
        DCD(Grid.poisson(mask, periodic=(True, False)))
    with pytest.raises(TypeError, match="blocks must be"):
        DCD(mask, blocks="auto")
    with pytest.raises(TypeError, match="weights must be"):
        DCD(mask, weights=3)
    with pytest.raises(ValueError, match="a network for 2 axes is needed"):
        DCD(mask, weights=parameters(3))
    with pytest.raises(ValueError, match=r"weights: .* lacks"):
        DCD(mask, weights={key: value for key, value in good.items() if "gate" not in key})
    for bad in (np.nan, 1e6):
        with pytest.raises(ValueError, match=r"weights: .* NaN or numbers beyond"):
            DCD(mask, weights=good | {"levels.1.gate.bias": np.full(6, bad)})
    with pytest.raises(ValueError, match=r"levels.1.gate.bias .* shape \(5,\)"):
        DCD(mask, weights=good | {"levels.1.gate.bias": np.zeros(5)})
    with pytest.raises(ValueError, match="dtype"):
        DCD(mask, weights=good | {"levels.1.gate.bias": np.zeros(6, dtype=int)})
    path = tmp_path / "weights.npz"
    np.savez(path, **good)
    DCD(mask, weights=path)
    np.savez(path, evil=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"not an \.npz file of plain arrays"):
        DCD(mask, weights=path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        DCD(mask, weights=str(path))
    M = DCD(mask, weights=good)
    with pytest.raises(ValueError, match="b has shape"):
        M.solve(np.ones(63))
    with pytest.raises(ValueError, match="b contains NaN"):
        M.solve(np.full(64, np.nan))
    with pytest.raises(ValueError, match="rtol"):
        M.solve(np.ones(64), rtol=-1)
    for bad in (-1, "all"):
        with pytest.raises(ValueError, match="directions"):
            M.solve(np.ones(64), directions=bad)
    with pytest.raises(ValueError, match="r has shape"):
        M.matvec(np.ones(63))
