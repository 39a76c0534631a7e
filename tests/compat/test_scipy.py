"""`compat.scipy.cg` is SciPy's: its own tests pass through it, and what they leave open is put to both."""

import ast
import importlib.util
import os
import signal
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg._isolve as isolve
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from scipy.sparse.linalg import cg as scipy_cg

from ntsolve import Status, monitor
from ntsolve.compat.scipy import cg

# ---- SciPy's own tests ----------------------------------------------------------------------------------------------

EXCLUDED = {
    "TestQMR": "another solver",
    "TestGMRES": "another solver",
    "test_show": "another solver: tfqmr",
    "test_maxiter_worsening": "of gmres, lgmres and qmr only: SciPy skips it for cg",
}
FILE = Path(isolve.__file__).parent / "tests" / "test_iterative.py"


class OnlyCg(ast.NodeTransformer):
    """Their list of solvers becomes [cg]; their mark `fail_slow`, which needs a plugin of theirs, goes."""

    def visit_Assign(self, node):
        if [ast.unparse(target) for target in node.targets] == ["_SOLVERS"]:
            node.value = ast.List([ast.Name("cg", ast.Load())], ast.Load())
        return node

    def visit_FunctionDef(self, node):
        node.decorator_list = [d for d in node.decorator_list if "fail_slow" not in ast.unparse(d)]
        return node


def scipys_tests():
    """The module of SciPy's tests with `cg` for its cg and nothing else to test; empty if SciPy comes without."""
    module = types.ModuleType("scipys_tests_of_cg")
    if FILE.exists():
        tree = ast.fix_missing_locations(OnlyCg().visit(ast.parse(FILE.read_text("utf-8"))))
        theirs, isolve.cg = isolve.cg, cg
        try:
            exec(compile(tree, str(FILE), "exec"), vars(module))
        finally:
            isolve.cg = theirs
    return module


SCIPYS = scipys_tests()
OURS = {
    name: value
    for name, value in vars(SCIPYS).items()
    if (name.startswith(("test_", "Test")) and name not in EXCLUDED) or name in ("solver", "case")
}
globals().update(OURS)


def test_scipys_tests_are_installed_and_run():
    if not FILE.exists():
        message = f"this SciPy was installed without its tests: there is no {FILE}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    assert {
        "test_convergence",
        "test_maxiter",
        "test_precond_dummy",
        "test_precond_inverse",
        "test_atol",
        "test_zero_rhs",
        "test_x0_working",
        "test_x0_equals_Mb",
        "test_x0_solves_problem_exactly",
        "test_positional_error",
        "test_invalid_atol",
    } <= set(OURS)
    assert set(EXCLUDED) <= set(vars(SCIPYS))
    assert SCIPYS.cg is cg
    assert [cg] == SCIPYS._SOLVERS
    assert {one.solver for one in SCIPYS.cases} == {cg}
    assert isolve.cg is scipy_cg


# ---- what they leave open -------------------------------------------------------------------------------------------


def problem(n=60, dtype=float):
    A = sp.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr").astype(dtype)
    return A, np.random.default_rng(0).standard_normal(n).astype(dtype)


def test_the_signature_is_scipys():
    import inspect

    ours, theirs = inspect.signature(cg).parameters.values(), inspect.signature(scipy_cg).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize(
    "make",
    [
        lambda A: A,
        lambda A: A.toarray(),
        lambda A: np.asmatrix(A.toarray()),
        sp.csc_matrix,
        sp.coo_array,
        sp.dia_array,
        sp.bsr_array,
        sp.lil_array,
        sp.dok_array,
        aslinearoperator,
        lambda A: LinearOperator(A.shape, lambda v: A @ v),
    ],
)
@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_the_answer_is_scipys(make, dtype):
    A, b = problem(dtype=dtype)
    rtol = 1e-4 if dtype in "fF" else 1e-10
    x, info = cg(make(A), b, rtol=rtol)
    want, _ = scipy_cg(make(A), b, rtol=rtol)
    assert info == 0
    assert isinstance(x, np.ndarray)
    assert x.dtype == want.dtype
    assert x.shape == want.shape
    assert np.linalg.norm(x - want) <= 200 * rtol * np.linalg.norm(want)


@pytest.mark.parametrize(
    "dtypes",
    [
        ("f", "d", "f"),
        ("d", "f", "f"),
        ("f", "f", "d"),
        ("f", "F", "f"),
        ("F", "f", "f"),
        ("i", "i", "i"),
        ("f", "e", "f"),
        ("d", "?", "d"),
    ],
)
def test_the_dtype_is_scipys(dtypes):
    A, b = problem()
    A, b, x0 = ((4 * v).astype(d) for v, d in zip((A, abs(b) + 1, b), dtypes, strict=True))
    ours, theirs = (solve(A, b, x0, rtol=1e-3)[0] for solve in (cg, scipy_cg))
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("column", [False, True])
def test_a_column_is_a_vector(column):
    A, b = problem()
    x0 = np.ones(b.size)
    x, info = cg(A, b[:, None], x0[:, None] if column else x0)
    assert info == 0
    assert x.shape == (b.size,)
    assert np.array_equal(x, cg(A, b, x0)[0])


@pytest.mark.parametrize("shape", [(1, 60), (60, 2), (59,), (61, 1), ()])
def test_another_shape_is_refused(shape):
    A, b = problem()
    with pytest.raises(ValueError, match=r"\bb\b"):
        cg(A, np.ones(shape))
    with pytest.raises(ValueError, match=r"\bx0\b"):
        cg(A, b, np.ones(shape))


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"\bA\b"):
        cg(np.ones((2, 3, 3)), np.ones(3))


def test_the_callback_gets_the_iterate_and_cannot_stop():
    A, b = problem()
    seen = {cg: [], scipy_cg: []}
    for solve, xs in seen.items():
        assert solve(A, b, rtol=1e-6, callback=lambda x, xs=xs: xs.append(x.copy()) or True)[1] == 0
    assert len(seen[cg]) == len(seen[scipy_cg])
    for ours, theirs in zip(seen[cg], seen[scipy_cg], strict=True):
        assert type(ours) is np.ndarray
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("maxiter", [1, 2, 7])
def test_info_is_the_number_of_iterations_where_they_did_not_suffice(maxiter):
    A, b = problem()
    x, info = cg(A, b, maxiter=maxiter)
    assert info == maxiter == scipy_cg(A, b, maxiter=maxiter)[1]
    np.testing.assert_allclose(x, scipy_cg(A, b, maxiter=maxiter)[0], rtol=1e-12)


def test_no_iteration_is_no_success():
    A, b = problem()
    assert cg(A, b, maxiter=0)[1] > 0
    assert cg(A, 0 * b, maxiter=0)[1] == 0


def test_a_tolerance_out_of_reach_gives_the_number_of_iterations():
    A, b = problem(dtype="f")
    info = cg(A, b, rtol=1e-12)[1]
    assert 0 < info < 10 * b.size


def test_breakdown_is_negative():
    A, b = problem()
    assert cg(-A, b)[1] == Status.INDEFINITE_OPERATOR < 0
    assert cg(A, b, M=-sp.eye_array(b.size))[1] == Status.INDEFINITE_PRECONDITIONER < 0
    assert cg(LinearOperator(A.shape, lambda v: v * np.nan, dtype=float), b)[1] == Status.NAN_OR_INF < 0


def test_nothing_warns(recwarn):
    A, b = problem()
    warnings.simplefilter("always")
    cg(A, b, maxiter=1)
    cg(A.astype("f"), b.astype("f"), rtol=1e-12)
    cg(-A, b)
    cg(A, b, rtol=np.inf)
    cg(A, b, rtol=1e300, atol=1e300)
    assert not recwarn.list


@pytest.mark.parametrize("option", ["rtol", "atol"])
@pytest.mark.parametrize("value", [-1.0, np.nan, "legacy", None, 1j])
def test_a_tolerance_that_is_none_is_refused(option, value):
    with pytest.raises(ValueError, match=option):
        cg(*problem(), **{option: value})


@pytest.mark.parametrize("x0", ["bM", "", "Mbb"])
def test_another_word_for_the_start_is_refused(x0):
    with pytest.raises(ValueError, match="x0"):
        cg(*problem(), x0)


def test_the_start_from_m_b():
    A, b = problem()
    M = sp.diags_array(1 / A.diagonal())
    for how in (M, aslinearoperator(M)):
        seen = []
        assert cg(A, b, "Mb", M=how, maxiter=0)[0].tobytes() == (M @ b).tobytes()
        assert cg(A, b, "Mb", M=how, callback=seen.append)[1] == 0


def test_the_preconditioner_may_be_an_attribute_of_the_operator():
    A, b = problem()
    A = aslinearoperator(A @ A)
    calls = []
    A.psolve = lambda r: calls.append(1) or r / 4
    x, info = cg(A, b, rtol=1e-8)
    assert info == 0
    assert len(calls) > 5
    assert np.linalg.norm(b - A @ x) <= 1e-8 * np.linalg.norm(b)
    calls.clear()
    assert cg(A, b, rtol=1e-8, M=sp.eye_array(b.size))[1] == 0
    assert not calls


def test_an_interrupt_raises():
    def product(v):
        if started.set() or stop.wait(10):
            return v
        raise TimeoutError

    started, stop = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monitor._INTERRUPTS.forget()
    try:

        def send():
            started.wait(10)
            os.kill(os.getpid(), signal.SIGINT)
            stop.set()

        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            cg(LinearOperator((50, 50), lambda v: product(v) * np.arange(1, 51), dtype=float), np.ones(50), rtol=1e-12)
        sender.join()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_module_is_found_as_an_attribute():
    code = "import ntsolve.compat.scipy; print(ntsolve.compat.scipy.cg.__name__)"
    assert importlib.util.find_spec("ntsolve.compat.scipy") is not None
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True
    )
    assert done.stdout == "cg\n", done.stderr
