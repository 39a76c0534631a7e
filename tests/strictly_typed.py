"""What users write whose own code is checked by `mypy --strict`: mypy reads this file, nothing runs it.

Arrays are `Any`, since they may be NumPy's, CuPy's or those of another library; what a call returns is known.
"""

from typing import Any, assert_type

import numpy as np

import ntsolve
from ntsolve.compat import pot, scipy


def linear_systems(A: Any, b: Any, mask: Any) -> None:
    with ntsolve.config(threads=2):
        result = ntsolve.cg(A, b, M=ntsolve.ssor(A, 1.5).with_omega(1.2), callback=ntsolve.progress(desc="cg"))
    assert_type(result, ntsolve.LinearResult)
    _ = result.status.name, result["x"], len(result), *result, result.verify(A, b), "x" in result, result.keys()
    grid = ntsolve.GridOperator.poisson(mask)
    assert_type(grid, ntsolve.GridOperator)
    M, tuner = ntsolve.LearnedMultigrid(grid), ntsolve.RelaxationTuner((1.0, 1.5))
    tuner.observe(ntsolve.cg(grid, grid @ b, M=M, recycle=ntsolve.Recycler(8)).nit)
    ntsolve.cg(A, b, M=ntsolve.ic0(A)), tuner.suggest(), tuner.best(), M @ b, M.as_linear_operator(), grid.tocsr()
    ntsolve.train_multigrid([grid]).save("weights.npz")
    assert_type(ntsolve.DeepConjugateDirection(grid).solve(b), ntsolve.LinearResult)
    assert_type(scipy.cg(A, b), tuple[Any, int])
    ntsolve.RowPartition(A, None)


def transport(C: Any, a: Any, b: Any) -> None:
    result = ntsolve.solve_ot(C, a, b, reg=0.1)
    assert_type(result, ntsolve.OTResult)
    _ = result.plan, result.sparse_plan(1e-6), result.gradient("value"), result.verify(C, a, b)
    assert_type(ntsolve.solve_ot_sample(a, b, reg=0.1), ntsolve.OTResult)
    assert_type(ntsolve.solve_ot_grid(a, b), ntsolve.OTGridResult)
    pot.sinkhorn(a, b, C, 0.1), pot.sinkhorn2(a, b, C, 0.1), pot.solve(C, reg=0.1), pot.solve_sample(a, b, reg=0.1)


def optimization(c: Any, T: Any) -> None:
    assert_type(ntsolve.minimize(np.sum, c), ntsolve.MinimizeResult)
    assert_type(ntsolve.linprog(c), ntsolve.LinprogResult)
    assert_type(ntsolve.read_mps("problem.mps").solve(), ntsolve.LinprogResult)
    assert_type(ntsolve.halpern(T, c), ntsolve.FixedPointResult)
    assert_type(ntsolve.monotone(T, c, lipschitz=1.0), ntsolve.FixedPointResult)
    assert_type(ntsolve.halpern_finite_sum(T, 5, c, lipschitz=1.0), ntsolve.FixedPointResult)
    _ = ntsolve.FactoredHessian(c, c) @ c, scipy.linprog(c)
    batch = ntsolve.solve_batch(ntsolve.cg, [(c, c)])
    assert_type(batch, ntsolve.BatchResult)
    _ = len(batch), batch[0], *batch


def curvature(G: Any, w: Any) -> None:
    F = ntsolve.EmpiricalFisher(G, damp=1e-3)
    assert_type(F.with_damp(1e-2), ntsolve.EmpiricalFisher)
    assert_type(ntsolve.EmpiricalFisher.window(8, 3, 0.1), ntsolve.EmpiricalFisher)
    assert_type(ntsolve.ihvp(F, w), ntsolve.IHVPResult)
    assert_type(ntsolve.influence(G, w, fisher=F), ntsolve.InfluenceResult)
    assert_type(ntsolve.prune(w, F, sparsity=0.5), ntsolve.PruneResult)
    _ = F.solve(w), F @ w, F.diag(), F.block([0, 1]), F.element(0, 1) + F.log_det()
    optimizer = ntsolve.MFAC(3)
    optimizer.step(w, w)
    optimizer.load_state_dict(optimizer.state_dict())
