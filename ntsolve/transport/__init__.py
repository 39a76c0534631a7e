"""Optimal transport: with entropic regularisation from costs and points, without it between images.

Entropic
    solve, result, gradient     the public functions; what they return; gradients of it
    problem, costs, points      what is passed in, checked; costs as a matrix, or computed from points
    one, batch, many            one problem by any method; batches; batches of small ones, each whole in one kernel
    newton, level, store        the default method: annealing; one regularisation; the stored kernel
    sparse, cells               the same for many points: only what matters is stored, found by cells of points
    shared                      points of which each process of a run has some
    unbalanced                  marginals that may be missed at a price
    sinkhorn, paper             what the default is compared with
    anderson                    Anderson's acceleration, of which `ntsolve.halpern` makes use too
    solution, feasibility       the end of a solve: plan, values, bounds; whether there is a plan at all

Between images
    grid, gridresult            the public function, from coarse grids to finer ones; what it returns
    gridbox                     the part of a grid where the masses are
    hot                         the iteration on one grid
    gridbounds                  the bounds of the cost
"""
