"""Every contract has a Numba twin that keeps it, leaves everything else alone, and does not depend on threads."""

import re

import numpy as np
import pytest

import ntsolve.kernels.cpu as cpu
from ntsolve.kernels.settings import THREADS

from . import harness

KERNELS = sorted(harness.REGISTRY)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_keeps_its_contract(name, dtype):
    count = 0
    for case in harness.cases(name, dtype):
        harness.compare(name, dtype, case, harness.run(getattr(cpu, name), name, case))
        count += 1
    assert count >= 3, f"{name} has {count} cases"


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_is_bitwise_the_same_for_any_number_of_threads(name, dtype, monkeypatch):
    for module in vars(cpu).values():
        if hasattr(module, "_GRAIN"):
            monkeypatch.setattr(module, "_GRAIN", 1)  # threads even for small cases
    for case in harness.cases(name, dtype):
        results = []
        for count in (1, 2, 4):
            token = THREADS.set(count)
            try:
                got = harness.run(getattr(cpu, name), name, case)
            finally:
                THREADS.reset(token)
            results.append([np.array(got[argument]).tobytes() for argument in harness.REGISTRY[name].writes])
        assert results[0] == results[1] == results[2]


def test_no_twin_without_a_contract():
    public = {
        name
        for name, value in vars(cpu).items()
        if callable(value)
        and re.fullmatch(r"ntsolve\.kernels\.cpu\.(?!items|loop|spare)\w+", getattr(value, "__module__", "") or "")
    }
    assert public == set(KERNELS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pool_of_threads_hands_on_errors(value):
    from ntsolve.kernels.cpu.pool import over_blocks

    def body(first, last):
        if first > 0:
            raise FloatingPointError(value)

    token = THREADS.set(2)
    try:
        with pytest.raises(FloatingPointError):
            over_blocks(body, 10, 1)
        over_blocks(lambda first, last: None, 10, 1)  # the pool works on afterwards
    finally:
        THREADS.reset(token)
