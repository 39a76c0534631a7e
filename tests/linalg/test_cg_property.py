"""`success` means success: on any problem, the residual, computed here without ntsolve, meets the tolerance."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from ntsolve import Status

SLACK = {"float64": 1.01, "float32": 2.0}
EVALUATION = 1.0
"""Times eps || |A| |x| ||: what b - A x may be off by when somebody else's operator evaluates A x in the dtype of the
problem. For arrays and sparse matrices ntsolve evaluates it in twice the precision, and nothing is allowed for."""
KINDS = ("dense", "csr", "operator", "many", "batch")


@st.composite
def problems(draw):
    """What a problem is made from: drawn one by one, so that a failure shrinks to something readable."""
    dtype = draw(st.sampled_from(["float64", "float32"]))
    scale = st.integers(-150, 150) if dtype == "float64" else st.integers(-15, 15)
    return {
        "dtype": dtype,
        "n": draw(st.integers(1, 60)),
        "condition": 10.0 ** draw(st.floats(0, 10)),
        "A_scale": 10.0 ** draw(st.one_of(st.just(0), scale)),
        "b_scale": 10.0 ** draw(st.one_of(st.just(0), scale)),
        "rtol": 10.0 ** draw(st.floats(-18, 0) if draw(st.booleans()) else st.floats(-8, -1)),
        "atol": draw(st.sampled_from([0.0, 0.0, 1e-10, 1.0])),
        "kind": draw(st.sampled_from(KINDS)),
        "M": draw(st.sampled_from([None, "jacobi"])),
        "start": draw(st.sampled_from([None, None, "near", "far"])),
        "spectrum": draw(st.sampled_from(["graded", "clustered", "indefinite"])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def build(n, dtype, condition, A_scale, b_scale, kind, start, spectrum, seed, **_):
    """A (dense, and as it is passed), b and x0."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.geomspace(1 / condition, 1, n)
    if spectrum == "clustered":
        eigenvalues[n // 3 :] = 1
    if spectrum == "indefinite":
        eigenvalues[0] *= -1
    batch = {"many": (3,), "batch": (3,)}.get(kind, ())
    if kind == "csr":  # a few rotations leave it sparse
        A = np.diag(rng.permutation(eigenvalues))
        for i in range(n - 1):
            c, s = np.cos(i), np.sin(i)
            J = np.array([[c, -s], [s, c]])
            A[i : i + 2] = J @ A[i : i + 2]
            A[:, i : i + 2] = A[:, i : i + 2] @ J.T
    else:
        Q = np.linalg.qr(rng.standard_normal((*(batch if kind == "batch" else ()), n, n)))[0]
        A = (Q * eigenvalues) @ Q.swapaxes(-1, -2)
    A = (A_scale * (A + A.swapaxes(-1, -2)) / 2).astype(dtype)
    b = (b_scale * rng.standard_normal((*batch, n))).astype(dtype)
    x0 = None
    if start is not None:
        size = b_scale / A_scale * (1e6 if start == "far" else 1)
        x0 = (np.clip(size, 1e-300, 1e300) * rng.standard_normal((*batch, n))).astype(dtype)
        x0[~np.isfinite(x0)] = 0
    passed = {"csr": sp.csr_array, "operator": aslinearoperator}.get(kind, np.asarray)(A)
    return A, passed, b, x0


def norm(v):
    """In extended precision, where 1e300 has a square."""
    return np.sqrt((v.astype(np.longdouble) ** 2).sum(-1))


def success_means_success(problem):
    A, passed, b, x0 = build(**problem)
    M = None if problem["kind"] == "operator" else problem["M"]
    result = ntsolve.cg(passed, b, x0, M=M, rtol=problem["rtol"], atol=problem["atol"], on_failure="ignore")
    success, status = np.asarray(result.success), np.asarray(result.status)
    assert np.array_equal(success, status == Status.CONVERGED)
    assert result.x.dtype == b.dtype
    assert np.max(result.nit) <= 10 * problem["n"]
    if success.any():
        x = result.x.astype(np.longdouble)
        residual = norm(b - (A.astype(np.longdouble) @ x[..., None])[..., 0])
        tolerance = np.maximum(np.longdouble(problem["rtol"]) * norm(b), problem["atol"])
        allowed = SLACK[problem["dtype"]] * tolerance
        if problem["kind"] == "operator":
            size = norm((abs(A).astype(np.longdouble) @ abs(x)[..., None])[..., 0])
            allowed = allowed + EVALUATION * np.finfo(problem["dtype"]).eps * size
        assert np.all((residual <= allowed)[success])
    easy = problem["condition"] < 100 and problem["spectrum"] != "indefinite" and problem["start"] != "far"
    if easy and problem["rtol"] > {"float64": 1e-12, "float32": 1e-4}[problem["dtype"]] and in_range(problem):
        assert success.all(), Status(int(status.min())).advice


def in_range(problem):
    """The solution and all on the way to it can be written down in the dtype."""
    far = abs(np.log10(problem["A_scale"])) + abs(np.log10(problem["b_scale"]))
    return far < {"float64": 250, "float32": 25}[problem["dtype"]]


RULES = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@given(problems())
@settings(max_examples=500, **RULES)
def test_success_means_success(problem):
    success_means_success(problem)


@pytest.mark.slow
@given(problems())
@settings(max_examples=10_000, **RULES)
def test_success_means_success_ten_thousand_times(problem):
    success_means_success(problem)
