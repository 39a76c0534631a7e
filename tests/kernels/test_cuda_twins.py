"""Every contract has a CUDA twin that keeps it, and every compiled instance of every kernel is run by some case."""

import inspect
import re

import numpy as np
import pytest

from . import harness

cupy = pytest.importorskip("cupy")
cuda = pytest.importorskip("ntsolve.kernels.cuda")
from ntsolve.kernels.cuda import launch  # noqa: E402

KERNELS = sorted(harness.REGISTRY)
LAUNCHED: set[str] = set()
KEPT: set[tuple[str, str]] = set()


@pytest.fixture(autouse=True)
def _record(monkeypatch):
    original = launch._function

    def function(device, file, instance):
        LAUNCHED.add(instance)
        return original(device, file, instance)

    monkeypatch.setattr(launch, "_function", function)


def on_device(name, case):
    """Arguments by name after the twin ran on device copies of them."""
    copies = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in case]
    getattr(cuda, name)(*copies)
    return harness.REGISTRY[name].bind(tuple(cupy.asnumpy(a) if isinstance(a, cupy.ndarray) else a for a in copies))


def keeps_its_contract(name, dtype):
    for case in harness.cases(name, dtype):
        harness.compare(name, dtype, case, on_device(name, case))
    KEPT.add((name, dtype))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_keeps_its_contract(name, dtype, gpu_record):
    keeps_its_contract(name, dtype)
    gpu_record(name, dtype)


@pytest.mark.parametrize("name", KERNELS)
def test_is_bitwise_the_same_every_time(name):
    contract = harness.REGISTRY[name]
    case = max(harness.cases(name, "float64"), key=lambda case: sum(np.size(a) for a in case))
    first, second = (on_device(name, case) for _ in range(2))
    for argument in contract.writes:
        assert np.array(first[argument]).tobytes() == np.array(second[argument]).tobytes()


def test_twins_and_contracts_are_the_same_set():
    twins = {
        name
        for name, value in vars(cuda).items()
        if inspect.isfunction(value) and re.fullmatch(r"ntsolve\.kernels\.cuda\.(?!loop|launch)\w+", value.__module__)
    }
    assert twins == set(KERNELS)


def test_every_instance_is_named_once_and_run_by_a_case():
    for name in KERNELS:
        for dtype in harness.DTYPES:
            if (name, dtype) not in KEPT:
                keeps_its_contract(name, dtype)
    named = [instance for instances in launch.INSTANCES.values() for instance in instances]
    assert len(named) == len(set(named))
    assert set(named) == LAUNCHED


@pytest.mark.parametrize("file", sorted(launch.INSTANCES))
def test_every_global_function_is_instantiated(file):
    text = re.sub(r"//.*", "", launch.source(file))
    functions = set(re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(", text))
    assert len(functions) == text.count("__global__")
    assert functions == {instance.partition("<")[0] for instance in launch.INSTANCES[file]}
