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

import numpy as np

from .. import operators, validate
from ..dispatch import kernels_for
from ..kernels.contracts import split as layout
from . import grid_rows, hierarchy
from . import weights as weight_sets
from .aggregation import Aggregation
from .grid import GridOperator

JUMP = {2: 1000.0, 3: 100.0}  # factor between the diagonals of neighbours, by dimension, that makes a jump
JUMPS = 0.5  # of them on a line of cells, above which cells are joined along strong faces
MERGED = 0.06  # share of the pairs joined below the finest level that walls part, above which the same is done
SLOW = 0.78  # fall of the residual an iteration, over the last few, that asks for a change
LOOK = 3  # iterations from one look to the next
_OTHERS = 4  # hierarchies kept for calls of matvec, at most


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
        How cells are joined: in blocks of a regular grid, or along strong faces, which costs three to five times as
        much an iteration and holds up where coefficients jump or walls are thin. "auto" decides by contrast and walls.

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

    def __init__(self, A, *, weights="auto", coarsening="auto"):
        self.grid = _grid(A)
        if not isinstance(coarsening, str) or coarsening not in ("auto", "blocks", "aggregation"):
            raise ValueError(f'coarsening must be "auto", "blocks" or "aggregation", not {coarsening!r}')
        self._free = isinstance(weights, str) and weights == "auto", coarsening == "auto"
        self._lock, self._idle = threading.Lock(), []
        self._rates: list = []
        family = f"{self.grid.kind}-{self.grid.ndim}d"
        found = weight_sets.shipped(family) if self._free[0] else weight_sets.take(weights)
        with kernels_for(A=self.grid.mask) as k:
            self._plan = self._planned(k)
            self._scale = hierarchy.coefficient_scale(k, self.grid)
            why = self._against_blocks(k) if coarsening == "auto" else None
            if coarsening == "aggregation" or why:
                self._aggregate(found, why or "asked for")
            else:
                if self._plan is None:
                    raise ValueError('coarsening: a periodic axis of this length takes "auto" or "aggregation"')
                parted = self._block(k, found, "the family of the operator" if self._free[0] else "asked for")
                if self._free[1] and sum(parted) > MERGED:
                    self._aggregate(found, f"walls part {max(parted):.0%} of the blocks of a level")

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

    def _block(self, k, weights, why):
        """Join cells in blocks; the share of those that walls part, on the two levels below the finest."""
        levels = hierarchy.Levels(k, self.grid, self._plan, weights)
        self._levels: hierarchy.Levels | None = levels
        self._aggregation: Aggregation | None = None
        self._idle = []
        self.weights, self.why, self.coarsening = weights, why, "blocks"
        self.levels = list(self._plan.sizes)
        return levels.merged

    def _aggregate(self, weights, why):
        self._aggregation = Aggregation(self.grid)
        self._levels, self._idle = None, []
        self.weights, self.why, self.coarsening = weights, why, "aggregation"
        self.levels = list(self._aggregation.levels)

    def confirm(self, norms):
        """Look at the residuals of the first iterations, and become another operator where they fall too slowly.

        Parameters
        ----------
        norms : array (nit + 1,) or (nit + 1, batch)
            Of the residuals so far, on the host; called after each LOOK iterations, up to `watch_until`.

        Returns
        -------
        bool
            Whether M is another one now, so that conjugate gradients have to start anew from where they are.
        """
        norms = np.asarray(norms, dtype=float).reshape(len(norms), -1)
        if len(norms) <= LOOK or not any(self._free):
            return False
        before, now = norms[-1 - LOOK], norms[-1]
        going = before > 0
        if not (going & np.isfinite(now)).any():
            return False
        rate = float(np.max((now[going] / before[going]) ** (1 / LOOK)))
        if rate <= SLOW or self._aggregation is not None:
            return False
        said = f"the residual fell by {rate:.2f} an iteration with the weights {self.weights.name}"
        with kernels_for(A=self.grid.mask) as k:
            if self._free[1]:
                self._aggregate(self.weights, said)
            elif self._free[0] and self.weights is not weight_sets.UNTRAINED:
                self._block(k, weight_sets.UNTRAINED, said)
            else:
                return False
        return True

    # ---- what it is applied by --------------------------------------------------------------------------------------

    @property
    def shape(self):
        return self.grid.shape

    @property
    def dtype(self):
        return np.dtype(self.grid.dtype)

    def hierarchy(self, batch):
        """A cycle on `batch` vectors in the layout of the kernels, with memory of its own; None for aggregation."""
        return None if self._levels is None else hierarchy.Hierarchy(self._levels, batch)

    def matvec_rows(self, k, r, z):
        """z = M r for rows (batch, cells) of whole grids, zero outside the mask."""
        if self._aggregation is not None:
            self._aggregation.matvec_rows(k, r, z)
            return
        batch, sizes = r.shape[0], self._plan.sizes[0]
        with self._lock:
            found = next((entry for entry in self._idle if entry[1].shape[0] == batch), None)
            if found is not None:
                self._idle.remove(found)
        if found is None:
            split = [k.xp.zeros((batch, *layout.split_shape(*sizes)), "float32") for _ in range(2)]
            found = (self.hierarchy(batch), *split, k.xp.zeros(batch))
        cycle, rs, zs, rz = found
        k.grid_split(r.reshape(batch, *sizes), rs)
        cycle.apply(rs, zs, rz)
        k.grid_join(zs, z.reshape(batch, *sizes))
        z *= z.dtype.type(self._scale)
        with self._lock:
            if cycle.levels is self._levels and len(self._idle) < _OTHERS:
                self._idle.append(found)

    def for_system(self, k, system):
        """The operator for a solve with `system`; a TypeError or ValueError where it does not fit."""
        if self.grid.backend != k.NAME:
            raise TypeError(f"arrays on different devices: M on {self.grid.backend}, b on {k.NAME}")
        if system.complex:
            raise TypeError("M is a real multigrid cycle, A and b are complex")
        on_grid = isinstance(system.A, grid_rows.Grid)
        order = system.A.grid.shape[-1] if on_grid else system.A.n
        if order != self.shape[-1] or (on_grid and system.A.grid.grid_shape != self.grid.grid_shape):
            raise ValueError(f"M is a cycle for {self.grid!r}, A has order {order}")
        return Applied(k, self, system.A.n, system.A.dtype, on_grid)

    def matvec(self, r):
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
        form = grid_rows.Form.of(self.grid, "r", r)
        with kernels_for(r=r) as k, np.errstate(all="ignore"):  # NaN in, NaN out
            rows = form.rows(k, r, self.grid.working(r.dtype))
            top = k.to_host(abs(rows).max(axis=1))
            exponent = np.frexp(np.where(np.isfinite(top) & (top > 0), top, 1.0))[1]  # float32 inside has its range
            rows = k.xp.ldexp(rows, k.xp.asarray(-exponent)[:, None])
            z = k.xp.empty_like(rows)
            self.matvec_rows(k, rows, z)
            return own(form.out(k.xp.ldexp(z, k.xp.asarray(exponent)[:, None])))

    def as_linear_operator(self):
        """M as an operator: SciPy's LinearOperator on the CPU; on a GPU one with `shape`, `dtype` and `matvec`."""
        if self.grid.backend != "cpu":
            return self
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(self.shape, matvec=self.matvec, rmatvec=self.matvec, dtype=self.dtype)

    def __matmul__(self, r):
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

    def matvec(self, x, y):
        if len(self._norms) <= self.M.watch_until:
            self._norms.append(self.k.to_host(operators.norms(self.k, x)))
            if len(self._norms) % LOOK == 1 and self.M.confirm(self._norms):
                self._norms = self._norms[-1:]
        if self.on_grid:
            self.M.matvec_rows(self.k, x, y)
        else:
            y[...] = self.M.matvec(x)

    def restart(self):
        self._norms = []


def recognised(A):
    """A as a GridOperator, if it is one, or a sparse matrix that is the stencil of one; else None."""
    if isinstance(A, GridOperator):
        return A
    if not hasattr(A, "tocsr"):
        return None
    try:
        return GridOperator.from_csr(A)
    except ValueError:
        return None


def for_cg(A):
    """(GridOperator, LearnedMultigrid) for `cg` with M="multigrid".

    Raises
    ------
    ValueError
        Where A is no grid operator.
    """
    grid = recognised(A)
    if grid is None:
        raise ValueError('M="multigrid" needs A to be a GridOperator, or a sparse matrix that is the stencil of a grid')
    return grid, LearnedMultigrid(grid)


def _grid(A):
    if isinstance(A, GridOperator):
        return A
    if hasattr(A, "tocsr"):
        return GridOperator.from_csr(A)
    raise TypeError(f"A must be a GridOperator or a sparse matrix, not {type(A).__name__}")
