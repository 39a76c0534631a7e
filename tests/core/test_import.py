"""`import ntsolve` is quick, because it loads next to nothing; what is needed loads when it is."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"numba", "scipy", "cupy", "tqdm", "numpy", "llvmlite", "multiprocessing", "concurrent.futures"}


def python(code, *options):
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def loaded(code):
    """Which heavy packages are loaded after the code."""
    return set(python(f"{code}\nimport sys; print(*sys.modules, sep='\\n')").split()) & HEAVY


def test_the_import_loads_nothing_heavy():
    assert loaded("import ntsolve") == set()


def test_the_import_takes_less_than_80_ms():
    """Beyond that of Python itself; on a busy machine it may take several tries to see it."""
    code = "import time; t = time.perf_counter(); import ntsolve; print(time.perf_counter() - t)"
    assert any(float(python(code)) < 0.080 for _ in range(15))


def test_settings_and_names_load_nothing_heavy():
    assert loaded("import ntsolve; ntsolve.config(threads=2); dir(ntsolve); ntsolve.__version__") == set()


def test_statuses_and_errors_do_not_load_numba():
    assert not loaded("import ntsolve; ntsolve.Status; ntsolve.ConvergenceError; ntsolve.Result") & {
        "numba",
        "scipy",
        "cupy",
    }


def test_a_solve_on_the_cpu_loads_no_gpu_package():
    code = "import numpy, ntsolve; ntsolve.cg(numpy.eye(3), numpy.ones(3))"
    assert "numba" in loaded(code)
    assert "cupy" not in loaded(code)


@pytest.mark.parametrize("name", ["cg", "config", "progress", "Status", "Result", "compat"])
def test_public_names_are_found_and_listed(name):
    import ntsolve

    assert name in dir(ntsolve)
    assert getattr(ntsolve, name) is getattr(ntsolve, name)


def test_other_names_are_attribute_errors():
    import ntsolve

    with pytest.raises(AttributeError, match="no attribute 'gc'"):
        ntsolve.gc


def test_drop_ins_are_found_from_the_top():
    import ntsolve

    assert dir(ntsolve.compat) == ["pot", "scipy"]
    assert callable(ntsolve.compat.scipy.cg)
    with pytest.raises(AttributeError, match="import ot"):
        _ = ntsolve.compat.pot.emd
