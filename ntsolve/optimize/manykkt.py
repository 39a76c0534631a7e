"""Newton systems of a batch of small problems, on either backend, and the numbers that decisions are made from."""

from typing import Any

import numpy as np

from .kkt import ZERO_PIVOT

TINY = np.finfo(float).tiny
EXACT = 1e-12  # relative residual that refinement is not worth its time for


def product(A, v):
    """A v, (batch, m)"""
    return (A @ v[:, :, None])[:, :, 0]


def transposed_product(A, u):
    """A' u, (batch, n)"""
    return (u[:, None, :] @ A)[:, 0, :]


class Systems:
    """The systems of a batch; `x`, `g` and `J` are set by whoever iterates.

    Parameters
    ----------
    k : kernels
    batch, n, m : int

    Attributes
    ----------
    factorizations : int
        Calls, each for all systems that were chosen.
    """

    def __init__(self, k, batch, n, m):
        self.k, self.xp, self.n, self.m = k, k.xp, n, m
        self.factor, self.order = k.xp.zeros((batch, n + m, n + m)), k.xp.zeros((batch, n + m), dtype="int32")
        self.inertia, self.factorizations = k.xp.zeros((batch, 3), dtype="int32"), 0
        self.x: Any = None
        self.g: Any = None
        self.J: Any = None

    # ---- numbers of each problem ----------------------------------------------------------------------------------

    def _host(self, values):
        return np.array(self.k.to_host(values), dtype=float)

    def _sizes(self, c):
        """|c|_1"""
        return self._host(abs(c).sum(axis=1)) if self.m else np.zeros(c.shape[0])

    def _dot(self, a, b):
        return self._host((a * b).sum(axis=1))

    def _mask(self, chosen, new, old):
        """Rows of `new` where chosen, of `old` elsewhere."""
        chosen = self.xp.asarray(chosen)
        return self.xp.where(chosen.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    def _largest(self, rows):
        return self._host(abs(rows).max(axis=1)) if rows.shape[1] else np.zeros(rows.shape[0])

    # ---- systems --------------------------------------------------------------------------------------------------

    def _factor(self, H, shift, dual, chosen):
        """Factorise for the chosen, leaving the others' factors alone; their inertia, on the host."""
        xp = self.xp
        self.k.kkt_factor(H, xp.ascontiguousarray(self.J), xp.asarray(np.where(chosen, shift, np.nan)),
                          xp.asarray(dual), ZERO_PIVOT, self.factor, self.order, self.inertia)  # fmt: skip
        self.factorizations += 1
        return np.array(self.k.to_host(self.inertia))

    def _solve(self, top, bottom, at=None):
        """(dx, dlam), with the factors of the systems `at`, an index array, or of all."""
        d = self.xp.concatenate([top, bottom], axis=1)[:, None, :].copy()
        factor, order = (self.factor, self.order) if at is None else (self.factor[at], self.order[at])
        self.k.kkt_solve(factor, order, d)
        return d[:, 0, : self.n], d[:, 0, self.n :]

    def _refined(self, H, shift, dual, top, bottom):
        """(dx, dlam, relative residual) of (1) or (2), with a round of iterative refinement where it can help."""
        shift, dual = self.xp.asarray(shift)[:, None], self.xp.asarray(dual)[:, None]

        def rest(dx, dlam):
            up = top - product(H, dx) - shift * dx - transposed_product(self.J, dlam)
            down = bottom - product(self.J, dx) + dual * dlam
            return up, down, np.sqrt(self._dot(up, up) + self._dot(down, down))

        dx, dlam = self._solve(top, bottom)
        up, down, left = rest(dx, dlam)
        size = np.maximum(np.sqrt(self._dot(top, top) + self._dot(bottom, bottom)), TINY)
        if not (left > EXACT * size).any():
            return dx, dlam, left / size
        ex, elam = self._solve(up, down)
        better = rest(dx + ex, dlam + elam)[2]
        chosen = better < left
        left = np.where(chosen, better, left) / size
        return self._mask(chosen, dx + ex, dx), self._mask(chosen, dlam + elam, dlam), left

    def _least_squares(self, chosen):
        """argmin |g + J' lam| of the chosen, from [[I, J'], [J, -tiny I]]; nearly the shortest, of several."""
        xp, batch = self.xp, self.x.shape[0]
        if not self.m:
            return xp.zeros((batch, 0))
        identity = xp.ascontiguousarray(xp.broadcast_to(xp.eye(self.n), (batch, self.n, self.n)))
        dual = 1e-13 * np.maximum(self._host((self.J**2).max(axis=2).max(axis=1)), 1e-8)
        self._factor(identity, np.zeros(batch), dual, chosen)
        lam = self._refined(identity, np.zeros(batch), 0 * dual, -self.g, xp.zeros((batch, self.m)))[1]
        return xp.where(xp.isfinite(lam), lam, 0.0)
