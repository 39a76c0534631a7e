"""The CUDA twins, launched through CuPy. `xp` is what solvers may call on whole arrays."""

import cupy as xp

from .batched import batched_cg  # noqa: F401
from .factors import cholesky, cholesky_solve, shift_factor  # noqa: F401
from .fisher import combine_rows, gram, gram_columns, leverage, row_dots  # noqa: F401
from .gibbs import (  # noqa: F401
    cost_range,
    gibbs_certificate,
    gibbs_kernel,
    gibbs_sums,
    plan_count,
    plan_dense,
    plan_moments,
    plan_sparse,
    points_gradient,
    rounded_value,
)
from .gridot import grid_anchor, grid_plan, grid_potentials, grid_step, grid_turn, min_plus  # noqa: F401
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
from .loop import FLOPS_A_CALL, PACKED_RUNS, SMALL, Replay, column_parts  # noqa: F401
from .proximal import (  # noqa: F401
    proximal_columns,
    proximal_hessian,
    proximal_rows,
    proximal_search,
)
from .lp import lp_equilibrate, lp_errors, lp_power, lp_scale, lp_steps  # noqa: F401
from .scaling import (  # noqa: F401
    scaling_anneal,
    scaling_column_max,
    scaling_compact,
    scaling_diagonal,
    scaling_pack,
    scaling_products,
    scaling_sweep,
    schur_cg_steps,
    sinkhorn_steps,
)
from .sketch import gram_csr, gram_matvec, hadamard, sample_rows, sum_buckets  # noqa: F401
from .softmin import softmin_columns, softmin_rows  # noqa: F401
from .steps import csr_cg_steps, dense_cg_steps  # noqa: F401

NAME = "cuda"


def to_host(array):
    """The array in host memory; waits for it. An array that is there already is itself."""
    return array.get() if isinstance(array, xp.ndarray) else array


def csr_matrix(data, indices, indptr, shape):
    """The sparse matrix with these parts."""
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix((data, indices, indptr), shape=shape)


def synchronize():
    """Wait until everything asked for on the current stream is done."""
    xp.cuda.get_current_stream().synchronize()


def each(run, count):
    """run(i) for all i below `count`."""
    for number in range(count):
        run(number)


def borrow(shape, dtype):
    """An array with anything in it; CuPy reuses freed memory by itself."""
    return xp.empty(shape, dtype=dtype)


def give_back(array):
    """Nothing: it is freed when nobody uses it any more."""


def release():
    """Give the memory that CuPy keeps for reuse back to the device."""
    xp.get_default_memory_pool().free_all_blocks()
