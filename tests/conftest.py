"""Chooses the GPU side before ntsolve is imported: real CuPy where there is a GPU, else the emulator's stand-in."""

import json
import os
import pathlib
import shutil
import signal
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of several processes would wait for each other

import numpy as np
import pytest


def _real_gpu():
    try:
        import cupy
    except ImportError:
        return False
    return bool(cupy.cuda.is_available())


def _forget_cupy():
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")]:
        del sys.modules[name]


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_GPU = _real_gpu()
CXX = shutil.which(os.environ.get("CXX", "g++"))
if not REAL_GPU:
    _forget_cupy()
    if CXX:
        from tests.emu import fakecupy

        fakecupy.install()
    elif os.environ.get("CI") == "true":
        raise RuntimeError("the CUDA kernels are tested with a C++ compiler: install g++, or set CXX")


def gpu_record():
    """What the last runs on a real GPU vouch for, in a line."""
    from ntsolve.kernels import contracts, sources

    file = pathlib.Path(__file__).with_name("gpu_verified.json")
    record = json.loads(file.read_text())["kernels"] if file.exists() else {}
    states: dict[str, list[str]] = {"as run on a GPU": [], "changed since": [], "emulated only": []}
    for name, contract in sorted(contracts.load_all().items()):
        if name not in record:
            states["emulated only"].append(name)
        else:
            same = record[name]["sha256"] == sources.fingerprint(contract.family)
            states["as run on a GPU" if same else "changed since"].append(name)
    return "GPU record: " + "; ".join(f"{state}: {', '.join(names)}" for state, names in states.items() if names)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two processes: more do not help, as kernels have threads. One on a GPU, whose record one process writes."""
    return 0 if REAL_GPU else min(2, os.cpu_count() or 1)


def pytest_report_header(config):
    return [_cuda_side(), gpu_record()]


def _cuda_side():
    if REAL_GPU:
        import cupy

        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
        return f"CUDA twins: on {name}, CuPy {cupy.__version__}"
    if CXX:
        return "CUDA twins: emulated on the CPU; this checks what the kernels do, and proves nothing about speed"
    return "CUDA twins: not tested, there is neither a GPU nor a C++ compiler"


@pytest.fixture(scope="session")
def real_gpu():
    """Whether CuPy is the real one, on a real device."""
    return REAL_GPU


@pytest.fixture
def rng():
    """A generator that gives the same numbers in every run."""
    return np.random.default_rng(20261120)
