"""The Numba twins. `xp` is what solvers may call on whole arrays."""

import numpy as xp  # noqa: F401

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
from .items import each  # noqa: F401
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
from .spare import borrow, give_back, release  # noqa: F401
from .steps import csr_cg_steps, dense_cg_steps  # noqa: F401

NAME = "cpu"


def to_host(array):
    """The array in host memory; where it is there already, itself."""
    return array


def csr_matrix(data, indices, indptr, shape):
    """The sparse matrix with these parts."""
    from scipy.sparse import csr_array

    return csr_array((data, indices, indptr), shape=shape)


def synchronize():
    """Wait until everything asked for is done: at once, on the CPU."""
