"""The scene `transportation`: its bounds are bounds, its table is true, its picture is drawn."""

import numpy as np
import pytest
import scipy.optimize

from ntsolve import __main__ as command
from ntsolve import demo


@pytest.fixture
def scene():
    pytest.importorskip("sklearn")
    return demo.load("transportation")


def test_its_table_is_true(scene):
    table = scene.run(demo.Options(quick=True))
    assert [entry.peer for entry in table.entries] == [False, True, True]
    assert all(0 <= entry.error <= scene.GAP for entry in table.entries)
    assert "1,050 unknowns, 65 constraints" in table.title


def test_its_bounds_hold_whatever_they_are_made_of(scene):
    problem = scene.Transportation(*scene.load_pages(1))
    best = scipy.optimize.linprog(problem.C.ravel(), A_eq=problem.A, b_eq=problem.sides)
    rng = np.random.default_rng(0)
    for size in (0.0, 1e-3, 1.0):
        x = best.x + size * rng.standard_normal(best.x.size) * best.x.max()
        y = best.eqlin.marginals + size * rng.standard_normal(problem.sides.size)
        low, high = problem.bounds(x, y)
        assert low <= best.fun * (1 + 1e-12)
        assert high >= best.fun * (1 - 1e-12)
        assert size or high - low <= 1e-12


def test_its_map_does_not_expand_in_its_metric(scene):
    problem = scene.Transportation(*scene.load_pages(1))
    T, metric, start = scene.primal_dual_map(problem)
    rng = np.random.default_rng(0)

    def size(z):
        return sum(v @ w for v, w in zip(z, metric(z), strict=True))

    for _ in range(5):
        z, w = ([rng.standard_normal(v.size) for v in start] for _ in range(2))
        before = [a - b for a, b in zip(z, w, strict=True)]
        after = [a - b for a, b in zip(T(z), T(w), strict=True)]
        assert 0 < size(after) <= size(before) * (1 + 1e-12)


def test_it_draws(scene, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scene, "EVALUATIONS", 300)
    picture = tmp_path / "out.png"
    assert command.main(["demo", "--scene", "transportation", "--quick", "--plot", str(picture)]) == 0
    assert "ntsolve.linprog" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_restarts_beat_picard_and_halpern_in_its_picture(scene, monkeypatch):
    monkeypatch.setattr(scene, "EVALUATIONS", 2000)
    curves = scene.convergence(scene.Transportation(*scene.load_pages(1)))
    picard, halpern, restarted = (curve[min(len(curve), 1900) - 1] for curve in curves.values())
    assert restarted < 0.1 * picard < 0.1 * halpern
