"""Linear programs for the tests, and what HiGHS says of them."""

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from ntsolve.fixedpoint.program import Program

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
