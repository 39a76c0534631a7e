"""Conjugate gradients on a grid with a multigrid cycle: the iteration of cg.py in three trips through memory.

With M fixed and positive definite, an iteration is (1) - (3) of cg.py in this order:

    z = M r,  rz = (r, z)                                                                the cycle
    x += alpha p,  p = z + (rz / rz_old) p,  pq = (p, A p)                               grid_direction
    alpha = rz / pq,  r -= alpha A p,  rr = (r, r)                                       grid_update

so x is one step behind r, which `solution` makes up for.

Red cells border on black ones only. Where the cycle settles black cells at last, so that r - A z is 0 there, and r is 0
there to begin with, which is a step from the start with alpha = 1 along

    p = D^-1 r on black cells, 0 on red ones,                                                            (1)

then r stays 0 on them up to rounding, whatever z is on red ones: this is the method for the Schur complement that is
left of A when black cells are eliminated (the reduced system of L. A. Hageman and D. M. Young, Applied Iterative
Methods, 1981), with the red block of M, which is positive definite as M is. It is as if the cycle had a half sweep more
on either side, for one in all, and takes a tenth to a third fewer iterations. A p, r and x are those of all cells; so
nothing depends on how small r is on black ones.

Vectors are in the layout of the cycle (kernels/contracts/split.py), z and p in float32, x and r in float64: r is what A
makes of the float32 p, and r = b - A x holds as for any other CG. The solve ends as any other, with b - A x computed
anew.
"""

import math
from typing import Any

import numpy as np

from .. import operators
from ..kernels.contracts import split as layout
from ..kernels.contracts import workspace_shape
from ..result import Status
from . import iteration
from .hierarchy import PERIODIC, coefficient_scale, three
from .multigrid import LOOK, Applied
from .room import Room

_LARGEST_EXPONENT = 1000


def state(system, M, comm, recycle):
    """The `State` of a solve that may be done here: on cells of a grid whose periodic axes the kernels can do."""
    if not (isinstance(M, Applied) and M.on_grid and comm is M.M.grid.comm and recycle is None and system.b.size):
        return None
    A = system.A.grid
    sizes, wrap = three(A.grid_shape), three(tuple(A.periodic), False)
    fits = not any(w and n % multiple for n, w, multiple in zip(sizes, wrap, PERIODIC, strict=True))
    return getattr(M.M, "state", State) if fits else None


def stencil(k, A, dtype):
    """(d, fx, fy, fz) of a GridOperator times `coefficient_scale`, as contracts/gridcg.py has them; kept with it.

    Entries are float32 where no bit is lost by it, which saves half of the time.
    """
    kept = vars(A).setdefault("_split_stencils", {})
    if dtype not in kept:
        kept[dtype] = _split(k, A, dtype)
    return kept[dtype]


def _split(k, A, dtype):
    xp, sizes, batch = k.xp, three(A.grid_shape), A.batch_shape[0] if A.batch_shape else 1
    shape = (batch, *layout.split_shape(*sizes))
    if A.kind == "mask":
        d = xp.zeros(shape, "uint8")
        k.grid_split(A.open_faces.reshape(batch, *sizes), d)
        return d, None, None, None
    scale = coefficient_scale(k, A)
    parts = [(part.astype(dtype) * scale).reshape(batch, *sizes) for part in (*A.faces, A.sink)]
    if A.ndim == 2:
        parts.insert(1, xp.zeros_like(parts[0]))
    exact = all(bool((part.astype("float32") == part).all()) for part in parts)
    d = xp.zeros(shape, "float32")
    split = [xp.zeros(shape, "float32" if exact else "float64") for _ in range(4)]
    k.stencil_split(*parts, three(tuple(map(int, A.periodic)), 0), d, *split)
    return split[3], *split[:3]


class State(iteration.State):
    """The systems of one call; see `iteration.State`, of which this shares what is not the iteration itself."""

    kept = (*iteration.State.kept, "single", "alpha")

    def __init__(self, k, system, M, rtol, atol, comm, *, recycle=None, watched=False):
        self.k, self.system, self.A, self.M, self.comm = k, system, system.A, M, comm
        self.watched, self.space = False, None
        xp, A, batch = k.xp, system.A.grid, len(system.b)
        x, self._left, exponent = self.measure(rtol, atol)
        exponent = np.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        self.scale = np.ldexp(np.ones(batch), exponent)
        self.removed = 0 if system.removed is None else system.removed
        self.layout = self._layout(A)
        self.sizes, self.wrap = three(self.layout.grid_shape), three(tuple(map(int, self.layout.periodic)), 0)
        self.stencil = stencil(k, self.layout, system.A.dtype)
        unit = coefficient_scale(k, A)
        self._down = xp.asarray(1 / self.scale)
        # scale unit = factor 2**far, with far = 0 unless that is out of the range of numbers
        power = exponent + math.frexp(unit)[1]
        far = power - np.clip(power, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        self._factor = np.ldexp(math.frexp(unit)[0], power - far)
        self._x_up, self._far = xp.asarray(self._factor), xp.asarray(far)[:, None] if far.any() else None

        self.room, shape = Room(k), (batch, *layout.split_shape(*self.sizes))
        self.x, self.p = self.room.zeros(shape), self.room.zeros(shape, "float32")
        self.r, self.single = self.room.framed(shape), self.room.framed(shape, "float32")
        self.z, self.before = self.room.framed(shape, "float32"), self.room.framed(shape, "float32")
        self.pq, self.alpha, self.work = xp.zeros(batch), xp.zeros(batch), xp.zeros((batch, 2, shape[2]))
        if x is not None:
            x = x if self._far is None else xp.ldexp(x, -self._far)
            self._take(x, xp.asarray(1 / self._factor), self.x)
        self._found = self.size = None
        self.fresh = False  # r has just been computed
        self._new_cycle()

    def pack(self):
        return super().pack() | {"norms": np.reshape(self.norms, (-1, len(self.nit))), "fresh": self.fresh}

    def _resumed(self):
        self._found = None
        super()._resumed()

    def unpack(self, saved):
        self._found = None
        super().unpack(saved)
        self._new_cycle()
        self.fresh = bool(saved["fresh"])
        self.norms = list(saved.like("norms", np.zeros((0, len(self.nit))), grows=True))

    def _new_cycle(self):
        """Take M as it is now, and start to look at how the residual falls."""
        cycle = self.M.M.hierarchy(len(self.system.b), self.room.zeros)
        self.cycle: Any = cycle or ThroughRows(self.k, self.M.M, self.single, self.sizes)
        self.norms = []

    def _layout(self, A):
        """The operator on whose cells the vectors are."""
        return A

    def _take(self, rows, factor, into):
        """Write rows of cells times a factor into vectors, and in float32 into `single`."""
        self.k.grid_take(rows.reshape(len(rows), *self.sizes), factor, into, self.single)

    def _give(self, rows):
        """Read x as it will be."""
        self.k.grid_give(self.x, self.p, self.alpha, self._x_up, rows.reshape(len(rows), *self.sizes))

    def solution(self):
        if self._found is None:
            x = self.k.xp.empty_like(self.system.b)
            with np.errstate(all="ignore"):  # seen in the residual
                self._give(x)
                x = x if self._far is None else self.k.xp.ldexp(x, self._far)
            if self.A.grid.null is not None:
                self.A.grid.null.project(self.k, x)
            self._found = x  # 0 where there is no unknown, as z is
        return self._found

    def begin(self):
        if not self.choose():
            return False
        xp = self.k.xp
        self.rest()
        if self.moved or self.nit.any():
            self.x += self.alpha[:, None, None, None, None] * self.p
        self.alpha.fill(0)
        if self._left is None:
            self._left = xp.empty_like(self.system.b)
            self.A.residual(self.system.b, self.solution(), self._left)
        self._take(self._left, self._down, self.r)
        self._left = None
        self.rr[0] = xp.asarray(np.maximum((self.residual / self.scale) ** 2 - (self.removed / self.scale) ** 2, 0))
        self.rz[0] = np.inf  # p = z
        self.norms, self.fresh = [self.residual], True
        return True

    def iteration(self, j):
        k, rz, rr = self.k, self.rz, self.rr
        self._found = None
        if self.fresh and self.cycle.settles:
            self._settle(rr[j - 1])
        self.fresh = False
        self.cycle.apply(self.single, self.z, rz[j])
        self.before, self.p = self.p, self.before
        k.grid_direction(*self.stencil, self.wrap, self.z, self.before, self.alpha, rz[j], rz[j - 1], self.x, self.p,
                         self.pq, self.work)  # fmt: skip
        k.grid_update(*self.stencil, self.wrap, self.p, rz[j], self.pq, rr[j - 1], self.tol2, self.r, self.single,
                      self.alpha, rr[j], self.work)  # fmt: skip

    def _settle(self, rr):
        """(1)"""
        k, p, d = self.k, self.p, self.cycle.stencil[0]
        one = k.xp.ones(len(p))
        p[:, 0] = 0
        k.xp.multiply(self.single[:, 1], d[:, 1], out=p[:, 1])
        if d.dtype == np.uint8:
            p[:, 1] *= np.float32(1 / layout.CODES)
        k.grid_update(*self.stencil, self.wrap, p, one, one, rr.copy(), self.tol2, self.r, self.single, self.alpha, rr,
                      self.work)  # fmt: skip

    def advance(self, iterate, steps, watch):
        looking = len(self.norms) <= self.M.M.watch_until
        super().advance(iterate, 1 if looking else steps, watch)
        failed = self.status == int(Status.INDEFINITE_PRECONDITIONER)
        if failed.any() and self.M.M.failed():
            self.status[failed] = 0
            self._new_cycle()
            self.active[:], self._last = False, np.full_like(self._last, np.inf)  # begin anew where they are
            return
        if looking and self.active.any():
            self.norms.append(self.seen)
            if len(self.norms) % LOOK == 1 and self.M.M.confirm(np.array(self.norms)):
                self._new_cycle()
                self.norms = [self.seen]
                self.rz[0] = np.inf

    def true_norms(self):
        self._left = None  # few solves need its entries
        return operators.true_residual(self.k, self.system, self.solution())

    def close(self):
        self.solution()  # for those who ask later
        self.room.close()


class ThroughRows:
    """A cycle that works on rows of cells in their natural order."""

    settles = False

    def __init__(self, k, M, like, sizes):
        self.k, self.M = k, M
        batch = len(like)
        self.r, self.z = (k.xp.zeros((batch, *sizes), "float32") for _ in range(2))
        self.work = k.xp.empty(workspace_shape(batch, like[0].size))

    def apply(self, r, z, rz):
        """z = M r and rz = r.z."""
        batch = len(r)
        self.k.grid_join(r, self.r)
        self.M.matvec_rows(self.k, self.r.reshape(batch, -1), self.z.reshape(batch, -1))
        self.k.grid_split(self.z, z)
        self.k.dot(r.reshape(batch, -1), z.reshape(batch, -1), rz, self.work)
