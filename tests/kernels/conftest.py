"""On a real GPU, records which kernels kept their contracts there, at which source, in tests/gpu_verified.json."""

import datetime
import json
import pathlib

import pytest

from ntsolve.kernels import sources
from tests.conftest import REAL_GPU

from . import harness

RECORD = pathlib.Path(__file__).parents[1] / "gpu_verified.json"


@pytest.fixture(scope="session")
def gpu_record():
    """Call it with (kernel, dtype) once that has been seen to keep its contract; written at the end, on a GPU only."""
    seen: dict[str, set] = {}
    yield lambda name, dtype: seen.setdefault(name, set()).add(dtype)
    done = [name for name, dtypes in seen.items() if dtypes == set(harness.DTYPES)]
    if not REAL_GPU or not done:
        return
    import cupy

    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"kernels": {}}
    runtime = cupy.cuda.runtime
    for name in done:
        record["kernels"][name] = {
            "sha256": sources.fingerprint(harness.REGISTRY[name].family),
            "device": runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode(),
            "date": datetime.date.today().isoformat(),
            "cupy": cupy.__version__,
            "cuda": "{}.{}".format(*divmod(runtime.runtimeGetVersion() // 10, 100)),
        }
    record["kernels"] = dict(sorted(record["kernels"].items()))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
