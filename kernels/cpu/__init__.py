"""The Numba twins. `xp` is what solvers may call on whole arrays."""

import numpy as xp  # noqa: F401

from .batched import batched_cg  # noqa: F401
from .factors import cholesky, cholesky_solve, shift_factor  # noqa: F401
from .fisher import combine_rows, gram, gram_columns, leverage, row_dots  # noqa: F401
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

NAME = "cpu"


def to_host(array):
    """The array in host memory; where it is there already, itself."""
    return array


def synchronize():
    """Wait until everything asked for is done: at once, on the CPU."""


def release():
    """Give back memory that is cached for reuse: none, on the CPU."""
