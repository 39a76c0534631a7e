"""Runs one kernel on one case: arguments copied to the backend, guarded, run, and compared with the oracle."""

import numpy as np

from ntsolve.kernels import contracts

REGISTRY = contracts.load_all()
DTYPES = ("float32", "float64")
GUARD = 64  # elements before and after each array, which nobody may touch


def cases(name, dtype):
    """The contract's cases, the same every time."""
    return REGISTRY[name].cases(np.random.default_rng(20260712), np.dtype(dtype))


def guarded(array):
    """(copy of the array inside a larger buffer, the buffer)"""
    buffer = np.empty(array.size + 2 * GUARD, array.dtype)
    buffer.view(np.uint8)[:] = 0xA5
    inside = buffer[GUARD : GUARD + array.size].reshape(array.shape)
    inside[...] = array
    return inside, buffer


def expect(name, case):
    """Arguments by name after the oracle ran on copies of them."""
    contract = REGISTRY[name]
    after = [a.copy() if isinstance(a, np.ndarray) else a for a in case]
    with np.errstate(all="ignore"):
        contract.oracle(*after)
    return contract.bind(tuple(after))


def run(kernel, name, case):
    """Arguments by name after a NumPy-facing kernel ran on guarded copies; asserts that the guards are whole."""
    copies = [guarded(a) if isinstance(a, np.ndarray) else (a, None) for a in case]
    kernel(*[inside for inside, _ in copies])
    for argument, (_, buffer) in zip(REGISTRY[name].arguments, copies, strict=True):
        if buffer is not None:
            edge = np.concatenate([buffer[:GUARD], buffer[-GUARD:]]).view(np.uint8)
            assert (edge == 0xA5).all(), f"{name} wrote outside its argument {argument}"
    return REGISTRY[name].bind(tuple(inside for inside, _ in copies))


def compare(name, dtype, case, got):
    """Written arguments agree with the oracle to the contract's tolerance; the others are bitwise as they were."""
    contract, want, before = REGISTRY[name], expect(name, case), REGISTRY[name].bind(case)
    for argument, value in want.items():
        if not isinstance(value, np.ndarray) or argument in contract.scratch:
            continue
        if argument not in contract.writes:
            assert got[argument].tobytes() == before[argument].tobytes(), f"{name} changed its argument {argument}"
            continue
        rtol = contract.rtol[dtype]
        # what cancels is as exact as what it was made of
        scale = max(abs(part[np.isfinite(part)]).max(initial=0) for part in (value, before[argument]))
        if argument in contract.within:
            assert (got[argument] <= value + 0.5 * want[contract.within[argument]])[np.isfinite(value)].all()
            assert (np.isfinite(got[argument]) == np.isfinite(value)).all()
            continue
        np.testing.assert_allclose(got[argument], value, rtol=rtol, atol=rtol * scale, err_msg=f"{name}: {argument}")
