"""Scenes that show what ntsolve does, beside what one would use without it: `python -m ntsolve demo`.

A scene is one file in this folder: a docstring whose first line says what is to be seen, and
``run(options: Options) -> Table``. It prints nothing. Files whose names begin with an underscore are no scenes.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIRST = "inpainting"


@dataclass(frozen=True)
class Options:
    """What the command line passes to a scene.

    Attributes
    ----------
    quick : bool
        A small problem, for a look or a test.
    plot : Path or None
        Where to write a picture (PNG).
    threads : int or None
        For ntsolve's CPU kernels; None for as many as there are.
    progress : bool
        Show progress on standard error, where that is a terminal.
    say : callable
        Called with a line on what is being done now.
    """

    quick: bool = False
    plot: Path | None = None
    threads: int | None = None
    progress: bool = False
    say: Callable[[str], None] = lambda line: None


class MissingExtra(ImportError):
    """A scene needs a package that is not installed."""


def scenes():
    """Names of the scenes, the first one first."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return [FIRST, *sorted(names - {FIRST})]


def load(name):
    """The module of a scene."""
    return importlib.import_module(f"{__name__}.{name}")


def need(*modules):
    """Import what a scene needs, or raise MissingExtra with the command that installs it."""
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise MissingExtra(f'{error.name or error} is missing; in a clone: python -m pip install ".[demo]"') from error
