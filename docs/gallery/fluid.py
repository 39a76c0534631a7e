"""Flow past a disc, a pressure solve a step, on any number of ranks: see fluid.md.

    python fluid.py --plot flow.png
    mpiexec -n 2 python fluid.py
"""

import argparse
import sys
import time

import numpy as np
from scipy.ndimage import map_coordinates

import ntsolve

GHOSTS = 3  # planes of the neighbours that a rank keeps: values come from at most 1.5 cells away


class Alone:
    """What is asked of a communicator, for one process."""

    rank, size, mpi = 0, 1, None

    def gather(self, part):
        return [part]


def world():
    """mpi4py's communicator of all ranks, or that of one process where there are no more."""
    try:
        from mpi4py import MPI
    except ImportError:
        return Alone()
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else Alone()


class Flow:
    """This rank's slab of a channel: u and v on the low faces of cells, and smoke, with ghost planes along x."""

    def __init__(self, comm, length, width):
        self.comm, self.h = comm, 1 / width
        self.low, high = length * comm.rank // comm.size, length * (comm.rank + 1) // comm.size
        self.own = slice(GHOSTS, GHOSTS + high - self.low)
        x = np.arange(self.low - GHOSTS, high + GHOSTS)[:, None] + 0.5
        y = np.arange(width) + 0.5
        self.solid = (x - width) ** 2 + (y - 0.47 * width) ** 2 < (0.15 * width) ** 2
        self.air = np.broadcast_to(x > length - 1, self.solid.shape)  # the last plane: p = 0
        self.inlet = np.broadcast_to(x < 1, self.solid.shape)
        self.source = self.inlet & (y // (width / 16) % 2 == 0)
        self.u = np.where(self.solid, 0.0, 1.0)
        self.v, self.smoke = np.zeros((len(x), width + 1)), np.where(self.source, 1.0, 0.0)
        walls = self.solid, np.pad(self.solid, ((1, 0), (0, 0)), mode="edge")[:-1]
        self.closed_u = walls[0] | walls[1]
        self.closed_v = np.pad(self.solid, ((0, 0), (1, 1)), constant_values=True)
        self.closed_v = self.closed_v[:, 1:] | self.closed_v[:, :-1]
        self.A = ntsolve.GridOperator.poisson(
            ~(self.solid | self.air)[self.own], solid=self.solid[self.own], outside="neumann", spacing=self.h,
            comm=None if comm.size == 1 else comm,
        )  # fmt: skip
        self.p = np.zeros(self.A.mask.shape)

    def fill(self, *fields):
        """Ghost planes from the neighbours; at the ends of the channel, the last plane repeated."""
        for field in fields:
            before, after = field[self.own][:GHOSTS].copy(), field[self.own][-GHOSTS:].copy()
            field[:GHOSTS], field[-GHOSTS:] = before[:1], after[-1:]
            for there, sent, place in ((-1, before, slice(None, GHOSTS)), (1, after, slice(-GHOSTS, None))):
                if 0 <= self.comm.rank + there < self.comm.size:
                    got = np.empty_like(sent)
                    self.comm.Sendrecv(sent, self.comm.rank + there, recvbuf=got, source=self.comm.rank + there)
                    field[place] = got

    def advect(self, step):
        """Every field takes the values that stood where the flow comes from (Stam, "Stable Fluids", 1999)."""
        self.fill(self.u, self.v, self.smoke)
        new = []
        for field, offset in ((self.u, (0.0, 0.5)), (self.v, (0.5, 0.0)), (self.smoke, (0.5, 0.5))):
            at = np.indices(field.shape) + np.array(offset)[:, None, None]
            half = at - 0.5 * step / self.h * self._velocity(at)
            back = at - step / self.h * self._velocity(half)
            new.append(_sample(field, back, offset))
        self.u, self.v, self.smoke = new
        self.u[self.inlet], self.smoke[self.source] = 1.0, 1.0
        self.u[self.closed_u], self.v[self.closed_v], self.smoke[self.solid] = 0.0, 0.0, 0.0

    def _velocity(self, at):
        return np.stack([_sample(self.u, at, (0.0, 0.5)), _sample(self.v, at, (0.5, 0.0))])

    def project(self, warm, **options):
        """Take a gradient from u and v, so that as much flows into every cell as out of it."""
        self.fill(self.u)
        result = ntsolve.cg(self.A, -self.divergence(), x0=self.p if warm else None, **options)
        self.p = result.x
        p = np.zeros(self.u.shape)
        p[self.own] = self.p
        self.fill(p)
        inner = ~self.closed_u & ~self.inlet
        self.u[1:][inner[1:]] -= (np.diff(p, axis=0) / self.h)[inner[1:]]
        inner = ~self.closed_v[:, 1:-1]
        self.v[:, 1:-1][inner] -= (np.diff(p, axis=1) / self.h)[inner]
        self.fill(self.u)
        return result

    def divergence(self):
        """Of this rank's cells."""
        found = (np.diff(self.u, axis=0) + np.diff(self.v, axis=1)[:-1]) / self.h
        return np.where((self.solid | self.air)[:-1], 0.0, found)[self.own]


def _sample(field, at, offset):
    places = at - np.array(offset)[:, None, None]
    return map_coordinates(field, places, order=1, mode="nearest")


def simulate(comm, length, width, steps, warm=True, say=print, **options):
    """(flow, iterations of each step); options are those of `ntsolve.cg`."""
    flow, iterations = Flow(comm, length, width), []
    began = solving = time.perf_counter()
    solving -= began
    for _ in range(steps):
        flow.advect(0.8 * flow.h)
        before = time.perf_counter()
        result = flow.project(warm, **options)
        solving += time.perf_counter() - before
        assert result.success, result.message
        iterations.append(int(result.nit))
    parts = comm.gather((abs(flow.divergence()).max(), (flow.u[flow.own] ** 2).sum(), flow.smoke[flow.own]))
    if comm.rank == 0:
        divergence, energy, smoke = zip(*parts, strict=True)
        flow.picture = np.concatenate(smoke)
        flow.energy = float(sum(energy)) * flow.h**2 / 2
        say(f"{steps} steps of {length} x {width} cells on {comm.size} rank{'s' * (comm.size > 1)}: "
            f"{np.mean(iterations):.1f} iterations a step, {1e3 * solving / steps:.1f} ms of "
            f"{1e3 * (time.perf_counter() - began) / steps:.1f} ms a step in the solver")  # fmt: skip
        say(f"largest divergence {max(divergence):.1e}, energy along the channel {flow.energy:.6f}")
    return flow, iterations


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs=2, default=(384, 128), metavar=("LENGTH", "WIDTH"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cold", action="store_true", help="start every solve from zero")
    parser.add_argument("--M", choices=("multigrid", "jacobi"), default="multigrid")
    parser.add_argument("--recycle", action="store_true", help="carry Ritz vectors on; for one process")
    parser.add_argument("--rtol", type=float, default=1e-5)
    parser.add_argument("--plot", help="a file for the picture")
    chosen = parser.parse_args(arguments)
    comm = world()
    options = {"M": chosen.M, "rtol": chosen.rtol}
    if chosen.recycle:
        options["recycle"] = ntsolve.Recycler(k=16)
    with ntsolve.config(threads=1 if comm.size > 1 else None):
        flow, iterations = simulate(comm, *chosen.cells, chosen.steps, warm=not chosen.cold, **options)
    if chosen.plot and comm.rank == 0:
        import matplotlib

        matplotlib.use("agg")
        import matplotlib.pyplot as plt

        plt.imsave(chosen.plot, flow.picture.T[::-1], cmap="gray_r", vmin=0, vmax=1)
    return flow, iterations


if __name__ == "__main__":
    main(sys.argv[1:])
