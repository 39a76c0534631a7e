"""The inverse of damp I + (1/m) G'G, or of its diagonal blocks, through the smaller of two Cholesky factorisations.

With one k for each block of columns, and s = m damp,

    dual, m <= width:     A_k = s I + G_k G_k' (m x m),   F_k^-1 x = (x - G_k' A_k^-1 G_k x) / damp      (1)
    primal, width < m:    A_k = s I + G_k' G_k,           F_k^-1 x = m A_k^-1 x                          (2)

by the identity of Woodbury and by definition. The products G_k G_k' or G_k' G_k are kept, so that another damp costs a
factorisation and no pass over G. Sums are in float64 whatever G is stored in: with sums in float32 the answer has no
digit left once damp falls below 1e-7 of the largest eigenvalue, or where gradients are repeated.
"""

from typing import Any

import numpy as np

from ..kernels.contracts.factors import shift_workspace
from ..kernels.contracts.fisher import gram_columns_workspace, gram_workspace, leverage_workspace, row_dots_workspace
from ..reductions import SERIAL
from .gradients import PIECE

AT_ONCE = 16  # right-hand sides in one pass over G
LOOK = 64  # exchanges between two looks at the drift of L
DRIFT = 1e-12


def diagonals(A):
    """(blocks, q) of A (blocks, q, q)"""
    blocks, q, _ = A.shape
    return A.reshape(blocks, q * q)[:, :: q + 1]


class Empty:
    """damp times the identity: no gradient yet."""

    gram = None

    def __init__(self, d, damp):
        self.d, self.damp = d, damp

    def factor(self):
        pass

    def solve(self, X):
        return X / X.dtype.type(self.damp)

    def multiply(self, X):
        return X * X.dtype.type(self.damp)

    def diagonal(self):
        return np.full(self.d, 1 / self.damp)

    def submatrix(self, index):
        return (index[:, None] == index) / self.damp

    def log_det(self):
        return self.d * np.log(self.damp)


class Blocks:
    """A_k = s I + gram_k = L_k L_k' for all blocks of columns. `gram` is taken over from another damp, if given.

    `ranks` have other columns of the one block that there then is; `d` are the columns of all.
    """

    def __init__(self, k, rows, width, damp, gram=None, ranks=SERIAL, d=None):
        self.k, self.rows, self.width, self.damp, self.ranks = k, rows, width, damp, ranks
        self.d, self.count = rows.d if d is None else d, max(1, -(-rows.d // width))
        self.gram = self._gram() if gram is None else gram.copy()
        self._L: Any = None

    @property
    def shift(self):
        return self.rows.m * self.damp

    def _sorted(self):
        return self.gram

    def factor(self):
        """L, made if it is not there."""
        if self._L is None:
            L = self.k.xp.empty_like(self.gram)
            info = self.k.xp.empty(self.count, "int32")
            self.k.cholesky(self._sorted(), self.shift, L, info)
            if self.k.to_host(info).any():
                raise ValueError(self._trouble())
            self._L = L
        return self._L

    def _gram(self):
        """The products, in one pass over G."""
        raise NotImplementedError

    def _place(self, block, i):
        """What is wrong in the gradients where the i-th diagonal entry of a block's products is not finite."""
        raise NotImplementedError

    def _trouble(self):
        """Why there is no factor."""
        diagonal = self.k.to_host(diagonals(self.gram))
        if not np.isfinite(diagonal).all():
            number, where = (int(found[0]) for found in np.nonzero(~np.isfinite(diagonal)))
            return f"G contains NaN or infinity, or its squares overflow, in {self._place(number, where)}"
        rounding = np.finfo(float).eps * len(self.gram[0]) * float(diagonal.max()) / self.rows.m
        return f"damp = {self.damp:g} is lost in rounding beside these gradients: it must be above {rounding:.1g}"

    def _log_det_A(self):
        return 2 * float(self.k.xp.log(diagonals(self.factor())).sum())

    def multiply(self, X):
        """F X for rows X (s, d)."""
        C = self.dots(X)
        C /= self.rows.m
        return self.combine(C, self.damp, X, 1.0)

    def dots(self, X):
        """(count, s, m): X_k G_k'"""
        xp, m = self.k.xp, self.rows.m
        out = xp.zeros((self.count, X.shape[0], m))
        for piece in self.rows.pieces(self.width):
            part = xp.ascontiguousarray(X[:, piece.first : piece.last])
            work = xp.empty(row_dots_workspace(*piece.G.shape, self.width, X.shape[0]))
            self.k.row_dots(piece.G, self.width, part, out[piece.blocks], work)
        self.ranks.add(out)
        return out

    def combine(self, C, alpha, X, beta):
        """(s, d): alpha X + beta C_k G_k; X may be None, and then the dtype is that of G."""
        xp = self.k.xp
        dtype = self.rows.working if X is None else X.dtype
        Y = xp.empty((C.shape[1], self.rows.d), dtype)
        for piece in self.rows.pieces(self.width):
            columns = slice(piece.first, piece.last)
            part = None if X is None else xp.ascontiguousarray(X[:, columns])
            whole = piece.last - piece.first == self.rows.d
            out = Y if whole else xp.empty((Y.shape[0], piece.last - piece.first), dtype)
            self.k.combine_rows(piece.G, self.width, C[piece.blocks], alpha, part, beta, out)
            if not whole:
                Y[:, columns] = out
        return Y


class Dual(Blocks):
    """Equation (1). L may have the rows in another `order` than G: as they came, where rows were exchanged."""

    order = _back = None
    _exchanges = 0

    def _sort(self, order):
        """Have the rows of L in this order from now on."""
        self.order, self._back = self.k.xp.asarray(order), self.k.xp.asarray(np.argsort(order))

    def _sorted(self):
        """The products in the order of L."""
        if self.order is None:
            return self.gram
        return self.k.xp.take(self.k.xp.take(self.gram, self.order, axis=1), self.order, axis=2)

    def _place(self, block, i):
        return f"row {i}"

    def solve_A(self, C):
        """C (count, s, m) <- the solutions of A_k y = c."""
        L = self.factor()
        if self.order is None:
            self.k.cholesky_solve(L, C)
        else:
            turned = self.k.xp.take(C, self.order, axis=2)
            self.k.cholesky_solve(L, turned)
            C[...] = self.k.xp.take(turned, self._back, axis=2)

    def append(self, order):
        """The rows have got one more; `order` is that of their age."""
        xp, m = self.k.xp, self.rows.m
        gram = xp.zeros((self.count, m, m))
        gram[:, :-1, :-1] = self.gram
        self.gram, self._L = gram, None
        self._sort(order)
        self._look_at(m - 1)

    def exchange(self, age, order):
        """Row order[-1] is another now, and the newest; it was number `age` before, the others keep their order.

        Where there is no factor for that, all is as it was before, and a ValueError.
        """
        slot = order[-1]
        before, old = self.gram[:, slot].copy(), (self.order, self._back)
        drifted = self._drifted()
        self._look_at(slot)
        self._sort(order)
        try:
            if drifted or not self._follow(age, slot):
                self._L = None
                self.factor()
        except BaseException:
            self.gram[:, slot, :], self.gram[:, :, slot] = before, before
            (self.order, self._back), self._L = old, None
            raise

    def _look_at(self, i):
        """Row and column i of the products, from the gradients anew: rounding does not pile up in them."""
        dots = self.dots(self.rows.row(i)[None])[:, 0]
        self.gram[:, i, :], self.gram[:, :, i] = dots, dots

    def _drifted(self):
        """Whether L is not there, or (looked at now and then, O(m^2)) no longer the factor of A."""
        self._exchanges += 1
        if self._L is None or self._exchanges % LOOK:
            return self._L is None
        xp, L = self.k.xp, self._L
        z = xp.ones((self.count, self.rows.m, 1))
        z[:, ::2] = -0.5
        A_z = xp.matmul(self._sorted(), z) + self.shift * z
        off = xp.matmul(L, xp.matmul(L.transpose(0, 2, 1), z)) - A_z
        return bool((abs(off).max(1) > DRIFT * abs(A_z).max(1)).any())

    def _follow(self, age, slot):
        """Bring L after an exchange, O(m^2); False where that is not positive definite."""
        xp, m = self.k.xp, self.rows.m
        rows = xp.take(self.gram[:, slot], self.order, axis=1)
        corners = self.k.to_host(rows[:, -1]) + self.shift
        work, info = xp.empty(shift_workspace(m)), xp.zeros((self.count, 1), "int32")
        for number in range(self.count):
            row = rows[number, : m - 1]
            self.k.shift_factor(self._L[number], age, row, float(corners[number]), work, info[number])
        return not self.k.to_host(info).any()

    def _gram(self):
        xp, m = self.k.xp, self.rows.m
        A = xp.zeros((self.count, m, m))
        for piece in self.rows.pieces(self.width):
            work = xp.empty(gram_workspace(*piece.G.shape, self.width))
            self.k.gram(piece.G, self.width, A[piece.blocks], work)
        self.ranks.add(A)
        return A

    def solve(self, X):
        Y = self.k.xp.empty_like(X)
        for first in range(0, len(X), AT_ONCE):
            part = X[first : first + AT_ONCE]
            C = self.dots(part)
            self.solve_A(C)
            Y[first : first + AT_ONCE] = self.combine(C, 1 / self.damp, part, -1 / self.damp)
        return Y

    def solve_row(self, i):
        """F^-1 g_i = m G' A^-1 e_i, which cancels nothing."""
        C = self.k.xp.zeros((self.count, 1, self.rows.m))
        C[:, 0, i] = self.rows.m
        self.solve_A(C)
        return self.combine(C, 0.0, None, 1.0)[0]

    def diagonal(self):
        """(d,) float64. F^-1 = (I - W'W) / damp, W = L^-1 G."""
        if self.order is not None:  # W needs L and G in one order
            return Dual(self.k, self.rows, self.width, self.damp, self.gram).diagonal()
        xp = self.k.xp
        out = xp.empty(self.rows.d)
        for piece in self.rows.pieces(self.width):
            part = xp.empty(piece.last - piece.first)
            work = xp.empty(leverage_workspace(*piece.G.shape))
            self.k.leverage(self.factor()[piece.blocks], piece.G, self.width, part, work)
            out[piece.first : piece.last] = part
        return (1 - out) / self.damp

    def submatrix(self, index):
        """Rows and columns `index` (host integers) of the inverse, float64."""
        xp = self.k.xp
        G = self.rows.columns(xp.asarray(index))  # (len(index), m)
        block = index // self.width
        out = xp.asarray(index[:, None] == index).astype(float)
        for number in np.unique(block):
            mine = xp.asarray(np.flatnonzero(block == number))
            g = G[mine] if self.order is None else xp.take(G[mine], self.order, axis=1)
            Z = xp.array(g[None], order="C")
            self.k.cholesky_solve(self.factor()[number : number + 1], Z)
            out[mine[:, None], mine] -= g @ Z[0].T
        out /= self.damp
        return (out + out.T) / 2

    def log_det(self):
        """log det F"""
        return self.d * np.log(self.damp) + self._log_det_A() - self.count * self.rows.m * np.log(self.shift)


class Primal(Blocks):
    """Equation (2). The last block is filled up with rows and columns of s I."""

    def _place(self, block, j):
        return f"column {block * self.width + j}"

    def append(self, order):
        """The rows have got one more."""
        self.gram, self._L = self._gram(), None

    def exchange(self, age, order):
        """Row order[-1] is another now."""
        before = self.gram, self._L
        self.append(order)
        try:
            self.factor()
        except BaseException:
            self.gram, self._L = before
            raise

    def _gram(self):
        xp = self.k.xp
        A = xp.zeros((self.count, self.width, self.width))
        for piece in self.rows.slabs(self.width):
            work = xp.empty(gram_columns_workspace(*piece.G.shape, self.width))
            self.k.gram_columns(piece.G, self.width, A[piece.blocks], work)
        return A

    def _cut(self, X):
        """(count, s, width) float64 of rows X (s, d)."""
        cut = self.k.xp.zeros((len(X), self.count * self.width))
        cut[:, : self.rows.d] = X
        return self.k.xp.ascontiguousarray(cut.reshape(len(X), self.count, self.width).transpose(1, 0, 2))

    def _join(self, cut, dtype):
        return cut.transpose(1, 0, 2).reshape(cut.shape[1], -1)[:, : self.rows.d].astype(dtype)

    def solve(self, X):
        cut = self._cut(X)
        self.k.cholesky_solve(self.factor(), cut)
        cut *= self.rows.m
        return self._join(cut, X.dtype)

    def solve_row(self, i):
        return self.solve(self.rows.row(i)[None])[0]

    def multiply(self, X):
        """F X for rows X (s, d)."""
        cut = self._cut(X)
        cut = self.k.xp.matmul(cut, self.gram) / self.rows.m + self.damp * cut
        return self._join(cut, X.dtype)

    def diagonal(self):
        """(d,) float64. F^-1 = m L^-T L^-1."""
        xp, width = self.k.xp, self.width
        out = xp.empty(self.count * width)
        several = min(self.count, max(1, PIECE // (8 * width**2)))
        unit = xp.broadcast_to(xp.eye(width)[:, None], (width, several, width)).reshape(width, several * width)
        for first in range(0, self.count, several):
            L = self.factor()[first : first + several]
            part = xp.ascontiguousarray(unit[:, : len(L) * width])
            work = xp.empty(leverage_workspace(*part.shape))
            self.k.leverage(L, part, width, out[first * width : (first + len(L)) * width], work)
        return self.rows.m * out[: self.rows.d]

    def submatrix(self, index):
        """Rows and columns `index` (host integers) of the inverse, float64."""
        xp, block = self.k.xp, index // self.width
        out = xp.zeros((len(index), len(index)))
        for number in np.unique(block):
            mine = np.flatnonzero(block == number)
            within = xp.asarray(index[mine] - number * self.width)
            unit = xp.zeros((1, len(mine), self.width))
            unit[0, xp.arange(len(mine)), within] = self.rows.m
            self.k.cholesky_solve(self.factor()[number : number + 1], unit)
            mine = xp.asarray(mine)
            out[mine[:, None], mine] = unit[0][:, within]
        return (out + out.T) / 2

    def log_det(self):
        """log det F; what fills up the last block does not count."""
        filled = self.count * self.width - self.rows.d
        return self._log_det_A() - self.rows.d * np.log(self.rows.m) - filled * np.log(self.shift)


class InverseOperator:
    """F^-1 of an `EmpiricalFisher`, as the solvers know an operator."""

    def __init__(self, fisher):
        self.fisher, self.shape, self.dtype = fisher, fisher.shape, fisher.dtype

    def matvec(self, x):
        return self.fisher.solve(x.reshape(-1)).reshape(x.shape)

    rmatvec = matvec

    def matmat(self, X):
        return self.fisher.solve(X.T).T

    rmatmat = matmat

    def __matmul__(self, x):
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)
