"""Points without a stored cost, in a process of its own: `python -m bench._transport_memory N` prints a record as JSON.

Python and its libraries, above all Numba's compiler, take more than the solve does. So the peak of the process is given
together with what it had before the solve, when everything was compiled.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

import ntsolve
from ntsolve.kernels.settings import threads

from ._transport_tasks import clouds

TOL = 1e-6
ROWS = 50  # of the plan, at a time


def peak():
    """Most memory that this process has had, in bytes; not getrusage's, which begins with that of the parent."""
    return _status("VmHWM")


def present():
    """Memory of this process, in bytes."""
    return _status("VmRSS")


def _status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def costs(X, Y):
    """Squared distances of a few points to all others."""
    return ((X[:, None, :] - Y[None]) ** 2).sum(-1)


def blocks(count):
    """Rows, a few at a time."""
    return [slice(low, low + ROWS) for low in range(0, count, ROWS)]


def marginal_error(X, Y, a, b, reg, f, g):
    """|P 1 - a|_1 + |P'1 - b|_1, a few rows at a time."""
    error, columns = 0.0, np.zeros_like(b)
    for part in blocks(a.size):
        P = np.exp((f[part, None] + g - costs(X[part], Y)) / reg)
        error += abs(P.sum(1) - a[part]).sum()
        columns += P.sum(0)
    return error + abs(columns - b).sum()


def pot_lazily(X, Y, a, b, reg, cap):
    """What POT does with the same in `cap` seconds, in words."""
    import ot

    def run(iterations):
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = ot.solve_sample(X, Y, a, b, reg=reg, lazy=True, max_iter=iterations, tol=TOL)
        return result, time.perf_counter() - began

    one = run(1)[1]
    most = int(cap / one)
    if most < 2:
        return f"ot.solve_sample(lazy=True): {one:.1f} s for its first iteration"
    result, seconds = run(most)
    f, g = (reg * each for each in result.potentials)
    error = marginal_error(X, Y, a, b, reg, f, g)
    state = "reached" if error <= TOL else "stopped"
    return f"ot.solve_sample(lazy=True): {state} after {seconds:.1f} s and {most} iterations, error {error:.1e}"


def main(argv=None):
    """Solve, check, and print the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    small = clouds(300)
    ntsolve.solve_ot_sample(*small, reg=0.05, tol=TOL)  # compiles
    X, Y, a, b = clouds(arguments.count)
    reg = 1e-3 * max(costs(X[part], Y).max() for part in blocks(a.size))
    before, began = present(), time.perf_counter()
    result = ntsolve.solve_ot_sample(X, Y, a, b, reg=reg, tol=TOL)
    seconds, most = time.perf_counter() - began, peak()
    stored = 8.0 * a.size * b.size
    error = marginal_error(X, Y, a, b, reg, *result.potentials)
    assert error <= TOL, error
    found = (
        f"{a.size:,} x {b.size:,} points in the plane, reg 1e-3 of the cost range, to {TOL:g}: {seconds:.1f} s with "
        f"{threads()} threads, error {error:.1e}; peak memory of the process {most / 2**20:.0f} MiB, of which "
        f"{before / 2**20:.0f} before the solve; a stored cost would take {stored / 2**20:.0f} MiB"
    )
    lines = [found, pot_lazily(X, Y, a, b, reg, 0.1 if arguments.quick else 30.0)]
    print(json.dumps({"share": (most - before) / stored, "seconds": seconds, "lines": lines}))


if __name__ == "__main__":
    main()
