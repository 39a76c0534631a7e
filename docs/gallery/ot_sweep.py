"""A permutation test of 1,000 transport problems, on the workers of a dask cluster: see ot_sweep.md.

    python ot_sweep.py
    python ot_sweep.py --scheduler tcp://head-node:8786
"""

import argparse
import sys
import time

import numpy as np

import ntsolve


def samples(rng, n, shift):
    """Two rings of points; in the second, so much of the ring is missing."""
    angles = rng.uniform(0, 2 * np.pi, n), rng.uniform(shift, 2 * np.pi, n + n // 10)
    return [np.stack([np.cos(a), np.sin(a)], axis=1) + 0.1 * rng.standard_normal((len(a), 2)) for a in angles]


def permutation_test(X, Y, executor, *, count=1000, reg=0.05, rng, **options):
    """(cost of moving X to Y, share of `count` random divisions of all points whose cost is as large, BatchResult)"""
    points = np.concatenate([X, Y])
    problems = [(X, Y)]
    for _ in range(count - 1):
        mixed = rng.permutation(points)
        problems.append((mixed[: len(X)], mixed[len(X) :]))
    result = ntsolve.solve_batch("solve_ot_sample", problems, executor=executor, reg=reg, tol=1e-6, **options)
    costs = np.array([one.value_linear for one in result])
    return costs[0], float((costs >= costs[0]).mean()), result


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="problems of each test")
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2, help="of a cluster on this machine")
    parser.add_argument("--scheduler", help="the address of a cluster that is there already")
    chosen = parser.parse_args(arguments)
    from distributed import Client, LocalCluster

    rng = np.random.default_rng(0)
    if chosen.scheduler:
        client = Client(chosen.scheduler)
    else:
        client = Client(LocalCluster(n_workers=chosen.workers, threads_per_worker=1, dashboard_address=None))
    found = []
    with client:
        executor = client.get_executor()
        for shift in (0.0, 1.0):
            X, Y = samples(rng, chosen.points, shift)
            began = time.perf_counter()
            cost, share, result = permutation_test(X, Y, executor, count=chosen.count, rng=rng)
            seconds = time.perf_counter() - began
            print(f"{shift:g} of the ring missing: cost {cost:.4f}, p = {share:.3f}; {result!r}, {seconds:.1f} s")
            found.append((cost, share, result))
        if client.cluster is not None:
            client.cluster.close()
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
