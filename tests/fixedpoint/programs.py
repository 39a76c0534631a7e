"""Linear programs for the tests, and what HiGHS says of them."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from ntsolve.dispatch import kernels_for
from ntsolve.fixedpoint import newtonsystem
from ntsolve.fixedpoint.kkt import errors_of
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.scaled import scale

OPTIMAL, INFEASIBLE, UNBOUNDED = 0, 2, 3


def highs(program):
    """(HiGHS' status as SciPy's number, objective)"""
    rows = LinearConstraint(program.matrix(), program.row_lower, program.row_upper) if program.m else ()
    found = milp(program.c, constraints=rows, bounds=Bounds(program.lower, program.upper))
    return found.status, None if found.fun is None else found.fun + program.offset


def highs_pair(program):
    """(x, y) by HiGHS' simplex method; y as here: positive pays the lower side."""
    A = program.matrix()
    equal = program.row_lower == program.row_upper
    most, least = np.isfinite(program.row_upper) & ~equal, np.isfinite(program.row_lower) & ~equal
    found = linprog(
        program.c,
        A_ub=sp.vstack([A[most], -A[least]], format="csr"),
        b_ub=np.concatenate([program.row_upper[most], -program.row_lower[least]]),
        A_eq=A[equal],
        b_eq=program.row_upper[equal],
        bounds=np.column_stack([program.lower, program.upper]),
        method="highs-ds",
    )
    assert found.status == 0, found.message
    y = np.zeros(program.m)
    y[equal] = found.eqlin.marginals
    split = int(most.sum())
    y[most] += found.ineqlin.marginals[:split]
    y[least] -= found.ineqlin.marginals[split:]
    return found.x, y


def random_program(rng, m=12, n=10, *, singles=0.4, fixed=0.15, density=0.3):
    """Feasible and bounded, with rows of one entry and of none, fixed and free columns, ranges, equations."""
    A = sp.random_array((m, n), density=density, rng=rng, format="lil")
    A[A.nonzero()] = np.round(4 * rng.standard_normal(A.nnz)) / 2
    A = A.toarray()
    for i in np.flatnonzero(rng.random(m) < singles):
        A[i] = 0
        A[i, rng.integers(n)] = rng.choice([-2.0, -1.0, 0.5, 3.0])
    A[rng.integers(m)] = 0
    x = np.round(2 * rng.standard_normal(n))
    kind = rng.integers(0, 4, n)
    lower = np.where(kind == 1, -np.inf, x - rng.integers(0, 2, n))
    upper = np.where(kind >= 2, np.inf, x + rng.integers(0, 2, n))
    lower, upper = np.where(rng.random(n) < fixed, x, lower), np.where(rng.random(n) < fixed, x, upper)
    activity = A @ x
    kind = rng.integers(0, 4, m)
    row_lower = np.where(kind == 1, -np.inf, activity - (kind != 0) * rng.integers(0, 2, m))
    row_upper = np.where(kind == 2, np.inf, activity + (kind != 0) * rng.integers(0, 2, m))
    # costs that some multipliers justify, so that there is an optimum
    y = np.round(rng.standard_normal(m)) * rng.integers(0, 2, m)
    y = np.where(np.isinf(row_lower), np.minimum(y, 0), np.where(np.isinf(row_upper), np.maximum(y, 0), y))
    z = np.round(2 * rng.standard_normal(n))
    z = np.where(np.isinf(lower), np.minimum(z, 0), z)
    z = np.where(np.isinf(upper), np.maximum(z, 0), z)
    return Program.from_matrix(A.T @ y + z, sp.csr_array(A), row_lower, row_upper, lower, upper, 1.5)


def transport_program(side, rng):
    """A transportation problem: its rows depend on each other, and many vertices are degenerate."""
    rows = sp.vstack([sp.kron(sp.eye_array(side), np.ones((1, side))), sp.kron(np.ones((1, side)), sp.eye_array(side))])
    sides = rng.integers(1, 4, 2 * side).astype(float)
    sides[side:] *= sides[:side].sum() / sides[side:].sum()
    n = side * side
    return Program.from_matrix(rng.random(n), rows, sides, sides, np.zeros(n), np.full(n, np.inf))


def programs_of_two_kinds(count):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield random_program(rng, 25, 30, singles=0.1) if seed % 2 else transport_program(8, rng)


def badly_scaled_program(rng):
    program = random_program(rng, 20, 25)
    r, s = 10.0 ** rng.integers(-3, 4, program.m), 10.0 ** rng.integers(-3, 4, program.n)
    A = sp.diags_array(r) @ program.matrix() @ sp.diags_array(1 / s)
    sides = program.row_lower * r, program.row_upper * r, program.lower * s, program.upper * s
    return Program.from_matrix(program.c / s, A, *sides)


def assert_optimal(program, x, y):
    errors, (status, objective) = errors_of(program, x, y), highs(program)
    assert errors.meets(1e-8)
    assert status == OPTIMAL
    assert errors.primal_objective == pytest.approx(objective, rel=1e-7, abs=1e-7)


# ---- what the methods that finish a program are given ---------------------------------------------------------------


def scaled_item(program):
    with kernels_for(c=program.c) as k:
        return scale(k, program).item(k, 0)


def start(scaled):
    return np.clip(0.0, scaled.lower, scaled.upper), np.zeros(scaled.row_lower.size)


SYSTEMS = {
    "dense": {},
    "sparse": {"FEW_ROWS": 0, "NEARLY_FULL": 2.0, "SECONDS_A_DENSE": math.inf},
    "sparse, its products not kept": {"FEW_ROWS": 0, "NEARLY_FULL": 2.0, "SECONDS_A_DENSE": math.inf, "MOST_KEPT": 0},
    "nearly full": {"FEW_ROWS": 0, "NEARLY_FULL": 0.0, "SECONDS_A_DENSE": math.inf},
}


def take_system(monkeypatch, name):
    """Have Newton systems solved in one of these ways, whatever their size."""
    for setting, value in SYSTEMS[name].items():
        monkeypatch.setattr(newtonsystem, setting, value)
