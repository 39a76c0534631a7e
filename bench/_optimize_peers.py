"""The peers of `ntsolve.minimize`, with exact derivatives each, and the residual that every answer is judged by."""

import contextlib
import importlib.util
import io

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from ntsolve.demo import need

TOL = 1e-8
MOST_ITERATIONS = 500
RANK = 1e-10  # singular values of J below this part of the largest count as zero


def multipliers(J, g, inverse=None):
    """argmin |g + J'v|_2: of a dense J by LAPACK, else by conjugate gradients on J J'v = -J g with refinement.

    `inverse` is applied as a preconditioner, an approximation of (J J')^-1.
    """
    if isinstance(J, np.ndarray):
        return np.linalg.lstsq(J.T, -g, rcond=RANK)[0]
    m, v = J.shape[0], np.zeros(J.shape[0])
    gram = scipy.sparse.linalg.LinearOperator((m, m), matvec=lambda u: J @ (J.T @ u), dtype=float)
    M = None if inverse is None else scipy.sparse.linalg.LinearOperator((m, m), matvec=inverse, dtype=float)
    for _ in range(4):
        v = v + scipy.sparse.linalg.cg(gram, -(J @ (g + J.T @ v)), rtol=1e-6, maxiter=500, M=M)[0]
    return v


def kkt_residual(g, c, J, inverse=None):
    """max(|g + J'v|, |c|), largest entries, with the multipliers of least squares: the same code for every method."""
    v = multipliers(J, g, inverse)
    return max(float(np.abs(g + J.T @ v).max()), float(np.abs(c).max(initial=0.0)))


def trust_constr(fun, x0, jac, hess, constraint, *, sparse=False):
    """(x, iterations) by SciPy."""
    options = {"gtol": TOL, "xtol": 1e-14, "maxiter": 10 * MOST_ITERATIONS, "sparse_jacobian": sparse}
    found = scipy.optimize.minimize(fun, x0, jac=jac, hess=hess, constraints=constraint, method="trust-constr",
                                    options=options)  # fmt: skip
    return found.x, found.nit


def slsqp(fun, x0, jac, constraint_fun, constraint_jac, done):
    """(x, iterations) by SciPy, stopped where done(x): its own test is on the change of f, not on the residual."""
    equal = {"type": "eq", "fun": constraint_fun, "jac": constraint_jac}
    seen = []

    def look(x):
        seen.append(x.copy())
        if done(x):
            raise _Done

    try:
        found = scipy.optimize.minimize(fun, x0, jac=jac, constraints=equal, method="SLSQP", callback=look,
                                        options={"ftol": 1e-16, "maxiter": MOST_ITERATIONS})  # fmt: skip
    except _Done:
        return seen[-1], len(seen)
    return found.x, found.nit


class _Done(Exception):
    """Out of SLSQP, by the callback."""


# ---- IPOPT -----------------------------------------------------------------------------------------------------------


def casadi(quick):
    """The package, or None in a quick run where it is not installed."""
    if quick and importlib.util.find_spec("casadi") is None:
        return None
    (ca,) = need("casadi")
    if hasattr(ca.GlobalOptions, "setNumpyMode"):
        ca.GlobalOptions.setNumpyMode(-1)  # NumPy's functions of expressions as ever, without a warning
    return ca


class Ipopt:
    """IPOPT through CasADi, which compiles nothing but evaluates the expressions without Python.

    Parameters
    ----------
    ca : module
    x, f, g
        Expressions: min f subject to g = 0.
    more : dict, optional
        Of CasADi's options, such as a Hessian that is better than the one it would derive.
    """

    def __init__(self, ca, x, f, g, more=None):
        ipopt = {"tol": TOL, "dual_inf_tol": TOL, "constr_viol_tol": TOL, "acceptable_iter": 0, "print_level": 0,
                 "max_iter": MOST_ITERATIONS, "sb": "yes"}  # fmt: skip
        options = {"print_time": False, "show_eval_warnings": False, "error_on_fail": False, "ipopt": ipopt}
        self._solver = ca.nlpsol("solver", "ipopt", {"x": x, "f": f, "g": g}, options | (more or {}))

    def __call__(self, x0):
        """(x, iterations)"""
        found = self._solver(x0=x0, lbg=0, ubg=0)
        return np.array(found["x"]).reshape(-1), self._solver.stats()["iter_count"]


def ipopt_version(ca):
    """What IPOPT says of itself."""
    said = io.StringIO()
    x = ca.SX.sym("x")
    with contextlib.redirect_stdout(said):
        ca.nlpsol("s", "ipopt", {"x": x, "f": x**2}, {"print_time": False})(x0=1)
    line = next((line for line in said.getvalue().splitlines() if "Ipopt version" in line), "IPOPT")
    return f"{line.replace('This is ', '').rstrip('.')} through CasADi {ca.__version__}"
