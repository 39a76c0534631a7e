"""Numerical solvers behind one NumPy-style API, on the CPU (Numba) and the GPU (CuPy).

NumPy arrays run on the CPU, CuPy arrays on the GPU. The public names load when they are first used.
"""

import importlib

from ._checkout import find_kernels
from ._version import __version__

find_kernels()

from .config import config  # noqa: E402  # at once, or the module of that name would hide it

_HOME = {
    "EmpiricalFisher": "curvature.fisher",
    "ihvp": "curvature.ihvp",
    "influence": "curvature.influence",
    "MFAC": "curvature.mfac",
    "prune": "curvature.pruning",
    "PruneResult": "curvature.pruning",
    "CheckpointWarning": "errors",
    "ConvergenceError": "errors",
    "ConvergenceWarning": "errors",
    "MPSError": "errors",
    "RankError": "errors",
    "PerformanceWarning": "errors",
    "PrecisionWarning": "errors",
    "halpern_finite_sum": "fixedpoint.finite_sum",
    "halpern": "fixedpoint.halpern",
    "linprog": "fixedpoint.linprog",
    "monotone": "fixedpoint.monotone",
    "LinearProgram": "fixedpoint.mps",
    "read_mps": "fixedpoint.mps",
    "LinprogResult": "fixedpoint.result",
    "cg": "linalg.cg",
    "DeepConjugateDirection": "linalg.dcd",
    "GridOperator": "linalg.grid",
    "LearnedMultigrid": "linalg.multigrid",
    "Recycler": "linalg.recycling",
    "RelaxationTuner": "linalg.relaxation",
    "train_multigrid": "linalg.training",
    "ic0": "linalg.triangular",
    "ssor": "linalg.triangular",
    "progress": "monitor",
    "FactoredHessian": "optimize.hessians",
    "minimize": "optimize.newton",
    "MinimizeResult": "optimize.result",
    "BatchResult": "parallel.batch",
    "solve_batch": "parallel.batch",
    "RowPartition": "parallel.rowblocks",
    "FixedPointResult": "result",
    "IHVPResult": "result",
    "InfluenceResult": "result",
    "LinearResult": "result",
    "Result": "result",
    "Status": "result",
    "OTBatchResult": "transport.batch",
    "solve_ot_grid": "transport.grid",
    "OTGridResult": "transport.gridresult",
    "OTResult": "transport.result",
    "solve_ot": "transport.solve",
    "solve_ot_sample": "transport.solve",
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
