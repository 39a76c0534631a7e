"""Polishing makes feasible what is not, leaves the rest alone, and claims no more than the errors say."""

import dataclasses

import numpy as np
import pytest

from ntsolve.dispatch import kernels_for
from ntsolve.fixedpoint.kkt import errors_of
from ntsolve.fixedpoint.pdhg import Iteration
from ntsolve.fixedpoint.polish import Polish, mended
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.scaled import scale
from ntsolve.kernels.contracts.lp import TOTAL
from tests.backends import BACKENDS, to_device, to_host

TOL = 1e-4


def lagging_x(rng):
    """(program, x, y): every feasible x is optimal, as c = A'y, and x is not feasible, but has the optimal value."""
    A, inside, y = rng.standard_normal((4, 9)), rng.uniform(1, 2, 9), rng.standard_normal(4)
    c, off = A.T @ y, 0.1 * rng.standard_normal(9)
    off -= c * (c @ off) / (c @ c)
    b = A @ inside
    return Program.from_matrix(c, A, b, b, np.zeros(9), np.full(9, np.inf)), inside + off, y


def lagging_y(rng):
    """(program, x, y): sides and bounds are zero, so that every feasible y is optimal; y is not feasible."""
    A, y = rng.standard_normal((4, 9)), rng.uniform(0.5, 1.5, 4)
    c = A.T @ y + rng.uniform(0, 0.02, 9)
    program = Program.from_matrix(c, A, np.zeros(4), np.full(4, np.inf), np.zeros(9), np.full(9, np.inf))
    return program, np.zeros(9), y + 0.1 * rng.uniform(0, 1, 4)


def begun(k, program, x, y, backend):
    """An iteration that has come to (x, y) after some thousand steps."""
    on_device = {f.name: to_device(getattr(program, f.name), backend) for f in dataclasses.fields(program)}
    scaled = scale(k, dataclasses.replace(program, **on_device))
    x, y = (to_device(v[None], backend) / unit for v, unit in ((x, scaled.x_unit), (y, scaled.y_unit)))
    iteration = Iteration(k, scaled, x, y, TOL)
    iteration.state[0, TOTAL] = 64 * 25 * 12
    iteration.look()
    return iteration


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [lagging_x, lagging_y])
def test_what_lags_is_made_feasible_and_the_other_stays(make, backend):
    program, x, y = make(np.random.default_rng(0))
    assert not errors_of(program, x, y).meets(TOL)
    with kernels_for(x=to_device(x, backend)) as k:
        iteration = begun(k, program, x, y, backend)
        polish = Polish(k, iteration.scaled)
        assert polish.make(iteration, lambda: True)
        assert (polish.wins, iteration.running.any()) == (1, False)
        got = [to_host(v)[0] for v in iteration.point()]
    assert errors_of(program, *got).meets(1.001 * TOL)
    assert [np.allclose(a, b, rtol=1e-14) for a, b in zip(got, (x, y), strict=True)] == [
        make is lagging_y,
        make is lagging_x,
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_are_mended_at_no_cost_to_the_others(backend):
    """One row of four is off; the others are met, or off as well and content with that."""
    program, x, y = lagging_x(np.random.default_rng(1))
    A = program.matrix().toarray()
    rows = np.array([True, False, False, False])
    off = abs(A @ x - program.row_lower)
    with kernels_for(x=to_device(x, backend)) as k:
        iteration = begun(k, program, x, y, backend)
        moved, errors = mended(k, iteration.scaled, iteration, rows, 1e-6)
        got = to_host(moved * iteration.scaled.x_unit)[0]
        assert np.allclose(to_host(iteration.point()[0])[0], x, rtol=1e-14)
    left = abs(A @ got - program.row_lower)
    assert left[0] <= 0.1 * off[0]
    assert (left[1:] <= off[1:] + 0.1 * off[0]).all()
    assert errors[:3] == pytest.approx(list(dataclasses.astuple(errors_of(program, got, y))[:3]), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("hindrance", ["told to stop", "too few steps so far", "the gap is open"])
def test_otherwise_nothing_changes(hindrance):
    program, x, y = lagging_x(np.random.default_rng(0))
    if hindrance == "the gap is open":
        x = 1.1 * x
    with kernels_for(x=x) as k:
        iteration = begun(k, program, x, y, "cpu")
        if hindrance == "too few steps so far":
            iteration.state[0, TOTAL] = 512
            iteration.look()
        polish, before = Polish(k, iteration.scaled), iteration.rows.copy()
        assert not polish.make(iteration, lambda: hindrance != "told to stop")
        assert (polish.wins, polish.steps, iteration.running.all()) == (0, 0, True)
        assert polish.next > iteration.nit[0]
        assert np.array_equal(iteration.rows, before)
        assert np.allclose(iteration.point()[0][0], x, rtol=1e-14)
