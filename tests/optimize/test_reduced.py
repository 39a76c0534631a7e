"""inner="reduced": Newton systems solved in the space of the controls agree with those solved whole."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import LinearConstraint
from scipy.sparse.linalg import LinearOperator, splu

import ntsolve
from ntsolve.demo.control import HeatedPlate


def solve(plate, **options):
    return ntsolve.minimize(plate.objective, plate.start, jac=plate.gradient, hess=plate.hessian,
                            **{"constraints": plate.constraint} | options)  # fmt: skip


class StateSolve:
    """The inverse of the state Jacobian of a plate, which counts how often it is made."""

    def __init__(self, plate):
        self.plate, self.made = plate, []

    def __call__(self, x):
        self.made.append(x.tobytes())
        factors = splu(self.plate.jacobian(x)[:, : self.plate.points].tocsc())
        n = self.plate.points
        return LinearOperator((n, n), matvec=factors.solve, rmatvec=lambda r: factors.solve(r, "T"), dtype=float)


@pytest.fixture(scope="module")
def plate():
    return HeatedPlate(13)


@pytest.fixture(scope="module")
def whole(plate):
    """By a sparse factorisation of the whole system."""
    result = solve(plate, inner="splu")
    assert result.success
    return result


@pytest.mark.parametrize("form", ["sparse", "dense", "state solve", "operators"])
def test_it_finds_what_a_factorisation_of_the_whole_finds(plate, whole, form):
    options = {"inner": "reduced"}
    if form != "sparse":
        options["state_solve"] = StateSolve(plate)
    if form == "dense":
        constraint = {"type": "eq", "fun": plate.equation, "jac": lambda x: plate.jacobian(x).toarray(),
                      "hess": lambda x, v: plate.equation_hessian(x, v).toarray()}  # fmt: skip
        options |= {"constraints": constraint, "state_solve": None}
    if form == "operators":
        def jacobian(x):
            J = plate.jacobian(x)
            return LinearOperator(J.shape, matvec=J.__matmul__, rmatvec=J.T.__matmul__, dtype=float)

        options["constraints"] = {"type": "eq", "fun": plate.equation, "jac": jacobian, "hess": plate.equation_hessian}
    result = solve(plate, **options)
    assert result.success
    assert result.inner == "reduced"
    assert plate.residual(result.x) <= 1e-7
    np.testing.assert_allclose(result.x, whole.x, atol=1e-6)
    assert result.nit <= whole.nit + 4
    if options.get("state_solve"):
        made = options["state_solve"].made
        assert len(made) == len(set(made))  # once a point


def test_a_state_solve_is_what_auto_takes(plate):
    assert solve(plate, state_solve=StateSolve(plate)).inner == "reduced"


def test_scaled_constraints_are_solved_as_they_are(plate, whole):
    """Rows of the Jacobian beyond 100 are scaled inside; the state solve is the user's, and knows nothing of that."""
    assert abs(plate.jacobian(plate.start)).max() > 100
    factor = 1e3
    steep = {"type": "eq", "fun": lambda x: factor * plate.equation(x), "jac": lambda x: factor * plate.jacobian(x),
             "hess": lambda x, v: factor * plate.equation_hessian(x, v)}  # fmt: skip

    def state_solve(x):
        inner = StateSolve(plate)(x)
        return LinearOperator(inner.shape, matvec=lambda r: inner.matvec(r / factor),
                              rmatvec=lambda r: inner.rmatvec(r) / factor, dtype=float)  # fmt: skip

    result = solve(plate, constraints=steep, state_solve=state_solve, tol=1e-6)
    assert result.success
    np.testing.assert_allclose(result.x, whole.x, atol=1e-6)


def test_negative_curvature_in_the_controls_is_met():
    """f = -z^2 + z^4 / 2 - w: from z near 0, where it bends down, to a minimum."""
    m = 5
    f = lambda x: np.sum(-(x[m:] ** 2) + 0.5 * x[m:] ** 4) - np.sum(x[:m])
    g = lambda x: np.concatenate([-np.ones(m), -2 * x[m:] + 2 * x[m:] ** 3])
    h = lambda x: sp.diags_array(np.concatenate([np.zeros(m), -2 + 6 * x[m:] ** 2])).tocsr()
    A = sp.diags_array([-1.0, 3.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    J = sp.hstack([A, -sp.eye_array(m)], format="csr")
    constraint = LinearConstraint(J, 0, 0)
    x0 = np.concatenate([np.zeros(m), np.full(m, 0.01)])
    result = ntsolve.minimize(f, x0, jac=g, hess=h, constraints=constraint, inner="reduced")
    assert result.success
    assert (np.linalg.eigvalsh(h(result.x).toarray()[m:, m:]) > 0).all()


def test_a_user_s_preconditioner_is_for_the_controls(plate, whole):
    n = plate.points
    result = solve(plate, inner="reduced", precond=np.eye(n) / 0.2)
    assert result.success
    np.testing.assert_allclose(result.x, whole.x, atol=1e-6)
    with pytest.raises(ValueError, match="precond has shape"):
        solve(plate, inner="reduced", precond=np.eye(2 * n))


def test_what_is_no_state_solve_is_named(plate):
    with pytest.raises(TypeError, match="state_solve returned ndarray"):
        solve(plate, state_solve=lambda x: np.eye(plate.points))
    short = LinearOperator((3, 3), matvec=lambda r: r[:3], rmatvec=lambda r: r[:3], dtype=float)
    with pytest.raises(ValueError, match="state_solve"):
        solve(plate, state_solve=lambda x: short)
    with pytest.raises(TypeError, match="state_solve must be callable"):
        solve(plate, state_solve=3)


def test_more_constraints_than_variables_are_refused():
    with pytest.raises(ValueError, match="as many variables as constraints"):
        ntsolve.minimize(lambda x: 0.0, [1.0], jac=np.zeros_like, hess=lambda x: np.zeros((1, 1)), inner="reduced",
                         constraints=LinearConstraint([[1.0], [2.0]], 0, 0))  # fmt: skip


def test_a_saddle_is_left():
    """f = |x|^2 - 2 x_n^2 + x_n^4 has one where x_n = 0, and steps from there lead nowhere else."""
    n = 60
    f = lambda x: np.sum(x**2) - 2 * x[-1] ** 2 + x[-1] ** 4
    g = lambda x: 2 * x + np.append(np.zeros(n - 1), -4 * x[-1] + 4 * x[-1] ** 3)
    h = lambda x: sp.diags_array(np.append(np.full(n - 1, 2.0), -2 + 12 * x[-1] ** 2)).tocsr()
    row = np.zeros((1, n))
    row[0, :2] = 1.0
    x0 = np.append(np.ones(n - 1), 0.0)
    for inner in ("reduced", "minres", "ldl", "splu"):
        constraint = LinearConstraint(sp.csr_array(row) if inner == "splu" else row, 2.0, 2.0)
        result = ntsolve.minimize(f, x0, jac=g, hess=h, constraints=constraint, inner=inner)
        assert result.success, inner
        assert abs(abs(result.x[-1]) - np.sqrt(0.5)) < 1e-6, inner


def test_without_constraints_there_is_no_state():
    with pytest.raises(ValueError, match="need constraints"):
        ntsolve.minimize(lambda x: x @ x, np.ones(3), jac=lambda x: 2 * x, hess=lambda x: np.eye(3), inner="reduced")
