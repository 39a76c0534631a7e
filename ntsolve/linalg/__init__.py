"""Linear systems: conjugate gradients and what speeds them up.

Conjugate gradients
    cg, iteration, batched      the public function; its loop; many small dense systems in one kernel
    watchdog, ritz              whether a preconditioner is worth it; what the first iterations say of the others
    recycling                   deflation, from solve to solve
    linear_operator             preconditioners as operators of SciPy

Preconditioners of sparse matrices
    triangular, relaxation      incomplete Cholesky and SSOR; its relaxation, learned
    aggregation                 multigrid along strong couplings

Grids
    grid, grid_faces, grid_null, grid_csr, grid_places  the operator; its faces; where it is singular; from and to CSR
    gridcg, grid_rows           conjugate gradients on a grid; the vectors there
    multigrid, hierarchy, bottom    the multigrid cycle; its levels; the coarsest of them
    weights, weightfile, training   what it is tuned by; the files of that; how it is learned

Deep conjugate directions
    dcd, dcd_network, dcd_training  the method; its network; how that is trained
"""
