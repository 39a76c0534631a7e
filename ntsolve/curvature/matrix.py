"""What an empirical Fisher matrix is asked: products with it and with its inverse, elements, its determinant.

Equations are those of `fisher`.
"""

import math
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..parallel.comm import join
from ..reductions import SERIAL
from .gradients import InMemory


class FisherMatrix:
    """The answers of `EmpiricalFisher`, from the gradients in `_rows` and the factors in `_inverse`."""

    d: int
    damp: float
    block_size: int | None
    _rows: Any  # None where a window has none yet
    _inverse: Any = None
    _comm: Any
    _ranks: Any
    _whole: int  # columns on all ranks
    _apart: bool  # whether no block has columns on several ranks
    _diagonal: Any = None
    _dtype: np.dtype  # of the rows of a window that has none yet
    _order: list[int]  # where the rows are, the oldest first

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def m(self):
        return len(self._order)

    @property
    def shape(self):
        return (self.d, self.d)

    @property
    def dtype(self):
        if self._rows is not None:
            return self._rows.working
        return np.dtype("float32") if self._dtype == np.float16 else self._dtype

    def __repr__(self):
        blocks = "" if self.block_size is None else f", block_size={self.block_size}"
        d = self.d if self._ranks is SERIAL else f"{self.d} of {self._whole}"
        return f"EmpiricalFisher(m={self.m}, d={d}, {self.dtype}, damp={self.damp:g}{blocks})"

    # ---- the matrix and its inverse ---------------------------------------------------------------------------------

    def solve(self, X, *, check=True) -> Any:
        """F^-1 applied to vectors, equation (2).

        Parameters
        ----------
        X : array (..., d)
        check : bool
            Look for NaN and infinity in X.

        Returns
        -------
        array (..., d)
        """
        return self._apply("solve", X, check)

    def matvec(self, X, *, check=True) -> Any:
        """F applied to vectors, equation (1).

        Parameters
        ----------
        X : array (..., d)
        check : bool
            Look for NaN and infinity in X.

        Returns
        -------
        array (..., d)
        """
        return self._apply("multiply", X, check)

    def __matmul__(self, X) -> Any:
        return self.matvec(X)

    def solve_newest(self) -> Any:
        """F^-1 applied to the gradient that came last, equation (3): one pass over G, and no cancellation.

        Returns
        -------
        array (d,)
        """
        if not self.m:
            raise ValueError("there is no newest gradient: the window is empty")
        with self._kernels():
            return self._inverse.solve_row(self._order[-1])

    def diag(self) -> Any:
        """The diagonal of F^-1: O(d m^2) operations when it is first asked for, and kept.

        Returns
        -------
        array (d,)
        """
        with self._kernels():
            if self._diagonal is None:
                self._diagonal = self._inverse.diagonal().astype(self.dtype)
            return self._diagonal.copy()

    def element(self, i, j) -> float:
        """One element of F^-1.

        Parameters
        ----------
        i, j : int
            From -d to d - 1.

        Returns
        -------
        float
        """
        index = self._index([i, j])
        with self._kernels() as k:
            return float(k.to_host(self._inverse.submatrix(index))[0, 1])

    def block(self, idx) -> Any:
        """Rows and columns `idx` of F^-1.

        Parameters
        ----------
        idx : array of int (n,), or of bool (d,)

        Returns
        -------
        array (n, n)
            In float64 always: it is small, and usually inverted next.
        """
        index = self._index(idx)
        with self._kernels():
            return self._inverse.submatrix(index)

    def log_det(self) -> float:
        """The logarithm of the determinant of F.

        Returns
        -------
        float
        """
        with self._together(), self._kernels():
            found = np.array([float(self._inverse.log_det())])
            if self._apart or not self.m:
                self._ranks.total(found)
            return float(found[0])

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _together(self):
        """All ranks in one call; where one has failed before, they begin to talk anew."""
        self._ranks = join(self._comm)
        if getattr(self._inverse, "ranks", SERIAL) is not SERIAL:
            self._inverse.ranks = self._ranks
        return self._ranks.together()

    def _kernels(self, **arrays):
        mine = self._rows.array if isinstance(self._rows, InMemory) else None
        return kernels_for(gradients=mine, **arrays)

    def _apply(self, what, X, check):
        with self._together():
            return self._applied(what, X, check)

    def _applied(self, what, X, check):
        X, own = validate.own_kind("X", X)
        X = validate.numeric("X", X, check=check)
        if X.dtype.kind == "c":
            raise TypeError("X is complex, the gradients are real")
        if X.ndim == 0 or X.shape[-1] != self.d:
            raise ValueError(f"X has shape {tuple(X.shape)}, the gradients have d = {self.d} entries")
        self._ranks.alike(**{"the shape of X, but for its last axis,": X.shape[:-1]})
        with self._kernels(X=X) as k:
            rows = X.astype(np.result_type(X.dtype, self.dtype), copy=False)
            rows = rows.reshape(math.prod(X.shape[:-1]), self.d)
            return own(getattr(self._inverse, what)(k.xp.ascontiguousarray(rows)).reshape(X.shape))

    def _index(self, idx):
        found = np.asarray(idx.get() if hasattr(idx, "get") else idx)
        if found.dtype == bool and found.shape == (self.d,):
            return np.flatnonzero(found)
        if found.size == 0:
            found = found.astype(int)
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise TypeError(f"indices must be whole numbers (n,) or bool ({self.d},), not {found.dtype} {found.shape}")
        if found.size and (int(found.min()) < -self.d or int(found.max()) >= self.d):
            raise IndexError(f"indices must lie from {-self.d} to {self.d - 1}")
        return found.astype("int64") % self.d
