"""Every barrier is needed: with any one of them deleted, the emulator has to object to some case of some kernel."""

import re

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

SITES = [(file, site) for file in sorted(launch.INSTANCES) for site in barriers.sites(sources.source(file))]


@pytest.fixture
def compiled_anew():
    """No compiled module from before, and none of this test left behind."""
    launch._function.cache_clear()
    yield
    launch._function.cache_clear()


def most_likely_first(file, site):
    """Names of the family's kernels; first the one in whose text the barrier stands."""
    before = sources.source(file)[: site.start]
    around = re.findall(r"__global__\s+void\s+__launch_bounds__\([^)]*\)\s*(\w+)", before)[-1:]
    family = [name for name, contract in harness.REGISTRY.items() if f"{contract.family}.cu" == file]
    return sorted(family, key=lambda name: not around or not around[0].startswith(name))


@pytest.mark.parametrize(("file", "site"), SITES, ids=[f"{file}:{site.line}:{site.kind}" for file, site in SITES])
def test_barrier_is_needed(file, site, monkeypatch, compiled_anew):
    monkeypatch.setattr(launch, "source", lambda name: barriers.without(sources.source(name), site))
    with pytest.raises(EmuError, match=r"race|no thread of this block has written|deadlock"):
        for name in most_likely_first(file, site):
            for case in harness.cases(name, "float32"):
                on_device(name, case)
