"""NVIDIA's compiler takes every instance of every kernel, without spilling, with the registers on record.

`NTSOLVE_RECORD=1 pytest tests/kernels/test_cuda_compile.py` writes the record anew, after a change that is meant.
"""

import json
import os
import pathlib
import re

import pytest

from ntsolve.kernels import sources
from tests import nvrtc

launch = pytest.importorskip("ntsolve.kernels.cuda.launch")
pytest.importorskip("ntsolve.kernels.cuda")

RECORD = pathlib.Path(__file__).with_name("registers.json")
ARCHITECTURES = (90, *(pytest.param(arch, marks=pytest.mark.slow) for arch in (80, 100, 120)))
pytestmark = pytest.mark.skipif(not nvrtc.is_available() and not nvrtc.required(), reason=f"pip install {nvrtc.WHEEL}")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", sorted(launch.INSTANCES))
def test_compiles_without_spills(file, architecture):
    if architecture not in nvrtc.supported_archs():
        pytest.skip(f"this NVRTC has no sm_{architecture}")
    report = nvrtc.compile(sources.source(file), launch.INSTANCES[file], architecture)
    assert set(report) == set(launch.INSTANCES[file])
    for instance, used in report.items():
        assert used["spill"] == 0, f"{instance} spills {used['spill']} bytes"
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    key = f"NVRTC {'.'.join(map(str, nvrtc.version()))}, sm_{architecture}"
    registers = {instance: used["regs"] for instance, used in sorted(report.items())}
    if os.environ.get("NTSOLVE_RECORD") == "1":
        recorded.setdefault(key, {}).update(registers)
        RECORD.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    if key in recorded:  # another version of the compiler may do otherwise
        known = {instance: recorded[key].get(instance) for instance in registers}
        assert registers == known, f"registers on {key} differ from {RECORD.name}"


@pytest.mark.parametrize("file", sorted(launch.INSTANCES))
def test_every_kernel_says_how_large_its_blocks_are(file):
    text = sources.source(file)
    assert text.count("__global__") == len(re.findall(r"__global__\s+void\s+__launch_bounds__\(", text))
