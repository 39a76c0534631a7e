"""MINRES, for symmetric systems that need not be positive definite.

C. C. Paige, M. A. Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer. Anal. 12
(1975). The Lanczos process from v_1 = r / beta_1,

    beta_(j+1) v_(j+1) = A v_j - alpha_j v_j - beta_j v_(j-1),   alpha_j = (v_j, A v_j),                  (1)

gives the columns (beta_j, alpha_j, beta_(j+1)) of a tridiagonal T. Plane rotations (c, s) make T upper triangular with
the entries (epsilon_j, delta_j, gamma_j) in column j, and turn beta_1 e_1 into the (phi_j), of which the last,
phibar, is the norm of the residual:

    delta_j = c delta_bar + s alpha_j,   gamma_bar = s delta_bar - c alpha_j                             (2)
    gamma_j = sqrt(gamma_bar^2 + beta_(j+1)^2),   c = gamma_bar / gamma_j,   s = beta_(j+1) / gamma_j    (3)
    w_j = (v_j - epsilon_j w_(j-2) - delta_j w_(j-1)) / gamma_j,   x += phi_j w_j                        (4)
"""

import numpy as np

from ..kernels.contracts import workspace_shape
from .rounds import Rounds


class Minres(Rounds):
    """Equations (1) - (4), for all systems at once."""

    def begin(self):
        xp, batch = self.k.xp, len(self.r)
        # rounding the iterate to float32 in every step would grow with the square of the condition number
        self.x = self.x.astype(self.r.dtype).astype("float64")
        self.phibar = self._norms(self.r)
        self.v = self._each(inverse(self.phibar)) * self.r
        self.v_before, self.w, self.w_before = (xp.zeros_like(self.v) for _ in range(3))
        self.q, self.alpha, self.work = xp.zeros_like(self.v), xp.zeros(batch), xp.empty(workspace_shape(*self.v.shape))
        self.product = xp.empty_like(self.r)
        self.c, self.s, self.beta, self.epsilon, self.delta_bar = -np.ones(batch), *np.zeros((4, batch))

    def step(self):
        v, q = self.v, self.q
        self.A.matvec(v.astype(self.r.dtype, copy=False), self.product)
        q[...] = self.product
        self.k.dot(v, q, self.alpha, self.work)
        with np.errstate(all="ignore"):  # seen in the residual
            self._update(v, q, self.k.to_host(self.alpha))
        return self.phibar

    def _update(self, v, q, alpha):
        each = self._each
        q -= each(alpha) * v  # (1)
        q -= each(self.beta) * self.v_before
        self.beta = self._norms(q)
        q *= each(inverse(self.beta))
        self.v_before, self.v, self.q = v, q, self.v_before

        delta = self.c * self.delta_bar + self.s * alpha  # (2)
        gamma_bar = self.s * self.delta_bar - self.c * alpha
        epsilon, self.epsilon = self.epsilon, self.s * self.beta
        self.delta_bar = -self.c * self.beta
        gamma = np.hypot(gamma_bar, self.beta)  # (3)
        self.c, self.s = gamma_bar * inverse(gamma), self.beta * inverse(gamma)
        phi, self.phibar = self.c * self.phibar, self.s * self.phibar

        w = self.w_before  # (4)
        w *= -each(epsilon)
        w -= each(delta) * self.w
        w += v
        w *= each(inverse(gamma))
        self.w_before, self.w = self.w, w
        self.x += each(phi) * w


def inverse(values):
    """1 / values; 0 for 0, where the Krylov space has come to its end."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)
