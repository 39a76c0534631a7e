"""Every barrier is needed: with any one of them deleted, the emulator has to object to some case of some kernel."""

import re
import shutil

import pytest

from tests.conftest import REAL_GPU

from . import harness

if REAL_GPU:
    pytest.skip("the emulator finds races, a GPU only suffers them", allow_module_level=True)
launch = pytest.importorskip("ntsolve.kernels.cuda.launch")
pytest.importorskip("ntsolve.kernels.cuda")

from ntsolve.kernels import sources  # noqa: E402
from tests.emu import barriers  # noqa: E402
from tests.emu.errors import EmuError  # noqa: E402

from .test_cuda_twins import on_device  # noqa: E402

FILES = sorted([*sources.CUDA.glob("*.cu"), *sources.CUDA.glob("*.cuh")])
SITES = [(file, site) for file in FILES for site in barriers.sites(file.read_text())]


@pytest.fixture
def compiled_anew():
    """No compiled kernel from before, and none of this test left behind."""
    launch._function.cache_clear()
    yield
    launch._function.cache_clear()


def includes(file, name):
    """Whether a file includes another, itself or by way of a header."""
    headers = re.findall(r'#include "(\w+\.cuh)"', file.read_text())
    return name in headers or any(includes(file.with_name(header), name) for header in headers)


def most_likely_first(file, site):
    """Names of the kernels of a family, or of all that include a header; first the one around the barrier."""
    around = re.findall(r"__global__\s+void\s+__launch_bounds__\([^)]*\)\s*(\w+)", file.read_text()[: site.start])[-1:]
    families = {other.stem for other in FILES if other == file or includes(other, file.name)}
    names = [name for name, contract in harness.REGISTRY.items() if contract.family in families]
    return sorted(names, key=lambda name: not around or not around[0].startswith(name))


def run_all(names):
    for name in names:
        for case in harness.cases(name, "float32"):
            on_device(name, case)


@pytest.mark.parametrize(("file", "site"), SITES, ids=[f"{f.name}:{s.line}:{s.kind}" for f, s in SITES])
def test_barrier_is_needed(file, site, tmp_path, monkeypatch, compiled_anew):
    for other in FILES:
        shutil.copy(other, tmp_path)
    (tmp_path / file.name).write_text(barriers.without(file.read_text(), site))
    monkeypatch.setattr(sources, "CUDA", tmp_path)
    with pytest.raises(EmuError, match=r"race|no thread of this block has written|deadlock"):
        run_all(most_likely_first(file, site))
