"""The CUDA twins, launched through CuPy. `xp` is what solvers may call on whole arrays."""

import cupy as xp

from .batched import batched_cg  # noqa: F401
from .kkt import kaczmarz, kkt_factor, kkt_solve  # noqa: F401
from .linalg import (  # noqa: F401
    cg_direction,
    cg_update,
    csr_matvec,
    csr_matvec_dot,
    csr_residual,
    dense_matvec,
    dense_residual,
    dot,
    flexible_dots,
    norm,
)
from .loop import FLOPS_A_CALL, SMALL, Replay  # noqa: F401
from .sketch import gram_csr, gram_matvec, hadamard, sample_rows, sum_buckets  # noqa: F401
from .steps import csr_cg_steps, dense_cg_steps  # noqa: F401

NAME = "cuda"


def to_host(array):
    """The array in host memory; waits for it. An array that is there already is itself."""
    return array.get() if isinstance(array, xp.ndarray) else array


def synchronize():
    """Wait until everything asked for on the current stream is done."""
    xp.cuda.get_current_stream().synchronize()


def release():
    """Give the memory that CuPy keeps for reuse back to the device."""
    xp.get_default_memory_pool().free_all_blocks()
