"""The scenes of constrained optimization: what their tables say is so, and their derivatives are derivatives."""

import numpy as np
import pytest
import scipy.sparse as sp

from ntsolve import __main__ as command
from ntsolve import demo
from ntsolve.demo import constrained_regression as regression
from ntsolve.demo import control


def same_as_differences(gradient, of, x, h=1e-6):
    """Along a random direction."""
    v = np.random.default_rng(0).standard_normal(x.size)
    v /= np.linalg.norm(v)
    expected = (np.asarray(of(x + h * v)) - np.asarray(of(x - h * v))) / (2 * h)
    np.testing.assert_allclose(gradient @ v, expected, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def diagnosis():
    pytest.importorskip("sklearn")
    return regression.diagnosis()


def test_the_derivatives_of_the_regression_are_right(diagnosis):
    w = np.random.default_rng(1).standard_normal(diagnosis.n) / 5
    same_as_differences(diagnosis.gradient(w), lambda x: diagnosis.loss(x)[0], w)
    same_as_differences(diagnosis.jacobian(w), diagnosis.violation, w)
    same_as_differences(diagnosis.hessian(w), diagnosis.gradient, w)
    same_as_differences(diagnosis.product_with_hessian(w), diagnosis.gradient, w)
    ridged = regression.Regression(sp.csr_array(diagnosis.X), diagnosis.y, diagnosis.A, diagnosis.b, 1.0, w, 0.3)
    same_as_differences(ridged.gradient(w), lambda x: ridged.loss(x)[0], w)
    same_as_differences(ridged.hessian(w), ridged.gradient, w)


def test_the_table_of_the_regression_is_true(diagnosis):
    table = demo.load("constrained_regression").run(demo.Options(quick=True))
    result = regression.solve(diagnosis)
    assert result.success
    assert result.nit == table.entries[0].iterations
    w = result.x
    np.testing.assert_allclose(w[:10], w[20:30], atol=1e-8)  # mean and worst value weigh the same
    assert w @ w == pytest.approx(regression.LENGTH**2)
    assert [entry.peer for entry in table.entries] == [False, True, True]
    assert table.entries[0].error == pytest.approx(diagnosis.residual(w), abs=1e-9)
    assert all(entry.error <= 10 * regression.TOL for entry in table.entries)
    right = np.mean((diagnosis.X @ w > 0) == (diagnosis.y > 0))
    assert any(f"{right:.1%} of the cases" in note for note in table.notes)


def test_all_methods_of_the_regression_find_the_same_weights(diagnosis):
    w = regression.solve(diagnosis).x
    np.testing.assert_allclose(regression.trust_constr(diagnosis)[0], w, atol=1e-5)
    np.testing.assert_allclose(regression.slsqp(diagnosis)[0], w, atol=1e-4)


def test_the_table_of_the_plate_is_true():
    table = control.run(demo.Options(quick=True))
    plate = control.HeatedPlate(11)
    for entry, inner in zip(table.entries, ("reduced", "splu"), strict=False):
        result = control.solve(plate, inner)
        assert result.success
        assert entry.iterations == result.nit
        assert plate.residual(result.x) <= 10 * control.TOL
    assert table.entries[-1].peer
    assert f"{plate.start.size:,} unknowns" in table.title


def test_the_derivatives_of_the_plate_are_right():
    plate = control.HeatedPlate(6)
    x = np.random.default_rng(2).standard_normal(plate.start.size)
    v = np.random.default_rng(3).standard_normal(plate.points)
    same_as_differences(plate.gradient(x), plate.objective, x)
    same_as_differences(plate.jacobian(x), plate.equation, x)
    same_as_differences(plate.hessian(x), plate.gradient, x)
    same_as_differences(plate.equation_hessian(x, v), lambda z: plate.jacobian(z).T @ v, x)


@pytest.mark.parametrize("scene", ["control", "constrained_regression"])
def test_a_scene_prints_its_table_and_writes_a_picture(scene, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    picture = tmp_path / "out.png"
    assert command.main(["demo", "--scene", scene, "--quick", "--plot", str(picture)]) == 0
    assert "scipy trust-constr" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
