"""Residuals that stay orthogonal: what conjugate gradients lose to rounding, kept for as long as memory lasts.

In exact arithmetic the residuals r_i of preconditioned conjugate gradients are M-orthogonal, (r_i, M r_j) = 0. Rounding
undoes this along the eigenvectors that have been found, those of the largest eigenvalues first, which then come again
and again: on a spectrum that decays as a Hessian's does, most iterations are spent on such copies. So the first
residuals are kept, and what a later one has of them is taken out,

    r -= sum_i r_i (z_i, r) / (r_i, z_i),   z_i = M r_i,                                                 (1)

for as long as that is a matter of rounding: less than the square root of the machine precision, relative to r. Up to
there the iteration is as good as in exact arithmetic (B. N. Parlett, The Symmetric Eigenvalue Problem, SIAM 1998,
sections 13.3 and 13.8, on semiorthogonality), and r is b - A x as far as a tolerance can tell. When there are more
residuals than were kept, the copies grow beyond it some iterations later; from then on nothing is taken out, and the
method is the usual one.
"""

import numpy as np

from ..operators import Operator
from ..reductions import SERIAL

FIRST = 16  # residuals that there is room for at the start
LOOK = 16  # applications from one look at whether there is anything left to do to the next


class Orthogonal(Operator):
    """The preconditioner M, None for the identity, on residuals that it first makes orthogonal to those before.

    Where each of `ranks` has a part of every vector, dots are summed over them.
    """

    capturable = False

    def __init__(self, k, M, keep, shape, dtype, ranks=SERIAL):
        batch, n = shape
        super().__init__(k, n, dtype)
        self.M, self.most, self.ranks = M, keep, ranks
        self.Z = k.xp.zeros((batch, min(keep, FIRST), n), dtype)
        self.R = self.Z if M is None else k.xp.zeros_like(self.Z)
        self.restart()

    def restart(self):
        self.count, self.calls, self.over = 0, 0, False
        self.live = self.k.xp.ones(self.Z.shape[0], "bool")
        self.size = self.k.xp.zeros(self.Z.shape[0])  # (r, z) when it was last here

    def matvec(self, x, y):
        """y = M x, after equation (1) on x itself."""
        if self.count and not self.over:
            with np.errstate(all="ignore"):  # seen by the iteration
                self._clean(x)
        if self.M is None:
            y[...] = x
        else:
            self.M.matvec(x, y)
        if not self.over:
            with np.errstate(all="ignore"):
                self._keep(x, y)

    def _clean(self, r):
        xp, count = self.k.xp, self.count
        share = xp.matmul(self.Z[:, :count], r[:, :, None])
        self.ranks.add(share)
        taken = (share.astype("float64") ** 2).sum(axis=(1, 2))
        # a system that rests comes with the residual that it has left here before: that is no rounding either
        self.live &= taken < np.finfo(self.dtype).eps * self.size
        share *= self.live[:, None, None]
        r -= xp.matmul(share.transpose(0, 2, 1), self.R[:, :count])[:, 0]

    def _keep(self, r, z):
        xp = self.k.xp
        size = (r.astype("float64") * z).sum(axis=1)
        self.ranks.add(size)
        self.live &= size > 0
        self.size = size
        if self.count < self.most:
            if self.count == self.Z.shape[1]:
                self._grow()
            factor = (self.live / xp.sqrt(xp.where(self.live, size, 1.0)))[:, None]
            self.Z[:, self.count] = factor * z
            if self.M is not None:
                self.R[:, self.count] = factor * r
            self.count += 1
        self.calls += 1
        if self.calls % LOOK == 0:
            self.over = not bool(self.k.to_host(self.live.any()))

    def _grow(self):
        """Room for twice as many."""
        same = self.R is self.Z
        self.Z = self._larger(self.Z)
        self.R = self.Z if same else self._larger(self.R)

    def _larger(self, kept):
        new = self.k.xp.zeros((kept.shape[0], min(2 * self.count, self.most), self.n), self.dtype)
        new[:, : self.count] = kept
        return new
