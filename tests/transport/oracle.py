"""What the transport solvers are tested against: slow, dense, and written without looking at them."""

import numpy as np
from scipy.special import logsumexp


def plan(C, f, g, reg):
    """P_ij = exp((f_i + g_j - C_ij) / reg), in float64; an infinite cost or a potential of -inf gives 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        exponent = (np.asarray(f, float)[:, None] + np.asarray(g, float)[None] - np.asarray(C, float)) / reg
    return np.exp(np.where(np.isnan(exponent), -np.inf, exponent))


def marginal_error(P, a, b):
    """|P 1 - a|_1 + |P' 1 - b|_1"""
    return abs(P.sum(1, dtype=float) - a).sum() + abs(P.sum(0, dtype=float) - b).sum()


def xlogy(P):
    """P log P, 0 where P is."""
    return P * np.log(np.where(P > 0, P, 1.0))


def linear_value(P, C):
    """<P, C>, where nothing goes along forbidden pairs."""
    return float((P * np.where(P > 0, C, 0.0)).sum())


def value(P, C, reg):
    """<P, C> + reg sum P (log P - 1)"""
    return linear_value(P, C) + reg * float((xlogy(P) - P).sum())


def solve(C, a, b, reg, *, tol=1e-12, tau_a=np.inf, tau_b=np.inf):
    """Potentials (f, g) of the entropic problem, balanced or with KL penalties, for positive weights and small sizes.

    Log-domain Sinkhorn through decreasing regularisation, then Newton on both potentials with a dense matrix. The
    dual that it minimises is reg sum P + phi(f; a, tau_a) + phi(g; b, tau_b), where phi(f) is -a.f for an infinite tau
    and tau a.(exp(-f / tau) - 1) else.
    """
    C, a, b = (np.asarray(v, float) for v in (C, a, b))
    n, f, g = len(a), np.zeros(len(a)), np.zeros(len(b))
    finite = C[np.isfinite(C)]
    level = max(reg, 0.5 * (finite.max() - finite.min()))
    while True:
        for _ in range(100):
            f = _damped(level, tau_a, np.log(a) - logsumexp((g[None] - C) / level, axis=1))
            g = _damped(level, tau_b, np.log(b) - logsumexp((f[:, None] - C) / level, axis=0))
        if level <= reg:
            break
        level = max(reg, level / 2)

    def dual(z):
        f, g = z[:n], z[n:]
        return reg * plan(C, f, g, reg).sum() + _phi(f, a, tau_a)[0] + _phi(g, b, tau_b)[0]

    z = np.concatenate([f, g])
    for _ in range(200):
        P = plan(C, z[:n], z[n:], reg)
        (_, da, ha), (_, db, hb) = _phi(z[:n], a, tau_a), _phi(z[n:], b, tau_b)
        gradient = np.concatenate([P.sum(1) + da, P.sum(0) + db])
        if abs(gradient).sum() <= tol:
            break
        H = np.block([[np.diag(P.sum(1)), P], [P.T, np.diag(P.sum(0))]]) / reg + np.diag(np.concatenate([ha, hb]))
        scale = 1 / np.sqrt(np.diag(H))
        step = -scale * np.linalg.lstsq(scale[:, None] * H * scale, scale * gradient, rcond=1e-14)[0]
        step *= min(1.0, 3 * reg / max(np.ptp(step[:n]), np.ptp(step[n:]), 1e-300)) if np.isinf(tau_a) else 1.0
        best, length = dual(z), 1.0
        while length > 1e-4 and not dual(z + length * step) <= best + 1e-15 * abs(best):
            length /= 2
        z = z + length * step
    return z[:n], z[n:]


def _damped(level, tau, x):
    return level * x if np.isinf(tau) else level * tau / (level + tau) * x


def _phi(f, a, tau):
    """(value, gradient, curvature) of the penalty of one marginal, as a function of its potential."""
    if np.isinf(tau):
        return -a @ f, -a, np.zeros_like(a)
    e = a * np.exp(-f / tau)
    return tau * (e - a).sum(), -e, e / tau
