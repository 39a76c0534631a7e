"""Makes an uninstalled checkout work: there the kernels lie in ../kernels, in an installed package in ./kernels."""

import importlib
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def find_kernels() -> str:
    """Make `import ntsolve.kernels` work wherever this package lies, and return the folder it comes from.

    In an installed package the folder is inside `ntsolve/` and Python finds it; nothing is done. In a checkout (which
    is also what an editable install runs, and what shadows an installed copy when Python starts in the checkout's root)
    it is beside `ntsolve/`: there `ntsolve.kernels` is imported once, with the checkout on the package's search path
    for just that moment. From then on names, files, `importlib.resources`, pickles and Numba's disk cache are as after
    an installation. Only `kernels/__init__.py` is executed, which must therefore stay a docstring: no contract and no
    twin, neither Numba nor CuPy is loaded. Costs a fraction of a millisecond; safe to repeat.

    Raises
    ------
    ImportError
        There is no kernels folder in either place.
    """
    inside = os.path.join(_HERE, "kernels")
    if os.path.isdir(inside):
        return inside
    root = os.path.dirname(_HERE)
    beside = os.path.join(root, "kernels")
    if not os.path.isdir(os.path.join(beside, "contracts")):
        raise ImportError(
            f"ntsolve is incomplete: no kernels folder in {_HERE} or beside it; "
            "run `python -m pip install .` in a whole checkout"
        )
    search_path = sys.modules[__package__].__path__
    search_path.append(root)  # not for good: `ntsolve.setup` and `ntsolve.tests` would be importable
    try:
        importlib.import_module(f"{__package__}.kernels")
    finally:
        search_path.remove(root)
    return beside
