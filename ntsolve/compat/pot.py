"""POT's signatures. `from ntsolve.compat import pot as ot` in place of `import ot`, for entropic transport.

`sinkhorn` and `sinkhorn2` are in _pot_sinkhorn.py, `solve` and `solve_sample` in _pot_solve.py. What POT can do and
this cannot is refused by name: a NotImplementedError, or a ValueError for a method that nobody has heard of.
"""

from ._pot_sinkhorn import SinkhornWarning, sinkhorn, sinkhorn2
from ._pot_solve import LazyPlan, TransportResult, solve, solve_sample

__all__ = ["LazyPlan", "SinkhornWarning", "TransportResult", "sinkhorn", "sinkhorn2", "solve", "solve_sample"]


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    ours = ", ".join(each for each in __all__ if each.islower())
    raise AttributeError(f"ntsolve.compat.pot has no {name!r}, it has {ours}; take the rest from POT itself: import ot")
