"""The last directions of flexible conjugate gradients, which a new one is kept A-orthogonal to.

Where M is symmetric and stays the same, (z+, r) = 0 and a direction is orthogonal to all but the last by itself. Where
it is not,

    p = z+ - sum of (z+, q_i) / (p_i, q_i) p_i    over the last of them                                    (1)

keeps what they have gained: algorithm 2.1 of Notay, "Flexible Conjugate Gradients", SIAM J. Sci. Comput. 22 (2000), for
m > 1. No product with A is needed, as q_i = A p_i is there.
"""

import numpy as np

DIRECTIONS = 24


def skewness(rz, pq, minus_zq):
    """Cosines of r+ and r in the inner product that M should be, 0 where it is one: rows of an iteration and the last.

    (z+, r) is (z+, r+) + alpha (z+, q).
    """
    with np.errstate(all="ignore"):
        cosine = abs(rz[1:] - rz[:-1] / pq * minus_zq) / np.sqrt(rz[1:] * rz[:-1])
    return np.where(np.isfinite(cosine), cosine, 0.0)


class Window:
    """Directions p and their q = A p, (batch, n) each, up to DIRECTIONS; then the oldest are overwritten."""

    def __init__(self, k, like):
        self.k, self.like = k, like
        self.pq, self._zq = k.xp.zeros((DIRECTIONS, len(like))), k.xp.zeros((DIRECTIONS, len(like)))
        self.clear()

    def clear(self):
        """Before a new start."""
        self.P, self.Q, self.count = [], [], 0

    def pack(self):
        P, Q = (self.k.xp.stack(rows) if rows else self._none() for rows in (self.P, self.Q))
        return {"P": P, "Q": Q, "pq": self.pq, "count": self.count}

    def unpack(self, saved):
        self.P, self.Q = (list(saved.like(name, self._none(), grows=True)) for name in ("P", "Q"))
        self.pq, self.count = saved.like("pq", self.pq), saved.like("count", self.count)

    def _none(self):
        return self.k.xp.zeros((0, *self.like.shape), self.like.dtype)

    def keep(self, p, q, pq):
        """One more direction."""
        i = self.count % DIRECTIONS
        if i == len(self.P):
            self.P.append(p.copy())
            self.Q.append(q.copy())
        else:
            self.P[i][...], self.Q[i][...] = p, q
        self.pq[i] = self.k.xp.where(pq > 0, pq, np.inf)  # what is at rest may have none
        self.count += 1

    def straighten(self, z, p, comm, work):
        """(1) for p = z + beta p, which is A-orthogonal to the last direction."""
        size, last = len(self.P), (self.count - 1) % DIRECTIONS
        for i in range(size):
            self.k.dot(z, self.Q[i], self._zq[i], work)
        comm.total(self._zq[:size])
        with np.errstate(all="ignore"):  # seen in p.Ap
            for i in range(size):
                if i != last:
                    p -= (self._zq[i] / self.pq[i]).astype(p.dtype)[:, None] * self.P[i]
