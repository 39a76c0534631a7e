"""Problems as calls of a solver: by name what each brings itself, and once what is the same for all."""

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

_BY_PLACE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
POSITIONAL = "*"  # the name of what a call gets by its place


def find(solver):
    """(the function, its name if it is one of this package)"""
    package = importlib.import_module("ntsolve")
    if isinstance(solver, str):
        function = getattr(package, solver, None) if solver in package.__all__ else None
        if not inspect.isfunction(function) or "on_failure" not in _known(function).names:
            raise ValueError(f"solver: ntsolve has no solver called {solver!r}")
        return function, solver
    if not callable(solver):
        raise TypeError(f"solver must be a function or the name of one, not {type(solver).__name__}")
    name = getattr(solver, "__name__", "")
    return solver, name if name in package.__all__ and getattr(package, name) is solver else None


class _Form:
    """How a function is called. Of what it was asked it keeps names, and no arguments."""

    def __init__(self, function):
        try:
            self.signature = inspect.signature(function)
        except ValueError:  # a function written in C need not have one: it finds out by itself
            self.signature = inspect.signature(lambda *arguments, **settings: None)
        parameters = self.signature.parameters
        self.by_place = any(parameter.kind in _BY_PLACE for parameter in parameters.values())
        self.names = list(parameters)
        self.required = {name for name, parameter in parameters.items()
                         if parameter.kind is inspect.Parameter.KEYWORD_ONLY
                         and parameter.default is inspect.Parameter.empty}  # fmt: skip
        self.silent = {"on_failure": "ignore"} if "on_failure" in parameters else {}
        self.refusals: dict[Any, str | None] = {}

    def refusal(self, given, settings):
        """Why so many arguments by their place, or those of such names, are no call beside the settings; or None.

        None for `given`: whether the settings alone could be part of one.
        """
        key = given, *settings
        if key not in self.refusals:
            bind = self.signature.bind_partial if given is None else self.signature.bind
            by_place, by_name = ([None] * given, ()) if isinstance(given, int) else ((), given or ())
            try:
                bind(*by_place, **dict.fromkeys([*settings, *by_name]))
                self.refusals[key] = None
            except TypeError as error:
                self.refusals[key] = str(error)
        return self.refusals[key]


_known = functools.lru_cache(_Form)  # of functions that stay


def bind(function, problems, settings):
    """({name: argument} of each problem, what all calls share, the exception of each problem that is no call)

    That a problem fits the function's signature is found out once for all of its form.
    """
    if isinstance(problems, (str, bytes, Mapping)) or not hasattr(problems, "__iter__"):
        raise TypeError(f"problems must be a list of tuples or dicts, not {type(problems).__name__}")
    own = getattr(function, "__module__", None) or ""
    form = (_known if own.startswith("ntsolve.") else _Form)(function)
    names, by_place, shared = form.names, form.by_place, settings | form.silent
    called = getattr(function, "__name__", "the solver")
    if (why := form.refusal(None, shared)) is not None:
        raise TypeError(f"{called} {why}")

    @functools.cache
    def misfit(given):
        why = form.refusal(given, shared)
        return None if why is None else TypeError(why)

    calls, errors = [], []
    for number, problem in enumerate(problems):
        if isinstance(problem, tuple):
            error = misfit(len(problem))
            calls.append({POSITIONAL: problem} if by_place else dict(zip(names, problem)))  # noqa: B905  it is quicker
        elif isinstance(problem, Mapping):
            given = {name: problem[name] for name in sorted(problem, key=str)}
            error = misfit(tuple(given))
            calls.append(given)
        else:
            raise TypeError(f"problems[{number}] must be a tuple or a dict of arguments, not {type(problem).__name__}")
        errors.append(error)
    missing = form.required - shared.keys()
    if calls and missing and (missing := missing.difference(*calls)):
        raise TypeError(f"{called} needs a setting {', '.join(sorted(missing))}, which no problem brings")
    return calls, shared, errors


def call(function, given, shared):
    """One solve."""
    arguments = shared | given
    return function(*arguments.pop(POSITIONAL, ()), **arguments)


def size(given):
    """Bytes of the arrays in a call, or about that."""
    total = 0
    for value in given.values():
        if hasattr(value, "nbytes"):
            total += value.nbytes
        elif hasattr(value, "nnz"):
            total += 12 * value.nnz
        elif isinstance(value, (tuple, list)):
            total += sum(getattr(each, "nbytes", 0) for each in value)
    return total
