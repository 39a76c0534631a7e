"""`python -m bench._optimize_large N`: the control problem on N x N points without a matrix, as JSON."""

import json
import resource
import sys
import time

import ntsolve

from . import _optimize_peers as peers
from ._optimize_problems import Plate


def main(N):
    """Solve, and say what it took."""
    plate = Plate(N, matrix_free=True)
    began = time.perf_counter()
    with ntsolve.config(threads=2):
        result = ntsolve.minimize(plate.objective, plate.start, jac=plate.gradient, hess=plate.hessian, tol=peers.TOL,
                                  constraints=plate.constraint, state_solve=plate.state_solve,
                                  on_failure="ignore")  # fmt: skip
    seconds = time.perf_counter() - began
    x = result.x
    residual = peers.kkt_residual(plate.gradient(x), plate.equation(x), plate.jacobian(x), plate.normal_inverse)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kibibytes on Linux
    print(json.dumps({"seconds": seconds, "iterations": result.nit, "inner": result.inner_iterations,
                      "residual": residual, "status": result.status.name, "gigabytes": most}))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
