"""Other packages' signatures on ntsolve's solvers, so that code written for them changes one import."""

import importlib

__all__ = ["pot", "scipy"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
