"""What a solver does with what it is given: leaves it alone, or refuses it by name, at once and without a crash."""

import inspect
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tests.backends import BACKENDS, to_device

from .registry import fingerprint

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 0.05


def arrays(solver):
    """(name, value) of the arguments of the large problem that are arrays or sparse matrices."""
    arguments = solver.large.make("float64").items()
    return [(name, value) for name, value in arguments if isinstance(value, np.ndarray) or sp.issparse(value)]


warm = set()


def compile_for(solver):
    """What the solver needs for its large problem: a refusal is timed without that."""
    if solver.name not in warm:
        solver.solve(solver.large)
        warm.add(solver.name)


def refused(solver, arguments, name, *, kind=(TypeError, ValueError), **options):
    """The solver refuses the large problem so changed, naming the argument, in time."""
    compile_for(solver)
    began = time.perf_counter()
    with pytest.raises(kind, match=rf"\b{name}\b"):
        solver.solve(solver.large, arguments=arguments, **options)
    taken = time.perf_counter() - began
    for _ in range(3):
        if taken < SECONDS:
            break
        began = time.perf_counter()
        with pytest.raises(kind):
            solver.solve(solver.large, arguments=arguments, **options)
        taken = time.perf_counter() - began
    assert taken < 4 * SECONDS  # on a busy machine


def with_entry(value, entry):
    """A copy with one number in the middle replaced."""
    value = value.copy()
    numbers = value.data if sp.issparse(value) else value.reshape(-1)
    numbers[numbers.size // 2] = entry
    return value


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_input_is_unmodified(case, dtype):
    arguments = case.problem.make(dtype)
    values = [to_device(value, case.backend) for value in arguments.values()]
    before = [fingerprint(value) for value in values]
    case.solver.call(*values, **case.problem.options)
    assert [fingerprint(value) for value in values] == before


def test_read_only_input_is_accepted(case):
    if case.backend != "cpu":
        pytest.skip("a GPU array has no such flag")
    arguments = case.problem.make("float64")
    for value in arguments.values():
        parts = (value.data, value.indices, value.indptr) if sp.issparse(value) else (value,)
        for part in parts:
            if isinstance(part, np.ndarray):
                part.flags.writeable = False
    assert np.all(case.solve(arguments=arguments).success)


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(solver, entry):
    for name, value in arrays(solver):
        if entry != np.inf or name not in solver.infinite:
            refused(solver, solver.large.make("float64") | {name: with_entry(value, entry)}, name)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_in_a_dense_matrix(solver, entry):
    for name, value in arrays(solver):
        if sp.issparse(value):
            refused(solver, solver.large.make("float64") | {name: with_entry(value.toarray(), entry)}, name)


@pytest.mark.parametrize(
    "change", [lambda v: v[:-1], lambda v: np.concatenate([v, v[:1]]), lambda v: v[:0], lambda v: v[0]]
)
def test_a_wrong_shape_is_refused(solver, change):
    """One entry or row too few, one too many, none at all, an axis missing."""
    for name, value in arrays(solver):
        changed = change(value.toarray() if sp.issparse(value) else value)
        if np.size(changed) or name not in solver.empty:
            refused(solver, solver.large.make("float64") | {name: changed}, name)


def test_a_sparse_matrix_of_the_wrong_shape_is_refused(solver):
    for name, value in arrays(solver):
        if sp.issparse(value):
            for wrong in (value[:-1], value[:, :-1], value[:-1, :-1]):
                refused(solver, solver.large.make("float64") | {name: wrong}, name)


@pytest.mark.parametrize("dtype", ["object", "str", "longdouble", "clongdouble", "datetime64[s]"])
def test_a_dtype_that_cannot_be_computed_with_is_refused(solver, dtype):
    for name, value in arrays(solver):
        dense = value.toarray() if sp.issparse(value) else value
        refused(solver, solver.large.make("float64") | {name: dense.astype(int).astype(dtype)}, name, kind=TypeError)
        if sp.issparse(value) and "longdouble" in dtype:  # SciPy makes no sparse matrices of the others
            refused(solver, solver.large.make("float64") | {name: value.astype(dtype)}, name, kind=TypeError)


@pytest.mark.parametrize("junk", ["text", b"bytes", {"a": 1}, [[1.0], [1.0, 2.0]], object(), 7])
def test_something_that_is_no_array_is_refused(solver, junk):
    for name, _ in arrays(solver):
        refused(solver, solver.large.make("float64") | {name: junk}, name)


@pytest.mark.parametrize("shape", [(2000,), (1, 2000), (2000, 1)])
def test_a_sparse_vector_is_refused(solver, shape):
    for name, value in arrays(solver):
        if value.ndim == 1:
            refused(solver, solver.large.make("float64") | {name: sp.coo_array(np.ones(shape))}, name)


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "small", None, 1j, True])
def test_a_tolerance_that_is_none_is_refused(solver, value):
    defaults = inspect.signature(solver.call).parameters
    for name in solver.tolerances:
        if value is not None or defaults[name].default is not None:
            refused(solver, None, name, **{name: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("maxiter", -1),
        ("maxiter", 2.5),
        ("maxiter", "many"),
        ("time_limit", -1.0),
        ("time_limit", np.nan),
        ("callback", 5),
        ("on_failure", "shrug"),
        ("on_failure", None),
    ],
)
def test_an_option_out_of_range_is_refused(solver, option, value):
    refused(solver, None, option, **{option: value})


def test_an_option_that_does_not_exist_is_refused(solver):
    refused(solver, None, "tolerence", kind=TypeError, tolerence=1e-3)


def test_options_are_keyword_only(solver):
    arguments = solver.large.make("float64")
    with pytest.raises(TypeError, match="positional"):
        solver.call(*arguments.values(), 1e-5)


@pytest.mark.skipif("cuda" not in BACKENDS, reason="no GPU backend, not even an emulated one")
def test_arrays_on_different_devices_are_refused(solver):
    several = (p for p in solver.problems if p.on_device and sum(map(is_array, p.make("float64").values())) > 1)
    small = next(several, None)
    if small is None:
        pytest.skip("one array, or none on a device")
    arguments = small.make("float64")
    places = [name for name, value in arguments.items() if is_array(value)]
    for name in places:
        mixed = {other: to_device(v, "cuda" if other == name else "cpu") for other, v in arguments.items()}
        with pytest.raises(TypeError) as error:
            solver.call(*mixed.values(), **small.options)
        assert all(re.search(rf"\b{place}\b", str(error.value)) for place in places)


def is_array(value):
    return isinstance(value, np.ndarray) or sp.issparse(value)


# ---- sparse matrices whose parts do not fit together ----------------------------------------------------------------


def set_entry(part, place, value):
    def change(A):
        numbers = getattr(A, part).copy()
        numbers[place] = value
        setattr(A, part, numbers)

    return change


def cut(part, size):
    def change(A):
        setattr(A, part, getattr(A, part)[:size])

    return change


BROKEN = {
    "index too large": ("csr", set_entry("indices", 1000, 2000)),
    "index far too large": ("csr", set_entry("indices", 1000, 2**31 - 1)),
    "negative index": ("csr", set_entry("indices", 1000, -1)),
    "short indptr": ("csr", cut("indptr", -1)),
    "empty indptr": ("csr", cut("indptr", 0)),
    "decreasing indptr": ("csr", set_entry("indptr", 1000, 5)),
    "negative indptr": ("csr", set_entry("indptr", 0, -3)),
    "indptr beyond the data": ("csr", set_entry("indptr", -1, 10**6)),
    "short data": ("csr", cut("data", -7)),
    "short indices": ("csr", cut("indices", -7)),
    "indices of floats": ("csr", lambda A: setattr(A, "indices", A.indices.astype(float))),
    "csc, index too large": ("csc", set_entry("indices", 1000, 2000)),
    "csc, decreasing indptr": ("csc", set_entry("indptr", 1000, 5)),
    "csc, short data": ("csc", cut("data", -7)),
    "bsr, index too large": ("bsr", set_entry("indices", 10, 2000)),
    "bsr, short data": ("bsr", cut("data", -1)),
    "bsr, decreasing indptr": ("bsr", set_entry("indptr", 5, 0)),
    "coo, row too large": ("coo", set_entry("row", 1000, 2000)),
    "coo, negative column": ("coo", set_entry("col", 1000, -1)),
    "coo, short data": ("coo", cut("data", -7)),
    "lil, column too large": ("lil", lambda A: A.rows[1000].__setitem__(0, 2000)),
    "lil, negative column": ("lil", lambda A: A.rows[1000].__setitem__(0, -1)),
    "lil, a value too few": ("lil", lambda A: A.data[1000].pop()),
    "dia, offsets too many": ("dia", lambda A: setattr(A, "offsets", np.arange(50, dtype=A.offsets.dtype))),
    "dia, data too few": ("dia", cut("data", 1)),
    "dok, key too large": ("dok", lambda A: A._dict.__setitem__((2000, 1), 1.0)),
}


def broken(A, how):
    """A copy of A, in the format that the breakage is for, so broken."""
    form, change = BROKEN[how]
    A = A.asformat(form, copy=True)
    change(A)
    return A


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("check", [True, False])
def test_a_broken_sparse_matrix_is_refused(solver, how, check):
    """In a process of its own first, where a crash shows as such."""
    survives(solver)
    for name, value in arrays(solver):
        if sp.issparse(value):
            refused(solver, solver.large.make("float64") | {name: broken(value, how)}, name, check=check)


SURVIVES = {}


def survives(solver):
    """Every broken matrix is refused in another process, before this one takes the risk."""
    if solver.name not in SURVIVES:
        code = f"from {__name__} import try_all; try_all({solver.name!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        SURVIVES[solver.name] = done.returncode, done.stdout + done.stderr
    status, output = SURVIVES[solver.name]
    assert status == 0, f"exit status {status}\n{output}"


def try_all(name):
    """For the other process: put each broken matrix to the solver of that name."""
    from .registry import load_all

    solver = next(s for s in load_all() if s.name == name)
    for argument, value in arrays(solver):
        for how in BROKEN if sp.issparse(value) else ():
            sys.stdout.write(f"{argument}: {how}\n")
            sys.stdout.flush()
            for check in (True, False):
                try:
                    solver.solve(
                        solver.large,
                        arguments=solver.large.make("float64") | {argument: broken(value, how)},
                        check=check,
                    )
                except (TypeError, ValueError):
                    continue
                raise SystemExit(f"{how}, check={check}: not refused")
