"""Metadata, extras, and the mapping of the top-level folder kernels/ to the package ntsolve.kernels."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "ntsolve/_version.py").read_text("utf-8"), re.M)[1]

# The CUDA twins are compiled by the very NVRTC whose register counts are recorded in tests/, and the stand-in for CuPy
# is checked against the names of a real one. Neither needs a driver; both wheels exist for Linux only where g++ does.
LINUX = "sys_platform == 'linux' and (platform_machine == 'x86_64' or platform_machine == 'aarch64')"
MPI = ["mpi4py>=4.1", f"mpich>=4.3; {LINUX}"]  # mpi4py runs on whatever MPI there is, and mpich brings one
TEST = [
    "pytest>=8.2",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "scikit-learn>=1.5",
    "POT>=0.9.5",  # what compat.pot is compared with
    "matplotlib>=3.8",  # the demo's picture; brings Pillow, which scikit-learn needs to read its photos
    "array-api-strict>=2.3",
    "distributed>=2024.8",  # farms on dask, and on loky
    "loky>=3.4",
    "setuptools>=77",
    "wheel>=0.43",
    f"nvidia-cuda-nvrtc==13.0.88; {LINUX}",
    *MPI,
]
CUPY_13 = f"cupy-cuda13x==14.2.0; {LINUX}"
DOCS = ["sphinx>=8", "myst-parser>=4", "furo>=2024.8.6"]

EXTRAS = {
    # to use
    "cuda12x": ["cupy-cuda12x>=14"],
    "cuda13x": ["cupy-cuda13x>=14"],
    "train": ["cma>=4"],
    "dcd": ["torch>=2.4"],
    "mpi": MPI,
    "dask": ["distributed>=2024.8"],
    "plot": ["matplotlib>=3.8"],
    "demo": ["scikit-learn>=1.5", "POT>=0.9.5", "matplotlib>=3.8"],
    # to work on it
    "bench": ["scikit-learn>=1.5", "POT>=0.9.5", "regot>=0.0.3", "pyamg>=5.2", "threadpoolctl>=3.5", "casadi>=3.6",
              "ortools>=9.10", *MPI],
    "test": [*TEST, CUPY_13],
    "test-cuda12x": [*TEST, "cupy-cuda12x>=14"],  # two CuPy wheels in one environment break each other
    "docs": DOCS,
    "dev": ["ruff>=0.14", "mypy>=1.15", *TEST, CUPY_13, *DOCS],
}

setup(
    name="ntsolve",
    version=VERSION,
    description="Numerical solvers, each written once for the CPU (Numba) and the GPU (CUDA)",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="the ntsolve developers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    keywords="numerical solvers, linear systems, optimal transport, constrained optimization, curvature, batched, CUDA",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Mathematics",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    install_requires=["numpy>=2.0", "scipy>=1.15", "numba>=0.61", "tqdm>=4.64"],
    extras_require=EXTRAS,
    packages=[
        *find_packages(include=["ntsolve", "ntsolve.*"]),
        "ntsolve.kernels",
        *(f"ntsolve.kernels.{name}" for name in find_packages("kernels")),
    ],
    package_dir={"ntsolve.kernels": "kernels"},
    package_data={
        "ntsolve": ["py.typed", "weights/*.npz"],
        "": ["*.pyi", "*.cu", "*.cuh"],
    },
    zip_safe=False,
)
