"""Multigrid by aggregation along strong couplings, for coefficients of high contrast, mazes and thin walls.

Blocks of 2 x 2 x 2 cells lump together what a wall or a jump of the coefficient keeps apart. Here coarse unknowns are
made of cells that hang together (Notay, "An aggregation-based algebraic multigrid method", Electron. Trans. Numer.
Anal. 37, 2010): two passes, in each of which an unknown forms a pair with its strongest free neighbour (a quarter at
least of the strongest coupling of both), or else joins its strongest neighbour's. Where unknowns have fewer than three
neighbours on average, as in a maze, it is one pass. With P their indicator, A_c = P'AP,

    M = S'(2 D/w - D) S + (I - S'A) P T P' (I - A S),   S = (D/w + L)^-1                                 (1)
    T = sigma ((2/theta) M_c - M_c A_c M_c / theta^2)                                                    (2)

S is a red-black sweep on the grid (w of each colour; four sweeps, see aggregationcycle.py), and one of Gauss-Seidel
by colours (w = 1) on the sparse levels.

Aggregates without overlap approximate smooth errors too stiffly, level by level. So (2) is the next level's cycle M_c
applied twice, as a polynomial of it, and sigma > 1 times what that finds (overcorrection, as in multigrid.py). Where
the eigenvalues l of M_c A_c are in (0, sigma], and sigma < 2 theta, those of T A_c, sigma (1 - (1 - l/theta)^2), are
in (0, sigma] as well. Then so are those of M A, because in the inner product of A

    I - M A = (I - S'A) (I - P T P'A) (I - S A) >= 1 - sigma

and level by level M is symmetric positive definite, for any w in (0, 2). The last level is solved.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..kernels.contracts import split as layout
from ..kernels.contracts.aggregation import program_of
from ..kernels.cpu import pairing, spare
from . import bottom, grid_rows
from .aggregationcycle import Colours, Rows
from .grid import GridOperator
from .hierarchy import PERIODIC, coefficient_scale, finest, split_stencil, three
from .linear_operator import linear_operator
from .room import LEAST

BOTTOM = 192  # unknowns that are solved for directly, without threads in LAPACK
EXTREME = {2: 1e6, 3: 1e11}  # contrast, by dimension, that float32 is not equal to: rounding makes M indefinite
SMALL = 4096  # unknowns of a level from which on one call does all the rest


class Aggregation:
    """The preconditioner (1) of a GridOperator.

    Parameters
    ----------
    A : GridOperator
        Also one that is singular, or a batch.
    weights : (float, float)
        Relaxation of the red and the black cells, each in (0, 2).
    dtype : {"float32", "float64"}, optional
        In which it computes. float32 serves most solves, since it is only a preconditioner; without a choice, float64
        is taken where the contrast is extreme (above 10^6 in two dimensions, 10^11 in three).

    Attributes
    ----------
    levels : list of int
        Unknowns of each level.
    shape, dtype
        Those of A, and as given.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> from ntsolve.linalg.aggregation import Aggregation
    >>> kappa = np.where(np.random.default_rng(0).random((40, 40, 40)) < 0.5, 1.0, 1e5)
    >>> A = ntsolve.GridOperator.diffusion(kappa)
    >>> result = ntsolve.cg(A, np.ones(A.shape[0]), M=Aggregation(A), rtol=1e-6)
    >>> result.success, result.nit <= 20
    (True, True)
    """

    works_on_grid_rows = True

    def __init__(self, A, *, weights=(1.3, 1.3), dtype=None):
        if not isinstance(A, GridOperator):
            raise TypeError(f"A must be a GridOperator (see GridOperator.from_csr), not {type(A).__name__}")
        self.grid, self.shape = A, A.shape
        if dtype is not None:
            validate.choice("dtype", str(np.dtype(dtype)), ("float32", "float64"))
        if not isinstance(weights, (tuple, list, np.ndarray)) or np.ndim(weights) != 1 or len(weights) != 2:
            raise ValueError(f"weights must be two numbers in (0, 2), not {weights!r}")
        weights = tuple(validate.positive("weights", weight) for weight in weights)
        if max(weights) >= 2:
            raise ValueError(f"weights must be two numbers in (0, 2), not {weights}")
        self.weights = weights
        with kernels_for(mask=A.mask) as k:
            asked = dtype is not None
            self._hierarchy = _hierarchy(k, A, np.dtype(dtype if asked else "float32"), asked)
        self.dtype = self._hierarchy.dtype
        self.levels = [sum(A.counts), *self._hierarchy.sizes]
        self._spare: deque = deque()  # of cycles that nobody runs

    def cycle(self, batch, zeros=None):
        """On `batch` vectors in the layout of the kernels, with memory of its own, or None where that does not do.

        `zeros` is where large arrays come from, if they are to be of a solve.
        """
        if self._hierarchy.split is None:
            return None
        with kernels_for(mask=self.grid.mask) as k:
            return Colours(k, self._hierarchy, self.weights, batch, zeros)

    def matvec_rows(self, k, r, z):
        """z = M r for rows of cells (batch, cells)."""
        A = self.grid
        try:
            cycle, rs, zs = self._spare.pop()
        except IndexError:
            cycle = None
        if self._hierarchy.split is None:
            cycle = cycle or Rows(k, self._hierarchy, self.weights)
            for row, out in zip(r.reshape(-1, A.mask.size), z.reshape(-1, A.mask.size), strict=True):
                cycle.run(row, out)
            self._spare.append((cycle, None, None))
            return
        batch, sizes = r.size // A.size, three(A.grid_shape)
        if cycle is None or cycle.batch != batch:
            cycle = Colours(k, self._hierarchy, self.weights, batch)
            rs, zs = (k.xp.zeros((batch, *layout.split_shape(*sizes)), "float32") for _ in range(2))
        k.grid_split(r.reshape(batch, *sizes), rs)
        cycle.apply(rs, zs, k.xp.zeros(batch))
        k.grid_join(zs, z.reshape(batch, *sizes))
        z *= z.dtype.type(1 / self._hierarchy.scale)
        self._spare.append((cycle, rs, zs))

    def matvec(self, x):
        """M x, in x's form: ``(..., N)`` or ``(..., *grid_shape)``."""
        A = self.grid
        x, own = validate.own_kind("x", x)
        A.check_home("x", x)
        x = validate.numeric("x", x, check=False)
        if x.dtype.kind == "c":
            raise TypeError("x is complex, M is a real multigrid cycle")
        form = grid_rows.Form.of(A, "x", x)
        with kernels_for(x=x) as k:
            rows = form.rows(k, x, x.dtype)
            size = float(abs(rows).max()) if rows.size else 0.0
            exponent = int(np.frexp(size)[1]) if np.isfinite(size) else 0
            rows = k.xp.ldexp(rows, -exponent)  # it may be out of the range of float32
            z = k.xp.empty_like(rows)
            self.matvec_rows(k, rows, z)
            return own(form.out(k.xp.ldexp(z, exponent)))

    __matmul__ = matvec

    def as_linear_operator(self):
        """M as a scipy.sparse.linalg.LinearOperator (of cupyx for CuPy) on (N,) vectors."""
        return linear_operator(self, self.grid.backend)

    def __getstate__(self):
        return {**self.__dict__, "_spare": deque()}

    def for_system(self, k, system):
        """Itself as an operator on the rows of one solve."""
        if getattr(system.A, "grid", None) is None or system.A.grid.batch_shape != self.grid.batch_shape:
            raise ValueError(f"M is the preconditioner of a GridOperator of shape {self.shape}, which A is not")
        grid_rows.require_same_cells(self.grid, system.A.grid)
        return _Fixed(k, self, system.A.n, system.A.dtype)


class _Fixed(grid_rows.OnRows):
    """One and the same positive definite matrix in every iteration."""

    fixed = True


def contrast(A):
    """The largest c_f between unknowns of a GridOperator over the smallest that is not 0."""
    if A.kind == "mask":
        return 1.0
    with kernels_for(mask=A.mask) as k:
        most = max(float(face.max()) for face in A.faces)
        least = min(float(k.xp.where(face > 0, face, np.inf).min()) for face in A.faces)
        return most / least if most > 0 else 1.0


# ---- setup ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sparse:
    """A level below the grid, on the device, its rows colour by colour."""

    matrix: tuple  # indptr, indices, weights
    middle: Any  # where the entries above the diagonal begin
    diag: Any
    dinv: Any
    bounds: Any  # on the host
    join: Any  # to the next level: (starts, members, aggregate), None if there is none


@dataclass(frozen=True)
class _Hierarchy:
    """What the cycles of an `Aggregation` have in common."""

    split: tuple | None  # the stencil and `wrap` as contracts/cycle.py has them; None where that does not do
    grid: tuple | None  # else cz, cy, cx (stack, nz, ny, nx); None where colours do not fit the periods of the grid
    diag: Any
    dinv: Any
    join: tuple | None
    scale: float  # A is divided by it
    large: list  # of _Sparse
    small: tuple | None  # arguments of coarse_cycle up to `inverse`
    sizes: list
    dtype: np.dtype


@dataclass(frozen=True)
class _Graph:
    """A matrix on the host, as in kernels/cpu/pairing.py, its nodes in the order of the cells."""

    begin: Any
    end: Any
    indices: Any
    weights: Any
    strongest: Any
    diag: Any
    slack: Any  # by how much it exceeds the weights of its row

    @property
    def size(self):
        return self.diag.size

    def aggregated(self):
        """(the graph two passes of pairs coarser, in a maze one pass; the aggregate there of each node)"""
        first, one = self._paired()
        if (self.end - self.begin).sum() < pairing.NARROW * self.size:  # four in a row are too many to be one
            return first, one
        second, two = first._paired()
        first.give_back()
        return second, pairing.composed(one, two)

    def _paired(self):
        parts = (self.begin, self.end, self.indices, self.weights)
        aggregate, count = pairing.pair(*parts, self.strongest, self.diag)
        starts, members = pairing.members_of(aggregate, count)
        return _Graph(*pairing.galerkin(*parts, self.slack, aggregate, starts, members)), aggregate

    def give_back(self):
        """It is not needed any more."""
        for array in (self.indices, self.weights):
            if array.nbytes >= LEAST:
                spare.give_back(array)

    def by_colours(self):
        """(the level with its nodes in the order of their colours, where each node went)"""
        parts = (self.begin, self.end, self.indices)
        colours, count = pairing.colour(*parts)
        order = pairing.by_colours(*parts, colours)
        place = np.empty(self.size, dtype="int32")
        place[order] = np.arange(self.size, dtype="int32")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(colours, minlength=count))]).astype("int64")
        indptr, middle, indices, weights = pairing.reorder(*parts, self.weights, order, place)
        return _Level(indptr, middle, indices, weights, self.diag[order], self.slack[order], bounds), place


@dataclass(frozen=True)
class _Level:
    """A matrix on the host in the order of its colours, compact."""

    indptr: Any
    middle: Any
    indices: Any
    weights: Any
    diag: Any
    slack: Any
    bounds: Any

    @property
    def size(self):
        return self.diag.size


def _hierarchy(k, A, dtype, asked=True):
    """Of this dtype, or where that is not asked for, of another if it has to be."""
    xp = k.xp
    scale = 1 / coefficient_scale(k, A)
    coloured = all(extent % 2 == 0 for extent, wrap in zip(A.grid_shape, A.periodic, strict=True) if wrap)
    sizes, wrap = three(A.grid_shape), three(tuple(map(int, A.periodic)), 0)
    fits = not any(w and n % multiple for n, w, multiple in zip(sizes, wrap, PERIODIC, strict=True))
    natural = [(part / scale).astype(dtype).reshape(-1, *sizes) for part in (*A.faces, A.sink)]
    if A.ndim == 2:
        natural.insert(1, xp.zeros_like(natural[0]))
    colours = None
    if coloured and fits and dtype == "float32":
        colours = split_stencil(k, finest(k, A, sizes) if A.kind == "mask" else (None, *natural), wrap), wrap
    cells = k.to_host(A.cells)
    number = np.full(A.mask.size, -1, dtype="int32")
    number[cells] = np.arange(cells.size, dtype="int32")
    *faces, slack = (np.ascontiguousarray(k.to_host(part)) for part in natural)
    slack = slack.reshape(-1)[cells]
    graph = _Graph(*pairing.graph_of_faces(cells, number, *faces, slack))
    if not asked and _spread(graph.strongest) > EXTREME[A.ndim]:
        graph.give_back()
        return _hierarchy(k, A, np.dtype("float64"))

    # joins[i] is the number on levels[i] of what stands above it: cells, which are somewhere on the grid, or a level
    levels: list = []
    joins: list = []
    size, place = A.mask.size, cells
    if colours is not None:
        shape = colours[0][0].shape
        size, place = math.prod(shape), _split_places(cells, sizes, shape)
    elif not coloured:  # below the grid, an identity leads to a level of all cells
        level, new = graph.by_colours()
        levels.append(level)
        joins.append(pairing.moved(np.arange(graph.size, dtype="int32"), place, new, size))
        size, place = graph.size, new
    top = 0 if coloured else 1  # the level that the cycle begins with cannot be the one that is solved
    while len(joins) <= top or graph.size > BOTTOM:
        finer = graph
        graph, aggregate = finer.aggregated()  # in the order of the cells, which makes better pairs than colours do
        finer.give_back()
        if graph.size == 0:
            joins.append(None)
            break
        level, new = graph.by_colours()
        levels.append(level)
        joins.append(pairing.moved(aggregate, place, new, size))
        size, place = graph.size, new
    graph.give_back()

    send = lambda array: xp.asarray(np.ascontiguousarray(array))

    def join(at):
        """(starts, members, aggregate) to levels[at], None if there is none"""
        if at >= len(joins) or joins[at] is None:
            return None
        return *map(send, pairing.members_of(joins[at], levels[at].size)), send(joins[at])

    counts = [level.size for level in levels]
    split = len(levels)
    if len(joins) == len(levels) > 0:  # the last one is to be solved
        split = next((at for at in range(top, split) if counts[at] <= SMALL), split - 1)
    large = []
    for at, level in enumerate(levels[:split]):
        matrix = (send(level.indptr), send(level.indices), send(level.weights))
        diagonals = (send(level.diag), send(_inverses(level.diag, dtype)))
        large.append(_Sparse(matrix, send(level.middle), *diagonals, level.bounds, join(at + 1)))
    small = None
    if split < len(levels):
        small = tuple(send(part) for part in _pack(levels[split:], joins[split + 1 :], dtype))
    if colours is not None:
        return _Hierarchy(colours, None, None, None, join(0), scale, large, small, counts, dtype)
    dims = (-1, *(1,) * (3 - A.ndim), *A.grid_shape)
    device = [xp.ascontiguousarray((part / scale).astype(dtype)).reshape(dims) for part in (*A.faces, A.diag)]
    if A.ndim == 2:
        device.insert(0, xp.zeros((1, 1, 1, 1), dtype))
    dinv = xp.where(device[-1] > 0, 1 / xp.where(device[-1] > 0, device[-1], 1), 0).astype(dtype)
    return _Hierarchy(None, tuple(device[:3]) if coloured else None, device[-1], dinv, join(0), scale, large, small,
                      counts, dtype)  # fmt: skip


def _spread(sizes):
    """The largest over the smallest that is not 0; 1 of none."""
    least = sizes.min(initial=np.inf)
    least = least if least > 0 else sizes.min(initial=np.inf, where=sizes > 0)
    return float(sizes.max(initial=0)) / float(least) if np.isfinite(least) else 1.0


def _split_places(cells, sizes, shape):
    """Where cells, flat places in the natural order, lie in an array of this shape (stack, 2, X, Y, H)."""
    stack, _, planes, ny, h = shape
    s, i, j, k = np.ogrid[:stack, 1 : sizes[0] + 1, : sizes[1], : sizes[2]]
    places = ((2 * s + ((i + j + k) & 1)) * planes + i) * (ny * h) + (j * h + (k >> 1))
    return places.reshape(-1)[cells]


def _inverses(diag, dtype):
    return np.where(diag > 0, 1 / np.where(diag > 0, diag, 1), 0).astype(dtype)


def _pack(levels, joins, dtype):
    """Arguments of coarse_cycle, from `program` to `inverse`."""
    sizes = [level.size for level in levels]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype("int32")
    stored = np.concatenate([[0], np.cumsum([level.indices.size for level in levels])])
    indptr = np.concatenate([[0], *(level.indptr[1:] + at for level, at in zip(levels, stored[:-1], strict=True))])
    middle = np.concatenate([level.middle + at for level, at in zip(levels, stored[:-1], strict=True)])
    indices = np.concatenate([level.indices + at for level, at in zip(levels, first[:-1], strict=True)])
    colours = np.concatenate([[0], np.cumsum([level.bounds.size for level in levels])]).astype("int32")
    bounds = np.concatenate([level.bounds + at for level, at in zip(levels, first[:-1], strict=True)])
    aggregate = np.full(first[-1], -1, dtype="int32")
    starts, members, so_far = [np.zeros(sizes[0] + 1, dtype="int64")], [np.zeros(0, dtype="int64")], 0
    for at, down in enumerate(joins):
        aggregate[first[at] : first[at + 1]] = np.where(down >= 0, down + first[at + 1], -1)
        begin, rows = pairing.members_of(down, sizes[at + 1])
        starts.append(begin[1:] + so_far)
        members.append(rows + first[at])
        so_far += rows.size
    diag = np.concatenate([level.diag for level in levels])
    return (program_of(len(levels)), first, indptr.astype("int64"), middle, indices.astype("int32"),
            np.concatenate([level.weights for level in levels]), diag,
            _inverses(diag, dtype), colours, bounds.astype("int64"), np.concatenate(starts), np.concatenate(members),
            aggregate, _inverse(levels[-1]).astype(dtype))  # fmt: skip


def _inverse(level):
    """Of the last level."""
    from scipy.sparse import csr_array

    weights = csr_array((level.weights, level.indices, level.indptr), shape=(level.size,) * 2).toarray()
    return bottom.inverse(weights.astype(float), level.slack.astype(float))
