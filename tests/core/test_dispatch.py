"""Which backend an array belongs to is known at a glance, and mixtures are refused."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from ntsolve.dispatch import home, kernels_for

ROOT = Path(__file__).resolve().parents[2]


def fake(module, number=0, sparse=False):
    """An object whose type says that it comes from `module`, on GPU `number`, as far as one looks."""
    device = SimpleNamespace(id=number)
    body = {"device": device} if not sparse else {"nnz": 3, "data": SimpleNamespace(device=device)}
    return type("array", (), {"__module__": module, **body})()


@pytest.mark.parametrize(
    "thing", [np.zeros(3), np.float64(1), np.ma.zeros(3), sp.csr_array((3, 3)), sp.dok_matrix((3, 3))]
)
def test_numpy_and_scipy_live_on_the_cpu(thing):
    assert home(thing) == ("cpu", None)


@pytest.mark.parametrize("number", [0, 3])
def test_cupy_lives_on_the_gpu(number):
    assert home(fake("cupy", number)) == ("cuda", number)
    assert home(fake("cupyx.scipy.sparse._csr", number, sparse=True)) == ("cuda", number)


@pytest.mark.parametrize(
    "thing",
    [
        None,
        3.0,
        [1.0],
        "text",
        len,
        lambda v: v,
        aslinearoperator(np.eye(3)),
        object(),
        fake("cupyfake"),
        fake("numpylike"),
    ],
)
def test_what_is_no_array_lives_nowhere(thing):
    assert home(thing) is None


def test_a_broken_matrix_is_still_known():
    A = sp.csr_array(np.eye(3))
    A.indptr = A.indptr[:0]  # even its nnz raises now
    assert home(A) == ("cpu", None)


def test_a_mixture_of_devices_names_each_argument():
    with pytest.raises(TypeError, match="A on the CPU, b on GPU 0, M on GPU 1"):
        kernels_for(A=np.eye(3), b=fake("cupy", 0), x0=None, M=fake("cupy", 1), f=len)


def test_a_solver_refuses_a_mixture_before_it_loads_a_backend():
    with pytest.raises(TypeError, match="A on GPU 0, b on the CPU"):
        ntsolve.cg(fake("cupy"), np.ones(3))
    with pytest.raises(TypeError, match="b on the CPU, x0 on GPU 2"):
        ntsolve.cg(len, np.ones(3), fake("cupy", 2))


def test_without_arrays_the_cpu_is_meant():
    with kernels_for(A=len, b=None) as k:
        assert k.NAME == "cpu"


@pytest.mark.parametrize("wanted", ["cpu", "cuda", "auto"])
def test_a_wanted_backend_is_a_guard(wanted):
    with ntsolve.config(backend=wanted):
        if wanted == "cuda":
            with pytest.raises(TypeError, match=r"backend='cuda'.*\bb\b.*the CPU"):
                kernels_for(b=np.ones(3))
            with pytest.raises(TypeError, match=r"backend='cuda'"):
                ntsolve.cg(np.eye(3), np.ones(3))
        else:
            assert ntsolve.cg(np.eye(3), np.ones(3)).success


def test_dispatch_imports_no_library_to_find_out_whose_an_array_is():
    code = """
import sys, numpy, ntsolve.dispatch
before = set(sys.modules)
class Foreign:
    __module__ = "cupyx.scipy.sparse"
for thing in (numpy.ones(3), Foreign(), len, None):
    ntsolve.dispatch.home(thing)
assert set(sys.modules) == before, set(sys.modules) - before
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_memory_that_runs_out_leaves_as_a_memory_error_and_frees_its_arrays():
    import weakref

    freed = []

    def allocate():
        array = np.ones(1000)
        freed.append(weakref.ref(array))
        raise MemoryError("1 TB")

    with pytest.raises(MemoryError, match=r"on the CPU: 1 TB") as held:  # noqa: SIM117
        with kernels_for(b=np.ones(3)):
            allocate()
    assert freed[0]() is None
    assert held.value.__context__ is not None  # whose frames had it


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), kernels_for(b=np.ones(3)):
        1 / 0
