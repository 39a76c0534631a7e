"""A multigrid cycle on a grid with learned weights: a positive definite approximation of A^-1 for conjugate gradients.

On each level A = D - L; S is one red-black sweep of relaxation (one weight w in (0, 2) for each colour) from zero, P is
constant on blocks of cells, and the cycle M of a level is made of that of the next coarser one, Mc:

    M = S' D (2/w - 1) S + (I - S' A) P Mc P' (I - A S)                                                      (1)

(1) is symmetric, and positive definite for all w in (0, 2) and any positive (semi)definite Mc, whatever the coarse
operator: x'Mx = 0 needs S x = 0. So nothing that is learned can break conjugate gradients. What is free to choose is
w for each colour, and by how much the coarse operator is smaller than the Galerkin operator P'A P: alpha for faces,
alpha_s for the coupling to fixed values ("overcorrection": D. Braess, "Towards Algebraic Multigrid for Elliptic
Problems of Second Order", Computing 55, 1995, who divides by 1.8). Piecewise constant P makes too stiff a coarse
operator, and how much too stiff depends on the level and on the shape of the domain: that is what is trained, see
`ntsolve.linalg.training`. Each iteration costs the same with any weights.

Two things are chosen from the operator. Along which axes a level is coarsened, see `ntsolve.linalg.hierarchy`; and
whether blocks are the right thing at all: where coefficients jump by orders of magnitude within a block, or walls part
it, cells are joined along strong faces instead, see `ntsolve.linalg.aggregation`. What was chosen is confirmed by the
first iterations, and changed where they fall short.
"""

import threading
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import operators, validate
from ..dispatch import kernels_for
from ..errors import PerformanceWarning
from ..kernels.contracts import split as layout
from . import grid_box, grid_rows, hierarchy
from . import weights as weight_sets
from .aggregation import Aggregation
from .grid import GridOperator
from .linear_operator import linear_operator

JUMP = {2: 1000.0, 3: 100.0}  # factor between the diagonals of neighbours, by dimension, that makes a jump
JUMPS = 0.5  # of them on a line of cells, above which cells are joined along strong faces
MERGED = 0.06  # share of the pairs joined below the finest level that walls part, above which the same is done
SLOW = 0.78  # fall of the residual an iteration, over the last few, that asks for a change
LOOK = 3  # iterations from one look to the next
_OTHERS = 4  # hierarchies kept for calls of matvec, at most


@dataclass(frozen=True)
class Choice:
    """What a LearnedMultigrid is at a time: levels of blocks, or an aggregation."""

    weights: Any
    why: str
    blocks: Any = None
    aggregation: Any = None


class LearnedMultigrid:
    """A multigrid V-cycle for a grid operator, as a preconditioner: learned weights, positive definite with any.

    Parameters
    ----------
    A : GridOperator or sparse matrix
        A matrix must be the stencil of a grid, see `GridOperator.from_csr`.
    weights : "auto", "untrained", path, dict or Weights
        "auto": those shipped for the family of A (2-D or 3-D; a mask, or coefficients), given up for untrained ones if
        the first iterations of `ntsolve.cg` say so. "untrained": no relaxation (w = 1), overcorrection one half. A
        path: a file as `train_multigrid(...).save` writes it. A dict: arrays "relaxation" (levels, 2), "faces" and
        "sink" (levels,).
    coarsening : {"auto", "blocks", "aggregation"}
        How cells are joined: in blocks of a regular grid, or along strong faces, which costs about ten times as much
        an iteration and holds up where coefficients jump or walls are thin. "auto" decides by contrast and walls.

    Attributes
    ----------
    shape : (N, N)
    weights : Weights
        In use; ``weights.name`` is that of a family, "untrained", "given", or a file.
    coarsening : str
        In use: "blocks" or "aggregation".
    why : str
        Why these, in words.
    levels : list
        Sizes of the grids, finest first.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.

    Notes
    -----
    What is "auto" is confirmed by the first iterations of a solve. Where these fall short, `ntsolve.cg` changes M, for
    this solve and those that come after it; `why` then says so. Fix both choices for an M that stays as it is.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> A = ntsolve.GridOperator.poisson(np.ones((48, 48), dtype=bool))
    >>> M = ntsolve.LearnedMultigrid(A)
    >>> M.weights.name, M.coarsening
    ('mask-2d', 'blocks')
    >>> b = np.random.default_rng(0).standard_normal(A.shape[0])
    >>> result = ntsolve.cg(A, b, M=M, rtol=1e-6)
    >>> bool(result.success), result.nit < 20
    (True, True)
    """

    works_on_grid_rows = True
    watch_until = 24

    def __new__(cls, A=None, **options):
        return super().__new__(getattr(A, "multigrid", cls))

    def __init__(self, A, *, weights="auto", coarsening="auto") -> None:
        self.grid = _grid(A)
        if not isinstance(coarsening, str) or coarsening not in ("auto", "blocks", "aggregation"):
            raise ValueError(f'coarsening must be "auto", "blocks" or "aggregation", not {coarsening!r}')
        self._free = isinstance(weights, str) and weights == "auto", coarsening == "auto"
        self._lock, self._changing = threading.Lock(), threading.Lock()
        self._idle: list = []
        family = f"{self.grid.kind}-{self.grid.ndim}d"
        found = weight_sets.shipped(family) if self._free[0] else weight_sets.take(weights)
        if found.ndim not in (None, self.grid.ndim):
            warnings.warn(f"weights: {found.name} was trained on grids of {found.ndim} axes, A has {self.grid.ndim}",
                          PerformanceWarning, stacklevel=2)  # fmt: skip
        with kernels_for(A=self.grid.mask) as k:
            self._plan = self._planned(k)
            self._scale = hierarchy.coefficient_scale(k, self.grid)
            why = self._against_blocks(k) if coarsening == "auto" else None
            if coarsening == "aggregation" or why:
                choice = self._aggregated(found, why or "asked for")
            else:
                if self._plan is None:
                    raise ValueError('coarsening: a periodic axis of this length takes "auto" or "aggregation"')
                choice = self._blocks(k, found, "the family of the operator" if self._free[0] else "asked for")
                parted = choice.blocks.merged
                if self._free[1] and sum(parted) > MERGED:
                    choice = self._aggregated(found, f"walls part {max(parted):.0%} of the blocks of a level")
            self._choice = choice

    def __getstate__(self):
        """Without locks, and without what is only scratch."""
        return {**self.__dict__, "_lock": None, "_changing": None, "_idle": []}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock(), _changing=threading.Lock())

    # ---- what is chosen ---------------------------------------------------------------------------------------------

    def _planned(self, k):
        A = self.grid
        sizes, wrap = hierarchy.three(A.grid_shape), hierarchy.three(tuple(map(int, A.periodic)), 0)
        return hierarchy.plan(sizes, hierarchy.strengths(k, A), wrap)

    def _against_blocks(self, k):
        """Why not to join cells in blocks, or None."""
        if self._plan is None:
            return "a periodic axis cannot be halved often enough"
        size = JUMP[self.grid.ndim]
        found = hierarchy.jumps(k, self.grid, size)
        return f"{found:.2g} jumps by more than {size:g} on a line of cells" if found > JUMPS else None

    def _blocks(self, k, weights, why):
        return Choice(weights, why, blocks=hierarchy.Levels(k, self.grid, self._plan, weights))

    def _aggregated(self, weights, why):
        return Choice(weights, why, aggregation=Aggregation(self.grid))

    def confirm(self, norms) -> bool:
        """Look at the residuals of the first iterations, and become another operator where they fall too slowly.

        Parameters
        ----------
        norms : array (nit + 1,) or (nit + 1, batch)
            Of the residuals so far, on the host; called after each LOOK iterations, up to `watch_until`. A system whose
            norm is the same as one iteration before is at rest, and says nothing.

        Returns
        -------
        bool
            Whether M is another one now, so that conjugate gradients have to start anew from where they are.
        """
        norms = np.asarray(norms, dtype=float).reshape(len(norms), -1)
        if len(norms) <= LOOK or not any(self._free):
            return False
        before, now, seen = norms[-1 - LOOK : -1], norms[-1], self._choice
        going = (before[0] > 0) & np.isfinite(now) & (now != norms[-2])
        if not going.any():
            return False
        # from where it is highest: that of a smooth b rises at first, and falls as fast as any other then
        before, now = before[:, going], now[going]
        rate = float(np.max((now / before.max(axis=0)) ** (1 / (LOOK - np.argmax(before, axis=0)))))
        if rate <= SLOW or seen.aggregation is not None:
            return False
        return self._change(seen, f"the residual fell by {rate:.2f} an iteration with the weights {seen.weights.name}")

    def failed(self):
        """Become another operator where rounding has left this one indefinite; whether it is another one now."""
        seen = self._choice
        free = self._free[1] if seen.aggregation is not None else any(self._free)
        return free and self._change(seen, "the one before was not positive definite in float32")

    def _change(self, seen, said):
        """Become another operator than this choice, if there is another; whether it is another one now."""
        with self._changing, kernels_for(A=self.grid.mask) as k:
            if self._choice is not seen:  # another solve was faster
                return True
            if self._free[1] and seen.aggregation is None:
                choice = self._aggregated(seen.weights, said)
            elif self._free[1] and getattr(seen.aggregation, "dtype", None) == "float32":
                choice = replace(seen, why=said, aggregation=Aggregation(self.grid, dtype="float64"))
            elif seen.aggregation is None and self._free[0] and seen.weights is not weight_sets.UNTRAINED:
                choice = self._blocks(k, weight_sets.UNTRAINED, said)
            else:
                return False
            self._choice = choice
            with self._lock:
                self._idle = []
        return True

    @property
    def weights(self):
        return self._choice.weights

    @property
    def why(self):
        return self._choice.why

    @property
    def coarsening(self):
        return "blocks" if self._choice.aggregation is None else "aggregation"

    @property
    def levels(self):
        aggregation = self._choice.aggregation
        return list(self._plan.sizes if aggregation is None else aggregation.levels)

    # ---- what it is applied by --------------------------------------------------------------------------------------

    @property
    def shape(self):
        return self.grid.shape

    @property
    def dtype(self):
        return np.dtype(self.grid.dtype)

    def hierarchy(self, batch, zeros=None):
        """A cycle on `batch` vectors in the layout of the kernels, with memory of its own, or None.

        `zeros` is where large arrays come from, if they are to be of a solve.
        """
        choice = self._choice
        if choice.blocks is None:
            return choice.aggregation.cycle(batch, zeros)
        return hierarchy.Hierarchy(choice.blocks, batch, zeros, settle=True)

    def matvec_rows(self, k, r, z):
        """z = M r for rows (batch, cells) of whole grids, zero outside the mask."""
        choice = self._choice
        if choice.aggregation is not None:
            choice.aggregation.matvec_rows(k, r, z)
            return
        batch, sizes = r.shape[0], self._plan.sizes[0]
        with self._lock:
            fits = (entry for entry in self._idle if entry[1].shape[0] == batch and entry[0].levels is choice.blocks)
            found = next(fits, None)
            if found is not None:
                self._idle.remove(found)
        if found is None:
            split = [k.xp.zeros((batch, *layout.split_shape(*sizes)), "float32") for _ in range(2)]
            found = (hierarchy.Hierarchy(choice.blocks, batch), *split, k.xp.zeros(batch))
        cycle, rs, zs, rz = found
        k.grid_split(r.reshape(batch, *sizes), rs)
        cycle.apply(rs, zs, rz)
        k.grid_join(zs, z.reshape(batch, *sizes))
        z *= z.dtype.type(self._scale)
        with self._lock:
            if choice is self._choice and len(self._idle) < _OTHERS:
                self._idle.append(found)

    def for_system(self, k, system):
        """The operator for a solve with `system`; a TypeError or ValueError where it does not fit."""
        if self.grid.backend != k.NAME:
            raise TypeError(f"arrays on different devices: M on {self.grid.backend}, b on {k.NAME}")
        if system.complex:
            raise TypeError("M is a real multigrid cycle, A and b are complex")
        on_grid = isinstance(system.A, grid_rows.Grid)
        if on_grid:
            grid_rows.require_same_cells(self.grid, system.A.grid)
        elif system.A.n != self.shape[-1]:
            raise ValueError(f"M is a cycle for {self.grid!r}, A has order {system.A.n}")
        return Applied(k, self, system.A.n, system.A.dtype, on_grid)

    def matvec(self, r) -> Any:
        """M r.

        Parameters
        ----------
        r : array (..., N), or one in the shape of the grid

        Returns
        -------
        array like r
        """
        r, own = validate.own_kind("r", r)
        self.grid.check_home("r", r)
        r = validate.numeric("r", r, check=False)
        if r.dtype.kind == "c":
            raise TypeError("r is complex, M is a real multigrid cycle")
        return own(self._applied(r, grid_rows.Form.of(self.grid, "r", r)))

    def _applied(self, r, form):
        with kernels_for(r=r) as k, np.errstate(all="ignore"):  # NaN in, NaN out
            rows = form.rows(k, r, self.grid.working(r.dtype))
            top = self.grid.comm.largest(k.to_host(abs(rows).max(axis=1)))
            exponent = np.frexp(np.where(np.isfinite(top) & (top > 0), top, 1.0))[1]  # float32 inside has its range
            rows = k.xp.ldexp(rows, k.xp.asarray(-exponent)[:, None])
            z = k.xp.empty_like(rows)
            self.matvec_rows(k, rows, z)
            return form.out(k.xp.ldexp(z, k.xp.asarray(exponent)[:, None]))

    def as_linear_operator(self) -> Any:
        """M as a scipy.sparse.linalg.LinearOperator (of cupyx for CuPy) on (N,) vectors."""
        return linear_operator(self, self.grid.backend)

    def __matmul__(self, r) -> Any:
        return self.matvec(r)

    def __repr__(self):
        sizes = " > ".join("x".join(map(str, np.atleast_1d(size))) for size in self.levels)
        return f"LearnedMultigrid({sizes}; {self.coarsening}, weights {self.weights.name}: {self.why})"


class Applied(operators.Operator):
    """A LearnedMultigrid in one solve, on rows of cells or on vectors; it looks at how the residuals fall.

    Not `fixed`, so that it may become another one on the way.
    """

    capturable = False

    def __init__(self, k, M, n, dtype, on_grid):
        super().__init__(k, n, dtype)
        self.M, self.on_grid, self._norms = M, on_grid, []

    def pack(self):
        return {"choice": [self.M.coarsening, self.M.weights.name], "norms": [norms.tolist() for norms in self._norms]}

    def unpack(self, saved):
        """Become what M had become."""
        while [self.M.coarsening, self.M.weights.name] != saved["choice"]:
            if not self.M._change(self.M._choice, "an earlier part of the solve had found it better"):
                raise ValueError(f"resume: the checkpoint is of another M, {saved['choice']}")
        self._norms = [np.array(row, dtype=float) for row in saved.rows("norms")]

    def matvec(self, x, y):
        if len(self._norms) <= self.M.watch_until:
            self._norms.append(self.M.grid.comm.norm(self.k.to_host(operators.norms(self.k, x))))
            if len(self._norms) % LOOK == 1 and self.M.confirm(self._norms):
                self._norms = self._norms[-1:]
        self._apply(x, y)
        while self._indefinite(x, y) and self.M.failed():
            self._apply(x, y)

    def _indefinite(self, x, y):
        dots = self.k.xp.empty(len(x))
        self.k.dot(x, y, dots, self.k.xp.empty(operators.workspace_shape(*x.shape)))
        self.M.grid.comm.total(dots)
        return bool((dots < 0).any())

    def _apply(self, x, y):
        if self.on_grid:
            self.M.matvec_rows(self.k, x, y)
        else:
            y[...] = self.M._applied(x, grid_rows.Form(self.M.grid, (len(x),), on_cells=False))

    def restart(self):
        self._norms = []


def for_cg(A, ranks, b, x0):
    """(A as a grid, LearnedMultigrid) for `cg` with M="multigrid", which is solved in the box of its unknowns.

    Raises
    ------
    ValueError
        Where A is no grid operator.
    """
    if ranks.size > 1 and not isinstance(A, GridOperator):
        raise ValueError('M="multigrid" needs A to be a GridOperator made with the same comm; a matrix in rows does '
                         'with M="ic0"')  # fmt: skip
    needs = 'M="multigrid" needs A to be a GridOperator, or a sparse matrix that is the stencil of a grid'
    if not isinstance(A, GridOperator) and not hasattr(A, "tocsr"):
        raise ValueError(needs)
    try:
        grid = _grid(A)
    except ValueError as error:
        raise ValueError(f"{needs}: {error}") from error
    if grid is A and grid_box.flat(A, b) and grid_box.flat(A, x0):
        grid = grid_box.cropped(A)
    return grid if grid is A else grid_rows.AsMatrix(grid), LearnedMultigrid(grid)


def _grid(A):
    if isinstance(A, GridOperator):
        return A
    if hasattr(A, "tocsr"):
        return GridOperator.from_csr(A)
    raise TypeError(f"A must be a GridOperator or a sparse matrix, not {type(A).__name__}")
