"""A solve on a grid: between the vectors of a caller and rows of cells, and the operator on such rows.

A row has an entry for each cell of the grid, zero in cells that are no unknowns: neighbours have fixed distances.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import operators, validate


@dataclass(frozen=True)
class Form:
    """How a caller writes vectors: the unknowns in C order, or the cells of the grid; with leading axes `lead`."""

    grid: Any  # the GridOperator
    lead: tuple
    on_cells: bool

    @classmethod
    def of(cls, A, name, v):
        """The form of an array, which has to fit the operator."""
        shape = tuple(v.shape)
        cells = len(shape) - A.ndim
        if cells >= 0 and shape[cells:] == A.grid_shape and cls._fits(A, shape[:cells]):
            return cls(A, shape[:cells] or A.batch_shape, on_cells=True)
        n = A.shape[-1]
        if not A.ragged and shape and shape[-1] == n and cls._fits(A, shape[:-1]):
            return cls(A, shape[:-1] or A.batch_shape, on_cells=False)
        batch = "".join(f"{extent}, " for extent in A.batch_shape) or "..., "
        grid = f"({batch}{', '.join(map(str, A.grid_shape))})"
        either = grid if A.ragged else f"({batch}{n}) or {grid}"
        raise ValueError(f"{name} has shape {shape}; the GridOperator takes {either}")

    @classmethod
    def of_matrix(cls, A, name, v):
        """The form of an array of vectors (..., N), which has to fit."""
        operators.require_order("A", A.shape[-1], name, v)
        return cls(A, tuple(v.shape[:-1]), on_cells=False)

    @staticmethod
    def _fits(A, lead):
        return not A.batch_shape or lead in ((), (1,), A.batch_shape)

    @classmethod
    def flat(cls, A, name):
        """Vectors of N entries, one for each grid of a batch."""
        if A.ragged:
            raise ValueError(f"{name}: the grids of this batch have different numbers of unknowns; take A[i]")
        return cls(A, A.batch_shape, on_cells=False)

    def rows(self, k, v, dtype):
        """v as rows (batch, cells), a copy, zero where there is no unknown."""
        A, xp = self.grid, k.xp
        lead = A.batch_shape or self.lead
        if self.on_cells:
            v = xp.where(A.mask, v, 0).astype(dtype)
            v = v if tuple(v.shape) == (*lead, *A.grid_shape) else xp.broadcast_to(v, (*lead, *A.grid_shape))
            return xp.ascontiguousarray(v).reshape(-1, A.size)
        if tuple(v.shape[:-1]) != lead:
            v = xp.broadcast_to(v, (*lead, v.shape[-1]))
        if A.full:
            return xp.ascontiguousarray(v.astype(dtype)).reshape(-1, A.size)
        rows, whole = xp.empty((math.prod(lead), A.size), dtype=dtype), A.mask.size
        values = xp.ascontiguousarray(v.astype(dtype, copy=False)).reshape(rows.size // whole, A.cells.size)
        if A.in_order:
            k.spread_cells(A.cells, rows.reshape(-1, whole), values)
        else:
            rows.fill(0)
            k.scatter_cells(A.cells, rows.reshape(-1, whole), values)
        return rows

    def out(self, rows):
        """What a caller gets for rows (batch, cells)."""
        A = self.grid
        lead = A.batch_shape or self.lead
        if self.on_cells:
            return rows.reshape(*lead, *A.grid_shape)
        if A.full:
            return rows.reshape(*lead, A.size)
        from ..dispatch import kernels_for

        with kernels_for(rows=rows) as k:
            whole = k.xp.ascontiguousarray(rows).reshape(-1, A.mask.size)
            x = k.xp.empty((len(whole), A.cells.size), dtype=rows.dtype)
            k.gather_cells(A.cells, whole, x)
        return x.reshape(*lead, A.shape[-1])


class Grid(operators.Operator):
    """A GridOperator on rows of cells (batch, cells)."""

    def __init__(self, k, grid, dtype):
        super().__init__(k, grid.size, dtype)
        self.grid = grid
        self.dims = (1,) * (3 - grid.ndim) + grid.grid_shape
        stacked = lambda part: k.xp.ascontiguousarray(part.astype(dtype, copy=False)).reshape(-1, *self.dims)
        self.parts: tuple
        if grid.kind == "mask":
            self.parts = (grid.open_faces.reshape(-1, *self.dims), grid.scale, grid.ends.bits)
            self._product, self._residual = k.open_matvec_dot, k.open_residual
        else:
            none = [] if grid.ndim == 3 else [k.xp.zeros((1, 1, 1, 1), dtype=dtype)]
            self.parts = (*none, *map(stacked, grid.faces), stacked(grid.diag))
            self._product, self._residual = k.faces_matvec_dot, k.faces_residual
        self._scratch = None

    def _cells(self, *rows):
        return [row.reshape(-1, *self.dims) for row in rows]

    def matvec_dot(self, p, q, pq, work):
        self._product(*self.parts, *self._cells(p, q), pq, work)

    def matvec(self, x, y):
        if self._scratch is None or len(self._scratch[0]) != len(x):
            shape = operators.workspace_shape(*x.shape)
            self._scratch = self.k.xp.empty(len(x)), self.k.xp.empty(shape)
        self.matvec_dot(x, y, *self._scratch)

    def residual(self, b, x, r):
        self._residual(*self.parts, *self._cells(x, b, r))

    def residual_norms(self, b, x):
        if self.grid.kind != "mask":
            return super().residual_norms(b, x)
        found = self.k.xp.empty(len(b))
        work = self.k.xp.empty(operators.workspace_shape(*b.shape))
        self.k.open_residual_norm(*self.parts, *self._cells(x, b), found, work)
        return found

    @property
    def several(self):
        return self.grid.mask.shape[: -self.grid.ndim] not in ((), (1,))

    def settle(self, x):
        if not self.grid.full:
            stack = x.reshape(-1, *self.grid.mask.shape)  # a view
            stack[...] = self.k.xp.where(self.grid.mask, stack, 0)
        if self.grid.null is not None:
            self.grid.null.project(self.k, x)

    def diagonal(self):
        diag = self.grid.diag.reshape(-1, self.n).astype(self.dtype, copy=False)
        return self.k.xp.where(diag > 0, diag, 1).astype(self.dtype, copy=False)

    def preconditioner(self, M, system, check):
        """M as an operator on rows: one that says it works on them, or any on vectors of N."""
        if getattr(M, "works_on_grid_rows", False):
            require_same_cells(M.grid, self.grid)
            return OnRows(self.k, M, self.n, self.dtype)
        return self.on_unknowns(lambda inner: operators.preconditioner(self.k, M, inner, check=check), system)

    def on_unknowns(self, make, system):
        if self.grid.ragged:
            raise ValueError("M must work on the cells of the grid, whose masks have different numbers of unknowns")
        batch, n = len(system.b), self.grid.shape[-1]
        if self.grid.full:
            return make(dataclasses.replace(system, A=operators.Operator(self.k, n, self.dtype)))
        form = Form.flat(self.grid, "M") if self.grid.batch_shape else Form(self.grid, (batch,), on_cells=False)
        inner = dataclasses.replace(
            system, A=operators.Operator(self.k, n, self.dtype), b=self.k.xp.zeros((batch, n), dtype=self.dtype),
            norms=None,
        )
        return OnUnknowns(make(inner), form, self.n)


def require_same_cells(made_for, A):
    """A ValueError that names M unless both GridOperators have the same unknowns; A may be a batch of them."""
    if made_for is A:
        return
    if made_for.home != A.home:
        raise TypeError(f"arrays on different devices: M is for a GridOperator on {made_for.home}, A is on {A.home}")
    fits = made_for.grid_shape == A.grid_shape and made_for.batch_shape in ((), A.batch_shape)
    if not (fits and bool((made_for.mask == A.mask).all())):
        other = "" if made_for.shape != A.shape or made_for.grid_shape != A.grid_shape else ", of other cells"
        raise ValueError(f"M is for {made_for!r}, A is {A!r}{other}: make M for the unknowns of A")


class OnRows(operators.Operator):
    """A preconditioner that takes rows of cells."""

    capturable = False

    def __init__(self, k, M, n, dtype):
        super().__init__(k, n, dtype)
        self.M = M

    def matvec(self, x, y):
        self.M.matvec_rows(self.k, x, y)

    def restart(self):
        restart = getattr(self.M, "restart", None)
        if restart is not None:
            restart()


class OnUnknowns(operators.Operator):
    """A preconditioner on (batch, N), between rows of cells."""

    def __init__(self, inner, form, n):
        super().__init__(inner.k, n, inner.dtype)
        self.inner, self.form, self.capturable, self.fixed = inner, form, False, inner.fixed

    def matvec(self, x, y):
        n = self.form.grid.shape[-1]
        r = self.form.out(x).reshape(-1, n)
        z = self.k.xp.zeros_like(r)
        self.inner.matvec(r, z)
        y[...] = self.form.rows(self.k, z.reshape(*self.form.lead, n), y.dtype)

    def restart(self):
        self.inner.restart()


class AsMatrix:
    """A GridOperator in the place of its matrix: vectors are (..., N), even where the shape of the grid would fit."""

    def __init__(self, grid):
        self.grid = grid

    def identity(self):
        """What makes it this matrix, for `ntsolve.checkpoint`."""
        return self.grid.identity()

    def linear_system(self, k, b, x0, **options):
        return linear_system(k, self.grid, b, x0, form_of=Form.of_matrix, **options)


def linear_system(k, A, b, x0, *, own, check, start, names, form_of=Form.of):
    """A x = b on rows of cells, as `operators.LinearSystem` describes it."""
    name, given = names
    A.check_home(given, b)
    form = form_of(A, given, b)
    b = validate.numeric(given, b, check=False)
    dtype = A.working(b.dtype)
    if x0 is not None:
        A.check_home(start, x0)
        start_form = form_of(A, start, x0)
        x0 = validate.numeric(start, x0, check=False)
        dtype = np.result_type(dtype, x0.dtype)
    if dtype.kind == "c":
        raise TypeError(f"{given} is complex, {name} is a real GridOperator: solve for real and imaginary part as two "
                        f"right-hand sides, np.stack([{given}.real, {given}.imag])")  # fmt: skip
    if A.weak and dtype == "float32":
        size, finfo = A.scale if A.kind == "mask" else A.top, np.finfo(dtype)
        if size and not float(finfo.tiny) <= size <= float(finfo.max) / 16:
            raise ValueError(f"{name} has entries of {size:.3g}, out of the range of {dtype}: scale spacing, or pass "
                             f"{given} in float64")  # fmt: skip
    rows = form.rows(k, b, dtype)
    norms = k.to_host(operators.norms(k, rows))
    if check and not np.isfinite(norms).all():  # which a NaN leaves no norm, nor infinity; nor does what is too large
        validate.numeric(given, rows, check=True)
    if x0 is not None:
        if (A.batch_shape or start_form.lead) != (A.batch_shape or form.lead):
            lead = A.batch_shape or form.lead
            own_axes = x0.ndim - (A.ndim if start_form.on_cells else 1)
            try:
                x0 = k.xp.broadcast_to(x0, (*lead, *x0.shape[own_axes:]))
            except ValueError:
                found = tuple(x0.shape[:own_axes])
                raise ValueError(f"{start} has leading axes {found}, the batch is {lead}") from None
            start_form = Form(A, lead, start_form.on_cells)
        x0 = start_form.rows(k, x0, dtype)
        if check:
            validate.numeric(start, x0, check=True)
    removed = None
    if A.null is not None and rows.size:
        norms = None
        removed = A.null.require_compatible(k, given, rows, b.dtype)
        if x0 is not None:
            A.null.project(k, x0)

    def restore(x):
        x = form.out(x)
        return x if own is None else own(x)

    shape = A.batch_shape or form.lead
    return operators.LinearSystem(A.on_rows(k, dtype), rows, x0, shape, dtype, restore, norms, removed)
