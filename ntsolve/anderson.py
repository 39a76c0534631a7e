"""Anderson acceleration of a fixed point iteration x <- G(x): Walker, Ni, SIAM J. Numer. Anal. 49 (2011)."""

import numpy as np

from .reductions import SERIAL


class Anderson:
    """The last steps of x <- g = G(x), and where they say that the fixed point is.

    Minimises, over theta, the weighted norm of f - sum theta_k (f_k+1 - f_k) with f = g - x, and goes to
    g - sum theta_k (g_k+1 - g_k), the sum clipped. Of vectors that `ranks` have parts of, all find the same theta.
    """

    kept = ("df", "dg", "f", "f_old", "g_old", "gram", "size", "at", "fresh")

    def __init__(self, k, weight, history, clip, ranks=SERIAL):
        xp, n = k.xp, weight.size
        self.k, self.weight, self.history, self.clip, self.ranks = k, weight, history, clip, ranks
        self.df, self.dg = xp.empty((history, n)), xp.empty((history, n))
        self.f, self.f_old, self.g_old = xp.empty(n), xp.empty(n), xp.empty(n)
        self.gram = np.empty((history, history))
        self.forget()

    def forget(self):
        """Start a history anew."""
        self.size = self.at = 0  # steps known, and where the next one goes
        self.fresh = True  # nothing in f_old and g_old

    def step(self, x, g, out):
        """out = the next x; it may be x."""
        xp, f, df, dg, at = self.k.xp, self.f, self.df, self.dg, self.at
        xp.subtract(g, x, out=f)
        f *= self.weight
        if not self.fresh:
            xp.subtract(f, self.f_old, out=df[at])
            xp.subtract(g, self.g_old, out=dg[at])
            size = self.size = min(self.size + 1, self.history)
            row, right = self.k.to_host(df[:size] @ df[at]), self.k.to_host(df[:size] @ f)
            self.ranks.total(row, right)
            self.gram[at, :size] = self.gram[:size, at] = row
            self.at = (at + 1) % self.history
        self.f_old[:], self.g_old[:], self.fresh = f, g, False
        out[:] = g
        size = self.size
        if size:
            normal = self.gram[:size, :size].copy()
            normal.flat[:: size + 1] *= 1 + 1e-10
            try:
                theta = np.linalg.solve(normal, right)
            except np.linalg.LinAlgError:
                self.forget()
            else:
                away = xp.asarray(theta) @ dg[:size]
                out -= xp.minimum(xp.maximum(away, -self.clip), self.clip)
