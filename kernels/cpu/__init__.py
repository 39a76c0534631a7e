"""The Numba twins. `xp` is what solvers may call on whole arrays."""

import numpy as xp  # noqa: F401

from .aggregation import (  # noqa: F401
    add_aggregates,
    coarse_cycle,
    colour_sweep,
    sparse_down,
    sparse_residual,
    sparse_up,
    stencil_residual,
    sum_members,
)
from .batched import batched_cg  # noqa: F401
from .convolution import convolve, pool_blocks, unpool_add  # noqa: F401
from .cycle import cycle_down, cycle_small, cycle_up  # noqa: F401
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
from .grid import (  # noqa: F401
    csr_to_faces,
    faces_matvec_dot,
    gather_cells,
    open_matvec_dot,
    remove_means,
    scatter_cells,
    spread_cells,
)
from .gridcg import grid_direction, grid_give, grid_take, grid_update  # noqa: F401
from .gridot import grid_anchor, grid_plan, grid_potentials, grid_step, grid_turn, min_plus  # noqa: F401
from .gridresidual import faces_residual, open_residual, open_residual_norm  # noqa: F401
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
from .loop import (  # noqa: F401
    ENTRIES_A_PROBLEM,
    FLOPS_A_CALL,
    PACKED_RUNS,
    SMALL,
    Replay,
    column_parts,
)
from .lp import lp_equilibrate, lp_errors, lp_power, lp_scale, lp_steps  # noqa: F401
from .lprows import lp_columns, lp_rows  # noqa: F401
from .manyot import transport_items  # noqa: F401
from .proximal import (  # noqa: F401
    proximal_columns,
    proximal_hessian,
    proximal_rows,
    proximal_search,
)
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
from .spare import borrow, borrow_zeros, give_back, release  # noqa: F401
from .split import (  # noqa: F401
    codes_split,
    grid_join,
    grid_split,
    parted_pairs,
    stencil_coarsen,
    stencil_split,
)
from .steps import csr_cg_steps, dense_cg_steps  # noqa: F401
from .triangular import ic0_factor, row_levels, two_sweeps  # noqa: F401

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
