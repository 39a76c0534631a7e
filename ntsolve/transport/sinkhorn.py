"""Sinkhorn's iteration in the logarithmic domain: what the other methods are compared with.

For min <P, C> + reg sum P (log P - 1) with P 1 = a, P' 1 = b, and P_ij = exp((f_i + g_j - C_ij) / reg), the dual

    max  a.f + b.g - reg sum_ij exp((f_i + g_j - C_ij) / reg)                                            (1)

is maximised over g and over f in turn (Cuturi, "Sinkhorn distances", NeurIPS 2013; in this form Peyre and Cuturi,
Computational Optimal Transport, 2019, remark 4.22):

    g_j = reg log b_j + s_j,  s_j = softmin_i(C_ij - f_i)                                                (2)
    f_i = reg log a_i + t_i,  t_i = softmin_j(C_ij - g_j)                                                (3)

After (3) the rows of P sum to a, and column j to exp((g_j - s_j) / reg), with the s_j that the next (2) needs anyway:
to look at the error costs nothing. It falls by a constant factor an iteration, about 1 - exp(-range(C) / reg) at worst,
so that a small reg takes thousands.

Marginals that may be missed at a price (Chizat, Peyre, Schmitzer, Vialard, "Scaling algorithms for unbalanced optimal
transport problems", Math. Comp. 87, 2018), tau_a KL(P 1 | a) + tau_b KL(P' 1 | b), damp the steps:

    f_i = tau_a / (tau_a + reg) (reg log a_i + t_i),                                                     (4)

where the rows of P are to sum to a exp(-f / tau_a); likewise the columns.
"""

import numpy as np


def solve(k, C, a, b, reg, tol, watch, f=None, g=None, tau=(np.inf, np.inf), most=np.inf):
    """Iterate until the L1 error of the marginals is at most tol, the watch says stop, or `most` iterations are done.

    Parameters
    ----------
    k : kernels
    C : array (n, m) of the backend, C-contiguous
    a, b : arrays (n,), (m,) float64, positive
    watch : Monitor
        Its `iterate` is set to what gives the current f and g.
    f, g : arrays (n,), (m,) float64, optional
        Potentials to start from; f is enough.
    tau : (float, float)
        Price of missing a and of missing b; infinite where they are to be met.

    Returns
    -------
    f, g : arrays (n,), (m,) float64
    error : float
        As the iteration sees it.
    counts : dict
    """
    xp = k.xp
    C = C[None]
    t, s = xp.empty((1, a.size)), xp.empty((1, b.size))
    scale_a, scale_b = (1.0 if np.isinf(each) else each / (each + reg) for each in tau)
    log_a, log_b = reg * xp.log(a), reg * xp.log(b)
    passes = scalings = 0
    if f is None and g is not None:
        k.softmin_rows(C, g[None], reg, t)
        f, passes = scale_a * (log_a + t[0]), 1  # (3), (4)
    f, g = xp.zeros_like(a) if f is None else f, None
    watch.iterate = lambda: (f, xp.zeros_like(b) if g is None else g)
    error = np.inf
    while True:
        k.softmin_columns(C, f[None], reg, s)
        passes += 1
        if g is not None:
            with np.errstate(all="ignore"):
                columns = xp.exp((g - s[0]) / reg)
                wanted = b if np.isinf(tau[1]) else b * xp.exp(-g / tau[1])
                error = float(abs(columns - wanted).sum())
            watch.did([[error]], 1)
            if not error > tol or scalings >= most or not watch.going():  # NaN, too, is an end
                break
        elif not watch.going():
            g = scale_b * (log_b + s[0])
            break
        g = scale_b * (log_b + s[0])  # (2)
        k.softmin_rows(C, g[None], reg, t)
        f = scale_a * (log_a + t[0])  # (3), (4)
        passes, scalings = passes + 1, scalings + 1
    return f, g, error, {"passes": passes, "scalings": scalings}
