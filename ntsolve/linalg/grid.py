"""Poisson and diffusion operators on 2-D and 3-D grids, known by their faces rather than by a matrix.

The cells of a box are unknowns, cells of value 0, or walls. With h_d the spacing of axis d and kappa_f what face f of
cell i conducts, the finite volume discretisation of -div(kappa grad u), divided by the cell's volume, is

    (A u)_i = sum over the faces f of i of c_f (u_i - u_j),   c_f = kappa_f / h_d^2                      (1)

j is the cell across: an unknown, or a cell of value 0, u_j = 0 at its centre (Dirichlet); a face to a wall has c_f = 0
(Neumann: nothing flows through it). Between cells, kappa_f is the harmonic mean of the two, which conserves the flux
through layers (Patankar, Numerical Heat Transfer and Fluid Flow, 1980, section 4.2-3). A is symmetric and positive
semidefinite: definite, unless a set of unknowns that hang together has no way to a cell of value 0. On such a set u is
known up to a constant: b must add up to zero on it, and the answer is the one that does.
"""

import functools
import math
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import home, kernels_for
from ..kernels.contracts import workspace_shape
from ..parallel.comm import join
from ..reductions import SERIAL
from . import grid_csr, grid_faces, grid_rows
from .grid_null import null_space
from .linear_operator import linear_operator


class GridOperator:
    """A symmetric 5- or 7-point operator on the unknown cells of a 2-D or 3-D grid, or a batch of them.

    Made by `poisson`, `diffusion` or `from_csr`; goes to `cg` as A. Vectors are (N,), the unknowns in C order, or have
    the shape of the grid, where what stands in cells that are no unknowns is ignored, and comes back as 0. Leading axes
    are several vectors. (Where both readings fit, it is the grid.)

    Attributes
    ----------
    shape : tuple
        (N, N), N the number of unknowns; (B, N, N) for a batch, N the largest there is.
    grid_shape : tuple
        Two or three extents.
    batch_shape : tuple
        () or (B,).
    mask : array of bool, batch_shape + grid_shape
        True where a cell is an unknown.
    dtype : numpy.dtype
        Of its coefficients. An operator of `poisson` has float64 here, and works in the precision of the vectors.
    kind : str
        "mask" where all faces that are no walls conduct the same, `scale`; else "coefficient".
    open_faces : array of uint8, like mask
        Of kind "mask": the number of each unknown's faces that are no walls; 0 elsewhere.
    faces : tuple of arrays, like mask
        For each axis, c_f between a cell and the next one along it (at the end: the first), 0 unless both are unknowns.
    sink : array, like mask
        The sum of c_f over an unknown's faces to cells of value 0.
    diag : array, like mask
        The diagonal of A; 0 in cells that are no unknowns.
    spacing, periodic : tuple
        Of each axis.
    cells : array of int64
        The flat place of each unknown in the (batch of) grid.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> fluid = np.ones((32, 32, 32), dtype=bool)
    >>> fluid[10:20, 10:20, 10:20] = False  # an obstacle, with nothing flowing through its sides
    >>> A = ntsolve.GridOperator.poisson(fluid, solid=True, spacing=1 / 32)
    >>> A.shape
    (31768, 31768)
    >>> result = ntsolve.cg(A, np.ones(fluid.shape), rtol=1e-8)
    >>> result.x.shape, result.success
    ((32, 32, 32), True)
    """

    comm: Any = SERIAL
    """Among whom the grid is divided, see `ntsolve.parallel.slabs`."""
    offset = 0
    """The first plane of this part."""

    def __init__(self, k, mask=None, ends=None, *, spacing=None, dtype=None, kind=None, scale=1.0, open_faces=None,
                 faces=None, sink=None, diag=None, cells=None, ndim=None, weak=False):  # fmt: skip
        """For the constructors; arrays on the backend of the kernels k."""
        if ends is None:
            raise TypeError("a GridOperator is made by GridOperator.poisson(mask), .diffusion(kappa) or .from_csr(A)")
        ndim = mask.ndim if ndim is None else ndim
        self.ndim, self.grid_shape = ndim, tuple(mask.shape[mask.ndim - ndim :])
        self.batch_shape = tuple(mask.shape[: mask.ndim - ndim])
        self.mask, self.ends, self.periodic, self.spacing = mask, ends, ends.wrap, spacing
        self.dtype, self.kind, self.scale, self.open_faces = np.dtype(dtype), kind, float(scale), open_faces
        self.backend, self.home = k.NAME, home(mask)
        counts = k.to_host(mask.reshape(-1, self.size).sum(axis=1))
        self.counts = tuple(int(count) for count in counts)  # unknowns of each grid
        self.weak = weak  # it works in the precision of the vectors
        self.in_order = cells is None or bool((cells[1:] > cells[:-1]).all())
        for name, given in (("faces", faces), ("sink", sink), ("diag", diag), ("cells", cells)):
            if given is not None:
                self.__dict__[name] = given  # else made when first asked for

    # ---- how it is made ---------------------------------------------------------------------------------------------

    @classmethod
    def poisson(cls, mask, *, solid=None, spacing=1.0, outside="dirichlet", periodic=False, ndim=None,
                comm=None) -> "GridOperator":  # fmt: skip
        """The negative Laplacian on the cells where `mask` is True.

        Parameters
        ----------
        mask : array of bool, 2-D or 3-D
            True: an unknown. With `ndim`, leading axes are a batch.
        solid : bool or array of bool like mask, optional
            Which of the other cells are walls; those that are not have the value 0. Default: all of them with
            ``outside="neumann"``, none otherwise. In a pressure solve, walls are solid and cells of value 0 are air.
        spacing : float or tuple
            Edges of a cell, one for all axes or each.
        outside : {"dirichlet", "neumann"}, or for each axis one of them or a pair (low, high)
            What lies beyond the array: cells of value 0, or walls.
        periodic : bool or tuple of bool
            Axes whose last cell borders on the first; `outside` says nothing there.
        ndim : {2, 3}, optional
            Axes of the grid, the last ones of mask; default: all that there are, 3 of 4.
        comm : communicator, optional
            An mpi4py communicator, or one with its `Get_rank, Get_size, Allreduce, Allgatherv`: mask and solid are then
            this rank's slab, consecutive planes along the first axis. All ranks call this, with the same of the rest.

        Returns
        -------
        GridOperator

        Raises
        ------
        TypeError, ValueError
            Naming the argument that does not fit.

        Notes
        -----
        Values g other than 0 in such a cell enter on the right: add g / h^2 to b for each face to it.

        Examples
        --------
        >>> import numpy as np, ntsolve
        >>> A = ntsolve.GridOperator.poisson(np.ones((2, 2), dtype=bool))
        >>> A.tocsr().toarray()
        array([[ 4., -1., -1.,  0.],
               [-1.,  4.,  0., -1.],
               [-1.,  0.,  4., -1.],
               [ 0., -1., -1.,  4.]])
        """
        if join(comm) is not SERIAL:
            from ..parallel import slabs

            return slabs.poisson(comm, mask, solid, spacing, outside, periodic, ndim)
        mask = grid_faces.booleans("mask", mask)
        with kernels_for(mask=mask, solid=solid) as k:
            mask, wall, ends, spacing = grid_faces.checked(k, mask, solid, spacing, outside, periodic, ndim)
            options = {"spacing": spacing, "dtype": "float64", "ndim": len(spacing), "weak": True}
            if len(set(spacing)) == 1:
                options |= {"kind": "mask", "scale": grid_faces.weights(spacing)[0]}
                return cls(k, mask, ends, open_faces=grid_faces.open_faces(k, mask, wall, ends), **options)
            one = k.xp.ones(mask.shape)
            faces, sink = grid_faces.conducted(k, one, mask, wall, grid_faces.weights(spacing), ends)
            return cls(k, mask, ends, kind="coefficient", faces=faces, sink=sink, **options)

    @classmethod
    def diffusion(cls, kappa, *, mask=None, solid=None, spacing=1.0, outside="dirichlet", periodic=False, ndim=None,
                  comm=None) -> "GridOperator":  # fmt: skip
        """The operator of -div(kappa grad u), by (1).

        Parameters
        ----------
        kappa : array of float, 2-D or 3-D
            What each cell conducts: positive in unknowns; at least 0 in cells of value 0, whose faces conduct the
            harmonic mean too, so that a mask cuts rows and columns out of the matrix; anything in walls. Beyond the
            array lies what lies at its border.
        mask, solid, spacing, outside, periodic, ndim, comm
            As for `poisson`; the default mask is True everywhere.

        Returns
        -------
        GridOperator
            Of kappa's dtype.

        Raises
        ------
        TypeError, ValueError
            Naming the argument that does not fit.

        Examples
        --------
        >>> import numpy as np, ntsolve
        >>> kappa = np.where(np.arange(40) < 20, 1.0, 1e5) * np.ones((40, 1))
        >>> A = ntsolve.GridOperator.diffusion(kappa, outside=("neumann", "dirichlet"))
        >>> A.kind, A.shape
        ('coefficient', (1600, 1600))
        """
        if join(comm) is not SERIAL:
            from ..parallel import slabs

            return slabs.diffusion(comm, kappa, mask, solid, spacing, outside, periodic, ndim)
        kappa, mask = grid_faces.numbers("kappa", kappa, mask)
        with kernels_for(kappa=kappa, mask=mask, solid=solid) as k:
            mask = k.xp.ones(kappa.shape, dtype=bool) if mask is None else mask
            mask, wall, ends, spacing = grid_faces.checked(k, mask, solid, spacing, outside, periodic, ndim)
            grid_faces.require_conductive(k, kappa, mask, wall)
            with np.errstate(all="ignore"):  # seen in the diagonal
                faces, sink = grid_faces.conducted(k, kappa, mask, wall, grid_faces.weights(spacing), ends)
                diag = grid_faces.add_faces(faces, ends, sink.copy())
            top = float(diag.max())
            lost = top < np.finfo(kappa.dtype).tiny and (
                top > 0 or any(bool(pairs.any()) for pairs in grid_faces.linked(k, mask, ends))
            )
            if not bool(k.xp.isfinite(diag).all()) or lost:
                raise ValueError(f"kappa / spacing^2 leaves the range of {kappa.dtype}: the diagonal of the matrix is "
                                 f"{'all but 0' if lost else 'not finite'}; scale kappa or spacing")  # fmt: skip
            return cls(k, mask, ends, kind="coefficient", spacing=spacing, dtype=kappa.dtype, faces=faces, sink=sink,
                       diag=diag, ndim=len(spacing))  # fmt: skip

    @classmethod
    def from_csr(cls, A, grid_shape=None, *, mask=None) -> "GridOperator":
        """The operator whose matrix is A: a symmetric 5- or 7-point stencil with off-diagonal entries <= 0.

        Parameters
        ----------
        A : sparse matrix (N, N)
            Its unknowns are the cells of the grid, or those where `mask` is True, in C order.
        grid_shape : tuple, optional
            Two or three extents. Without it, and without mask, they are found from where the entries of A are; the
            unknowns of A may then also be part of a grid, at whatever places fit A.
        mask : array of bool, optional
            Of the shape of the grid.

        Returns
        -------
        GridOperator
            With the entries of A as they are.

        Raises
        ------
        TypeError, ValueError
            Where A is no such matrix, saying what is in the way.

        Examples
        --------
        >>> import ntsolve, scipy.sparse as sp
        >>> T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(20, 20))
        >>> A = sp.kron(sp.eye_array(20), T) + sp.kron(T, sp.eye_array(20))
        >>> ntsolve.GridOperator.from_csr(A.tocsr()).grid_shape
        (20, 20)
        """
        return cls(**grid_csr.read(A, grid_shape, mask))

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def size(self):
        """The number of cells of a grid."""
        return math.prod(self.grid_shape)

    @property
    def shape(self):
        """(N, N), or (B, N, N)."""
        n = max(self.counts, default=0)
        return (*self.batch_shape, n, n)

    @property
    def whole_shape(self):
        """Extents of the grid that this is a part of."""
        return self.grid_shape

    @property
    def ragged(self):
        """Whether the grids of a batch differ in their number of unknowns; vectors then have the grid's shape."""
        return len(set(self.counts)) > 1

    @property
    def full(self):
        """Whether every cell is an unknown, in C order."""
        return self.in_order and all(count == self.size for count in self.counts)

    @functools.cached_property
    def cells(self):
        """The flat place of each unknown."""
        with kernels_for(mask=self.mask) as k:
            if self.full:
                return k.xp.arange(self.mask.size, dtype="int64")
            return k.xp.asarray(np.flatnonzero(k.to_host(self.mask)).astype("int64", copy=False))

    @functools.cached_property
    def faces(self):
        """What the faces between unknowns conduct, for each axis."""
        with kernels_for(mask=self.mask) as k:
            return tuple(
                pairs.astype(self.dtype) * self.dtype.type(self.scale)
                for pairs in grid_faces.linked(k, self.mask, self.ends)
            )

    @functools.cached_property
    def sink(self):
        """What the faces of each unknown to cells of value 0 conduct, together."""
        with kernels_for(mask=self.mask) as k:
            inner = k.xp.zeros(self.mask.shape, dtype="uint8")
            pairs = [both.astype("uint8") for both in grid_faces.linked(k, self.mask, self.ends)]
            grid_faces.add_faces(pairs, self.ends, inner)
            return (self.open_faces - inner).astype(self.dtype) * self.dtype.type(self.scale)

    @functools.cached_property
    def diag(self):
        """The diagonal of A, in the shape of the mask."""
        if self.kind == "mask":
            return self.open_faces.astype(self.dtype) * self.dtype.type(self.scale)
        return grid_faces.add_faces(self.faces, self.ends, self.sink.copy())

    @functools.cached_property
    def top(self):
        """The largest entry of the diagonal."""
        return float(self.diag.max()) if self.diag.size else 0.0

    @functools.cached_property
    def null(self):
        """The sets of unknowns on which A is singular (`grid_null.NullSpace`), or None."""
        return null_space(self)

    def diagonal(self) -> Any:
        """The diagonal of A, (N,), or (B, N)."""
        return grid_rows.Form.flat(self, "diagonal").out(self.diag.reshape(-1, self.size))

    def __getitem__(self, item):
        """The operator of one grid of a batch."""
        if not self.batch_shape:
            raise TypeError("this GridOperator is one operator, not a batch of them")
        one = lambda array: None if array is None else array[item]
        options = {}
        if self.kind == "coefficient":
            options = {"faces": tuple(map(one, self.faces)), "sink": one(self.sink)}
        with kernels_for(mask=self.mask) as k:
            return GridOperator(k, one(self.mask), self.ends, spacing=self.spacing, dtype=self.dtype, kind=self.kind,
                                scale=self.scale, open_faces=one(self.open_faces), weak=self.weak, ndim=self.ndim,
                                **options)  # fmt: skip

    def identity(self):
        """What makes it this operator, for `ntsolve.checkpoint`."""
        inside = (self.open_faces,) if self.kind == "mask" else (*self.faces, self.sink)
        return self.kind, self.spacing, self.periodic, self.scale, self.mask, inside

    def __repr__(self):
        extents = "x".join(map(str, self.grid_shape))
        batch = f"{self.batch_shape[0]} of " if self.batch_shape else ""
        return f"<GridOperator: {batch}{max(self.counts, default=0)} unknowns on {extents} cells, {self.kind}>"

    # ---- what it does -----------------------------------------------------------------------------------------------

    def matvec(self, x) -> Any:
        """A x, in x's form: ``(..., N)`` or ``(..., *grid_shape)``."""
        x, own = validate.own_kind("x", x)
        self.check_home("x", x)
        x = validate.numeric("x", x, check=False)
        if x.dtype.kind == "c":
            return own(self.matvec(x.real.copy()) + 1j * self.matvec(x.imag.copy()))
        form = grid_rows.Form.of(self, "x", x)
        with kernels_for(x=x) as k:
            rows = form.rows(k, x, self.working(x.dtype))
            y, dots = k.xp.empty_like(rows), k.xp.empty(len(rows))
            self.on_rows(k, rows.dtype).matvec_dot(rows, y, dots, k.xp.empty(workspace_shape(*rows.shape)))
            return own(form.out(y))

    __matmul__ = matvec

    def tocsr(self) -> Any:
        """The matrix: scipy.sparse.csr_array, or cupyx.scipy.sparse.csr_matrix."""
        return grid_csr.matrix(self)

    def as_linear_operator(self) -> Any:
        """A as a scipy.sparse.linalg.LinearOperator (of cupyx for CuPy) on (N,) vectors."""
        return linear_operator(self, self.backend)

    def working(self, dtype):
        """The dtype in which it works on vectors of one."""
        return np.dtype(dtype) if self.weak else np.result_type(dtype, self.dtype)

    def linear_system(self, k, b, x0, **options):
        """A x = b as `operators.linear_system` gives it: on rows of cells."""
        return grid_rows.linear_system(k, self, b, x0, **options)

    def among(self, comm):
        """Who takes part in a solve with it for which `comm` was given."""
        ranks = join(comm)
        if ranks is not SERIAL:
            raise ValueError("A is a GridOperator of one process, and comm has more: give comm to what makes A, too")
        return ranks

    def on_rows(self, k, dtype):
        """It as an operator on rows of cells."""
        return grid_rows.Grid(k, self, dtype)

    def own_faces(self):
        """What the faces of its cells to the next one along each axis conduct, whoever has that cell."""
        return self.faces

    def diagonals_and_next(self):
        """The diagonal on the host, (batch, planes, ...), with that of the plane which follows, if there is one."""
        with kernels_for(mask=self.mask) as k:
            return k.to_host(self.diag).reshape(-1, *self.grid_shape)

    def check_home(self, name, array):
        """The arrays of a call and those of the operator must be on one device."""
        if home(array) != self.home:
            raise TypeError(f"{name} and the arrays of the GridOperator are on different devices: "
                            f"{home(array)} and {self.home}")  # fmt: skip
