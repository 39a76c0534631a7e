"""Problems as calls of a solver: by name what each brings itself, and once what is the same for all."""

import functools
import importlib
import inspect
from collections.abc import Mapping

_BY_PLACE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
POSITIONAL = "*"  # the name of what a call gets by its place


def find(solver):
    """(the function, its name if it is one of this package)"""
    package = importlib.import_module("ntsolve")
    if isinstance(solver, str):
        if solver.startswith("_") or not inspect.isfunction(getattr(package, solver, None)):
            raise ValueError(f"solver: ntsolve has no solver called {solver!r}")
        return getattr(package, solver), solver
    if not callable(solver):
        raise TypeError(f"solver must be a function or the name of one, not {type(solver).__name__}")
    name = getattr(solver, "__name__", "")
    return solver, name if name in package.__all__ and getattr(package, name) is solver else None


def bind(function, problems, settings):
    """({name: argument} of each problem, what all calls share, the exception of each problem that is no call)

    That a problem fits the function's signature is found out once for all of its form.
    """
    if isinstance(problems, (str, bytes, Mapping)) or not hasattr(problems, "__iter__"):
        raise TypeError(f"problems must be a list of tuples or dicts, not {type(problems).__name__}")
    own = getattr(function, "__module__", None) or ""
    signature = _signature(function) if own.startswith("ntsolve.") else inspect.signature(function)
    by_place = any(parameter.kind in _BY_PLACE for parameter in signature.parameters.values())
    silent = {"on_failure": "ignore"} if "on_failure" in signature.parameters else {}
    shared = settings | silent
    names = [] if by_place else list(signature.parameters)

    @functools.cache
    def misfit(form):
        """Why a problem of this form is no call; None if it is one."""
        try:
            if isinstance(form, int):
                signature.bind(*[None] * form, **shared)
            else:
                signature.bind(**shared | dict.fromkeys(form))
        except TypeError as error:
            return error
        return None

    calls, errors = [], []
    for number, problem in enumerate(problems):
        if isinstance(problem, tuple):
            error = misfit(len(problem))
            calls.append({POSITIONAL: problem} if by_place else dict(zip(names, problem, strict=False)))
        elif isinstance(problem, Mapping):
            given = {name: problem[name] for name in sorted(problem)}
            error = misfit(tuple(given))
            calls.append(given)
        else:
            raise TypeError(f"problems[{number}] must be a tuple or a dict of arguments, not {type(problem).__name__}")
        errors.append(error)
    return calls, shared, errors


_signature = functools.lru_cache(inspect.signature)  # of functions that stay


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
