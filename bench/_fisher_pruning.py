"""Pruning with the Fisher matrix, for bench/fisher.py: what networks for digits still know, without training."""

import functools

import numpy as np

from ntsolve.demo import pruning

from ._harness import Method, Target


def pruning_part(report, options):
    """Networks for digits, pruned; no training afterwards."""
    seeds = range(1 if options.quick else 5)
    with pruning.one_blas_thread():
        tasks = [pruning.task(seed) for seed in seeds]
    bounds = dict(zip(pruning.SPARSITIES, (0.95, 0.95, 0.93, 0.80), strict=True))
    if options.quick:
        bounds = {0.5: 0.95}
    methods = pruning.METHODS[1:] if options.quick else pruning.METHODS
    for sparsity, bound in bounds.items():

        def accuracy(method, sparsity=sparsity):
            with pruning.one_blas_thread():
                return float(np.mean([task.accuracy(method.run(task, sparsity)) for task in tasks])), None

        table = report.contest(
            options,
            f"Held-out digits wrong after {sparsity:.0%} of the weights are gone, mean of {len(tasks)} networks",
            [
                Method(method.name, functools.partial(accuracy, method), peer=method is pruning.MAGNITUDE)
                for method in methods
            ],
            lambda share: 1 - share,
            limit=1,
            repeats=1,
            error_name="share wrong",
            notes=("3,466 weights, 512 gradients, damp 1e-5; 600 held-out digits; no training afterwards.",),
        )
        for recomputes in (6,) if options.quick else (6, 12):
            share = 1 - table.entry(f"ntsolve.prune, {recomputes} recomputes").error
            text = f"accuracy at {sparsity:.0%}, {recomputes} recomputes"
            report.targets.append(Target(text, share, bound, at_least=True))
