"""The answer: of the kind that was put in, the same every time and at every scale, whole when pickled."""

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status
from tests.backends import to_device

from .registry import scaled

DTYPES = ("float64", "float32")
FACTORS = {"float64": (1e-150, 1e150), "float32": (1e-15, 1e15)}


def close(case, got, want, dtype):
    """Equal to the solver's accuracy, relative to the size of the whole."""
    got, want = got.astype(float), want.astype(float)
    assert abs(got - want).max() <= case.solver.accuracy[dtype] * abs(want).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_dtype_comes_out(case, dtype):
    result = case.solve(dtype)
    x = case.solver.answer(result)
    assert x.dtype == dtype
    assert type(x) is type(to_device(np.zeros(1), case.backend))
    assert case.answer(result).flags.c_contiguous


def test_single_precision_gives_the_answer_of_double(case):
    close(case, case.answer(case.solve("float32")), case.answer(case.solve("float64")), "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_problem_has_the_same_answer(case, dtype):
    first, second = case.solve(dtype), case.solve(dtype)
    assert case.answer(first).tobytes() == case.answer(second).tobytes()
    assert np.array_equal(first.history, second.history)
    assert np.array_equal(first.nit, second.nit)
    assert np.array_equal(first.residual, second.residual)


def test_the_number_of_threads_does_not_change_the_answer(solver):
    arguments, answers = solver.threaded.make("float64"), []
    for threads in (1, 2, 4):
        with ntsolve.config(threads=threads):
            answers.append(solver.answer(solver.solve(solver.threaded, arguments=arguments)).tobytes())
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", [0, 1], ids=["tiny", "huge"])
def test_scale_does_not_matter(case, dtype, which):
    factor = FACTORS[dtype][which]
    want = case.answer(case.solve(dtype))
    for name, power in case.solver.scalings.items():
        arguments = case.problem.make(dtype)
        changed = {name: scaled(arguments[name], factor)}
        changed |= {
            start: scaled(arguments[start], factor**power) for start in case.solver.starts if start in arguments
        }
        units = [option for option, argument in case.solver.follow.items() if argument == name]
        options = {unit: case.problem.options[unit] * factor for unit in units if unit in case.problem.options}
        result = case.solve(dtype, arguments=arguments | changed, **options)
        assert np.all(result.success), name
        close(case, case.answer(result).astype(float) * factor**-power, want, dtype)


def test_the_history_has_a_row_for_every_iteration(case):
    result = case.solve()
    shape = np.shape(result.residual)
    assert isinstance(result.history, np.ndarray)
    assert result.history.dtype == np.float64
    assert result.history.shape[1:] == shape
    assert np.isfinite(result.history).all()
    assert np.all(result.history[-1] < result.history[0])
    if np.size(result.nit) == 1:
        assert len(result.history) == result.nit + 1
    else:
        assert 2 <= len(result.history) <= np.max(result.nit) + 1


def test_the_history_grows_with_maxiter(case):
    if np.ndim(case.solve().nit):
        pytest.skip("a batch may be looked at less often")
    for maxiter in (0, 1, 2, 5):
        assert len(case.solve(maxiter=maxiter, on_failure="ignore").history) == maxiter + 1


def test_the_result_reads_as_attributes_and_items(case):
    result = case.solve()
    for name in ("x", "success", "status", "message", "nit", "residual", "history", "elapsed", "backend"):
        assert name in list(result.keys())
        assert result[name] is getattr(result, name)
    with pytest.raises(KeyError, match="verify"):
        result["verify"]
    with pytest.raises(AttributeError):
        result.x = None
    assert "success" in repr(result)
    assert len(repr(result)) < 2000


def test_the_message_is_advice(case):
    result = case.solve()
    assert result.message == Status.CONVERGED.advice
    failed = case.solve(maxiter=1, on_failure="ignore")
    assert Status.MAXITER.advice in failed.message


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_the_result_pickles(case, protocol):
    for result in (case.solve(), case.solve(maxiter=1, on_failure="ignore")):
        for twin in (pickle.loads(pickle.dumps(result, protocol)), copy.deepcopy(result)):
            assert type(twin) is type(result)
            assert case.answer(twin).tobytes() == case.answer(result).tobytes()
            assert np.array_equal(twin.history, result.history)
            for name in ("success", "status", "nit", "residual"):
                assert np.array_equal(twin[name], result[name])
                assert type(twin[name]) is type(result[name])
            assert (twin.message, twin.elapsed, twin.backend) == (result.message, result.elapsed, result.backend)


def test_the_exception_pickles(case):
    with pytest.raises(ntsolve.ConvergenceError) as error:
        case.solve(maxiter=1, on_failure="raise")
    twin = pickle.loads(pickle.dumps(error.value))
    assert str(twin) == str(error.value)
    assert case.answer(twin.result).tobytes() == case.answer(error.value.result).tobytes()


def test_one_problem_has_plain_numbers_and_a_batch_has_arrays(case):
    result = case.solve()
    if np.ndim(result.nit) == 0:
        kinds = (type(result.success), type(result.status), type(result.nit), type(result.residual))
        assert kinds == (bool, Status, int, float)
    else:
        for name, kind in (("success", "b"), ("status", "i"), ("nit", "i"), ("residual", "f")):
            assert isinstance(result[name], np.ndarray)
            assert result[name].dtype.kind == kind
            assert result[name].shape == result.history.shape[1:]


class Shared:
    """What is known of any library's array: that it can be shared through DLPack. As torch's, it has no namespace."""

    __module__ = "shared_library.arrays"

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", ["array_api_strict", "dlpack"])
def test_an_array_of_another_library_comes_back_as_one(case, kind, monkeypatch):
    if case.backend != "cpu":
        pytest.skip("array_api_strict lives on the host")
    library = SimpleNamespace(from_dlpack=lambda array: Shared(np.from_dlpack(array)))
    monkeypatch.setitem(sys.modules, "shared_library", library)
    convert = pytest.importorskip("array_api_strict").asarray if kind == "array_api_strict" else Shared
    arguments = case.problem.make("float64")
    if not all(isinstance(v, np.ndarray) or sp.issparse(v) for v in arguments.values()):
        pytest.skip("an operator of NumPy arrays")
    others = {name: v if sp.issparse(v) else convert(v) for name, v in arguments.items()}
    result = case.solve(arguments=others)
    x = case.solver.answer(result)
    assert type(x) is type(convert(np.zeros(1)))
    assert np.from_dlpack(x).tobytes() == case.answer(case.solve()).tobytes()
    assert isinstance(result.success, bool | np.ndarray)


def test_lists_are_arrays(case):
    if case.backend != "cpu":
        pytest.skip("lists live on the host")
    arguments = case.problem.make("float64")
    lists = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
    assert case.answer(case.solve(arguments=lists)).tobytes() == case.answer(case.solve()).tobytes()
