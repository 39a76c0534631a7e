"""Many small problems of one structure, solved together.

Their functions are in manyfunctions.py, and the method, that of `minimize` with inner="ldl", in manynewton.py.
"""

import warnings

import numpy as np

from .. import validate
from ..errors import PerformanceWarning
from ..monitor import Monitor
from ..result import Status
from .manyfunctions import Functions
from .manykkt import transposed_product
from .manynewton import ManyNewton
from .result import ADVICE, MinimizeResult, PerConstraint


def solve(k, fun, x0, *, own, jac, hess, constraints, args, lam0, tol, maxiter, options):
    """Solve a batch, for `minimize`; `k` are the kernels that own x0 (..., n)."""
    if not all(x0.shape):
        raise ValueError(f"x0 has shape {tuple(x0.shape)}: an empty batch, or no variables")
    functions = Functions(k, fun, x0, jac, hess, constraints, args)
    if functions.missing:
        warnings.warn(f"minimize: differences stand in for {', '.join(functions.missing)}, at the cost of many more "
                      "evaluations", PerformanceWarning, stacklevel=3)  # fmt: skip
    lam = None
    if lam0 is not None:
        if isinstance(lam0, PerConstraint):  # a result's v
            lam0 = k.xp.concatenate(list(lam0), axis=-1)
        lam0 = validate.numeric("lam0", validate.own_kind("lam0", lam0)[0], check=options.check)
        lam = k.xp.asarray(lam0, dtype="float64")
        if lam.shape not in ((functions.m,), (*functions.shape, functions.m)):
            raise ValueError(f"lam0 has shape {tuple(lam.shape)}, the constraints {(*functions.shape, functions.m)}")
        lam = k.xp.broadcast_to(lam, (*functions.shape, functions.m)).reshape(-1, functions.m)
        lam = functions.multipliers_in(lam)
    outer = ManyNewton(k, functions, functions.flat(x0), lam, tol=tol)
    with Monitor("minimize", maxiter=maxiter, time_limit=options.time_limit, callback=options.callback,
                 began=options.began, verbose=options.verbose, target=np.full(functions.batch, tol),
                 start=outer.residual, shape=functions.shape,
                 solution=lambda: own(functions.restored(outer.whole("x")).astype(x0.dtype))) as watch:  # fmt: skip
        outer.run(watch)
        return _result(k, functions, outer, x0, own, tol, watch)


def _result(k, functions, outer, x0, own, tol, watch):
    """The residual is recomputed from the user's functions at the x that is returned, in its own dtype."""
    shape, xp = functions.shape, k.xp
    x = functions.restored(outer.whole("x")).astype(x0.dtype)
    v = outer.multipliers()
    functions.f_scale[...], functions.c_scale[...] = 1.0, 1.0
    at = functions.flat(x)
    f, c = functions.values(at)
    g, J = functions.derivatives(at)
    gradient = g + transposed_product(J, v)
    with np.errstate(all="ignore"):
        optimality = k.to_host(abs(gradient).max(axis=1))
        violation = k.to_host(abs(c).max(axis=1)) if functions.m else np.zeros(functions.batch)
        residual = np.maximum(optimality, violation)
    status = outer.whole("status")
    good = (residual <= tol) & np.isfinite(k.to_host(f))
    status[(status == Status.CONVERGED) & ~good] = Status.STALLED
    success = status == Status.CONVERGED
    worst = Status(int(status[~success].min())) if not success.all() else Status.CONVERGED
    message = ADVICE.get(worst, worst.advice)
    if not success.all():
        message = f"{int((~success).sum())} of {success.size} problems failed. {message}"
    parts = lambda array: PerConstraint(array[..., low:high] for low, high in functions.spans)
    return MinimizeResult(
        x=own(x),
        success=success.reshape(shape),
        status=status.reshape(shape),
        message=message,
        nit=outer.whole("nit").reshape(shape),
        residual=residual.reshape(shape),
        history=watch.history,
        elapsed=watch.elapsed,
        backend=k.NAME,
        fun=f.reshape(shape),
        grad=functions.restored(g),
        lagrangian_grad=functions.restored(gradient),
        optimality=optimality.reshape(shape),
        constr_violation=violation.reshape(shape),
        constr=parts((c + functions.targets(xp)).reshape(*shape, functions.m)),
        jac=PerConstraint(J[:, low:high].reshape(*shape, high - low, functions.n) for low, high in functions.spans),
        v=parts(v.reshape(*shape, functions.m)),
        nfev=functions.nfev,
        njev=functions.njev,
        nhev=functions.nhev,
        constr_nfev=PerConstraint([functions.nfev] * len(functions.blocks)),
        constr_njev=PerConstraint([functions.njev] * len(functions.blocks)),
        constr_nhev=PerConstraint([functions.nhev] * len(functions.blocks)),
        inner="ldl",
        products=0,
        factorizations=outer.factorizations,
        inner_iterations=0,
        rank_deficient=None,
        trace=outer.trace(),
    )
