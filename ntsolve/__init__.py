"""Numerical solvers behind one NumPy-style API, on the CPU (Numba) and the GPU (CuPy).

NumPy arrays run on the CPU, CuPy arrays on the GPU. The public names load when they are first used.
"""

import importlib

from ._checkout import find_kernels
from ._version import __version__

find_kernels()

from .config import config  # noqa: E402  # at once, or the module of that name would hide it

_HOME = {
    "cg": "linalg.cg",
    "LearnedMultigrid": "linalg.multigrid",
    "train_multigrid": "linalg.training",
    "ic0": "linalg.triangular",
    "ssor": "linalg.triangular",
    "Recycler": "linalg.recycling",
    "RelaxationTuner": "linalg.relaxation",
    "DeepConjugateDirection": "linalg.dcd",
    "EmpiricalFisher": "curvature.fisher",
    "FixedPointResult": "result",
    "halpern": "fixedpoint.halpern",
    "FactoredHessian": "optimize.hessians",
    "GridOperator": "linalg.grid",
    "ihvp": "curvature.ihvp",
    "influence": "curvature.influence",
    "MFAC": "curvature.mfac",
    "prune": "curvature.pruning",
    "linprog": "fixedpoint.linprog",
    "LinprogResult": "fixedpoint.result",
    "solve_ot": "transport.solve",
    "solve_ot_grid": "transport.grid",
    "solve_ot_sample": "transport.solve",
    "solve_batch": "parallel.batch",
    "BatchResult": "parallel.batch",
    "OTGridResult": "transport.gridresult",
    "halpern_finite_sum": "fixedpoint.finite_sum",
    "monotone": "fixedpoint.monotone",
    "progress": "monitor",
    "LinearProgram": "fixedpoint.mps",
    "read_mps": "fixedpoint.mps",
    "IHVPResult": "result",
    "InfluenceResult": "result",
    "LinearResult": "result",
    "minimize": "optimize.newton",
    "MinimizeResult": "optimize.result",
    "PruneResult": "curvature.pruning",
    "OTResult": "transport.result",
    "OTBatchResult": "transport.batch",
    "Result": "result",
    "Status": "result",
    "ConvergenceError": "errors",
    "ConvergenceWarning": "errors",
    "MPSError": "errors",
    "PerformanceWarning": "errors",
    "PrecisionWarning": "errors",
}

__all__ = ["__version__", "config", *sorted(_HOME)]


def __getattr__(name):
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    if name == "compat":
        return importlib.import_module(f"{__name__}.compat")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*__all__, "compat"})
