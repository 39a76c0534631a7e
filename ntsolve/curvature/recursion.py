"""The two algorithms of the M-FAC paper as they are written there: the reference, and the baseline of the benches.

E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information", NeurIPS
2021. With F_i = damp I + (1/m) sum_{j <= i} g_j g_j' the Sherman-Morrison formula gives, for v_i = F_{i-1}^-1 g_i and
q_i = m + g_i.v_i,

    v_i = g_i / damp - sum_{j < i} v_j (v_j.g_i) / q_j                                                   (1)
    F^-1 x = x / damp - sum_j v_j (v_j.x) / q_j                                                          (2)

The static algorithm keeps the v_j. The dynamic one keeps D_ij = v_i.g_j, which follows from the products g_i.g_j alone,
and the coefficients B of v_i = sum_j B_ij g_j:

    D_ij = g_i.g_j / damp - sum_{l < i} D_li D_lj / q_l,     q_l = m + D_ll                              (3)
    B_i  = e_i / damp - sum_{l < i} (D_li / q_l) B_l                                                     (4)

Everything is computed in the dtype of the gradients, one vector at a time. With A = m damp I + G G' = L L' and W =
L^-1 G it holds that v_i = L_ii w_i / damp and q_i = L_ii^2 / damp: (1) is a Cholesky factorisation and a forward
substitution, row by row.
"""

import numpy as np

from .. import validate


class _Recursion:
    """What both have in common: built anew whenever the rows change."""

    gram = None

    def __init__(self, k, rows, damp):
        self.k, self.rows, self.damp = k, rows, rows.working.type(damp)
        self._build()

    def _build(self):
        self.G = self.rows.array[: self.rows.m].astype(self.rows.working, copy=False)
        validate.numeric("G", self.G)
        self.prepare()
        self._q = self.k.xp.asarray(self.q)

    q: np.ndarray

    def prepare(self):
        """What the method keeps; `q` among it."""
        raise NotImplementedError

    def _v(self, index=slice(None)):
        """Columns of the v."""
        raise NotImplementedError

    def solve(self, X):
        """F^-1 X for rows X (s, d)."""
        raise NotImplementedError

    def append(self, order):
        self._build()

    def exchange(self, age, order):
        self._build()

    def factor(self):
        pass

    def multiply(self, X):
        return self.damp * X + ((X @ self.G.T) / self.rows.m) @ self.G

    def solve_row(self, i):
        return self.solve(self.G[i][None])[0]

    def diagonal(self):
        return 1 / self.damp - (self._v() ** 2 / self._q[:, None]).sum(0)

    def submatrix(self, index):
        """Rows and columns `index` of the inverse; O(m) an element."""
        v = self._v(index)
        same = self.k.xp.asarray(index[:, None] == index)
        return (same / self.damp - (v / self._q[:, None]).T @ v).astype("float64")

    def log_det(self):
        # det F_i = det F_{i-1} (1 + g_i.v_i / m), and det F_0 = damp^d
        return self.rows.d * np.log(float(self.damp)) + float(np.log(self.q.astype(float) / self.rows.m).sum())


class StaticRecursion(_Recursion):
    """Equations (1) and (2)."""

    def prepare(self):
        G, m = self.G, self.rows.m
        self.v, self.q = self.k.xp.empty_like(G), np.empty(m, G.dtype)
        for i in range(m):
            v = self.v[:i]
            self.v[i] = G[i] / self.damp - ((v @ G[i]) / self.k.xp.asarray(self.q[:i])) @ v
            self.q[i] = self.k.to_host(m + G[i] @ self.v[i])

    def _v(self, index=slice(None)):
        return self.v[:, index]

    def solve(self, X):
        return X / self.damp - ((X @ self.v.T) / self._q) @ self.v


class DynamicRecursion(_Recursion):
    """Equations (3) and (4)."""

    def prepare(self):
        m = self.rows.m
        D = self.k.to_host(self._products()) / self.damp
        B = np.eye(m, dtype=D.dtype) / self.damp
        for i in range(1, m):
            share = D[:i, i] / (m + D.diagonal()[:i])
            D[i, i:] -= share @ D[:i, i:]
            B[i] -= share @ B[:i]
        self.q, self.B = m + D.diagonal(), self.k.xp.asarray(B)

    def _products(self):
        """G G'; after an exchange the one row and column of it."""
        if self.products is None or self.products.shape[0] != self.rows.m:
            self.products = self.G @ self.G.T
        else:
            row = self.G @ self.G[self.changed]
            self.products[self.changed], self.products[:, self.changed] = row, row
        return self.products

    products = changed = None

    def exchange(self, age, order):
        self.changed = order[-1]
        self._build()

    def _v(self, index=slice(None)):
        return self.B @ self.G[:, index]

    def solve(self, X):
        c = ((X @ self.G.T) @ self.B.T) / self._q
        return X / self.damp - (c @ self.B) @ self.G
