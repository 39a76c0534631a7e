"""The stand-in offers nothing that CuPy lacks. CuPy imports without a driver, in a process of its own."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import types

import pytest

from tests.emu import fakecupy

# Runs with the real CuPy: reads {module: {name: {"members": ..., "parameters": ...}}}, prints what is missing.
# cuBLAS and its like may not be installed; cupyx.scipy.sparse.linalg loads them, and the probe calls none of them.
PROBE = """
import importlib, inspect, json, sys
from unittest import mock
import cupy_backends.cuda.libs as libs
for name in ("cublas", "cusolver", "cusparse"):
    try:
        getattr(libs, name)
    except ImportError:
        setattr(libs, name, mock.MagicMock())
missing = []
for module, names in json.load(sys.stdin).items():
    real = importlib.import_module(module)
    for name, wanted in names.items():
        thing = getattr(real, name, missing)
        if thing is missing:
            missing.append(f"{module}.{name}")
            continue
        missing += [f"{module}.{name}.{m}" for m in wanted["members"] if not hasattr(thing, m)]
        for called, (positional, keyword) in wanted["parameters"].items():
            real_function = getattr(thing, called) if called else thing
            try:
                signature = inspect.signature(real_function)
            except (TypeError, ValueError):  # compiled code: its docstring starts with the signature
                head = (real_function.__doc__ or "").partition("\\n")[0].partition("->")[0].strip()
                try:
                    scope = {}
                    exec("def f" + head[head.index("("):] + ": pass", scope)
                    signature = inspect.signature(scope["f"])
                except (ValueError, SyntaxError):
                    continue
            kinds = [p.kind for p in signature.parameters.values()]
            if inspect.Parameter.VAR_POSITIONAL in kinds or inspect.Parameter.VAR_KEYWORD in kinds:
                continue
            order = [p.name for p in signature.parameters.values() if p.kind != p.KEYWORD_ONLY]
            if called and order[:1] != ["self"]:
                order.insert(0, "self")
            if order[1 if called else 0:][:len(positional)] != positional:
                missing.append(f"{module}.{name}.{called}: {positional} is not the start of {order}")
            missing += [f"{module}.{name}.{called}({k})" for k in keyword if k not in signature.parameters]
print(json.dumps(missing))
"""
# np.asarray of a real one gives an array that holds one Python object, without a word
STRICTER = {f"cupyx.scipy.sparse.{kind}_matrix.__array__" for kind in ("csr", "csc", "coo")}
DEFINED = ("__init__", "__module__", "__dict__", "__weakref__", "__doc__", "__slots__", "__hash__", "__eq__")
DEFINED += ("__slotnames__",)  # copyreg leaves it on what was pickled


def members(thing) -> list[str]:
    """What the stand-in itself defines on a class."""
    if not inspect.isclass(thing):
        return []
    own = [c for c in thing.__mro__ if c.__module__.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")]
    names = {n for c in own for n in vars(c) if n not in DEFINED}
    return sorted(n for n in names if not n.startswith("_") or n.startswith("__"))


def parameters(thing) -> dict:
    """{method, or "" for the thing itself: (positional parameters in order, keyword-only ones)}"""
    if inspect.isclass(thing):
        found = {n: vars(thing)[n] for n in members(thing) if n in vars(thing) and not n.startswith("__")}
    else:
        found = {"": thing}
    result = {}
    for name, function in found.items():
        if isinstance(function, types.FunctionType):
            parts = list(inspect.signature(function).parameters.values())[1 if name else 0 :]
            positional = [p.name for p in parts if p.kind == p.POSITIONAL_OR_KEYWORD]
            result[name] = (positional, [p.name for p in parts if p.kind == p.KEYWORD_ONLY])
    return result


def offered() -> dict:
    return {
        module: {
            name: {"members": members(thing), "parameters": parameters(thing)}
            for name, thing in vars(content).items()
            if not name.startswith("_") and not isinstance(thing, types.ModuleType)
        }
        for module, content in fakecupy.modules.items()
    }


def ask_real_cupy(names: dict) -> list[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], input=json.dumps(names), capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(importlib.util.find_spec("cupy_backends") is None, reason="CuPy is not installed")
def test_every_name_exists_in_cupy():
    names = offered()
    names["cupy"]["no_such_name"] = {"members": [], "parameters": {}}
    names["cupy"]["zeros"]["parameters"][""][1].append("no_such_parameter")
    assert sorted(set(ask_real_cupy(names)) - STRICTER) == ["cupy.no_such_name", "cupy.zeros.(no_such_parameter)"]


def test_controls_are_not_offered():
    for name in ("EmuError", "sync_count", "launch_count", "install", "control", "schedule"):
        assert not any(hasattr(m, name) for m in fakecupy.modules.values())
