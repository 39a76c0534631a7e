"""What a figure depends on: versions, processor, threads, devices. For `python -m ntsolve info`, the demo and bench."""

import importlib.util
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from ._version import __version__
from .kernels.settings import threads

PACKAGES = ("numpy", "scipy", "numba")


def version(distribution):
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions(*more):
    """Versions by name: ntsolve, Python, what ntsolve stands on, CuPy where there is one, and `more` packages."""
    found = {"ntsolve": __version__, "python": platform.python_version()}
    found |= {name: version(name) or "not installed" for name in (*PACKAGES, *more)}
    cupy = next((v for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy") if (v := version(name))), None)
    return found | ({"cupy": cupy} if cupy else {})


def processor():
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpus():
    """(a line for each GPU that CuPy can use, why there is none)"""
    if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
        return [], "CuPy is not installed: the extra cuda12x or cuda13x brings it"
    try:
        import cupy

        if not cupy.cuda.is_available():
            return [], "CuPy finds no CUDA device"
        runtime, found = cupy.cuda.runtime, []
        for number in range(runtime.getDeviceCount()):
            properties = runtime.getDeviceProperties(number)
            memory = properties["totalGlobalMem"] / 2**30
            found.append(f"{properties['name'].decode()}, {memory:.1f} GiB")
        return found, ""
    except Exception as error:  # whatever a driver, a library or an installation has to complain about
        return [], f"CuPy cannot use a device: {error}"


def blas():
    """(library, version, threads) of each BLAS loaded, as threadpoolctl sees it; None where that is not installed."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    everything = importlib.import_module("threadpoolctl").threadpool_info()
    pools = [pool for pool in everything if pool["user_api"] == "blas"]
    return sorted({(pool["internal_api"], str(pool["version"]), pool["num_threads"]) for pool in pools})


def compiled_kernels():
    """What Numba compiles, by "module.name": the functions inside the CPU twins."""
    importlib.import_module("ntsolve.kernels.cpu")
    modules = [module for name, module in sys.modules.items() if name.startswith("ntsolve.kernels.cpu.")]
    found = [kernel for module in modules for kernel in vars(module).values() if hasattr(kernel, "nopython_signatures")]
    return {f"{kernel.__module__}.{kernel.__name__}": kernel for kernel in found}


def numba_cache():
    """The folder that compiled CPU kernels are kept in."""
    paths = {kernel.stats.cache_path for kernel in compiled_kernels().values()}
    return ", ".join(sorted(filter(None, paths))) or "none: compiled again in each process"


def describe(*packages):
    """All of it, as a dictionary fit for JSON."""
    found, _ = gpus()
    return {
        "versions": versions(*packages),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "ntsolve threads": threads(),
        "blas": [f"{name} {release}, {count} threads" for name, release, count in blas() or []],
        "gpu": found,
    }


def line(facts):
    """Those facts in a line or two."""
    written = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    where = [facts["cpu"], *facts["gpu"], *(f"BLAS: {entry}" for entry in facts["blas"])]
    return f"{written}\n{facts['platform']}; {'; '.join(where)}"
