"""What the first iterations of conjugate gradients say of those to come.

With alpha_i = (r_i, z_i) / (p_i, A p_i) and beta_i = (r_i, z_i) / (r_i-1, z_i-1), i = 0, 1, ..., the eigenvalues of the
tridiagonal matrix

    t_ii = 1 / alpha_i + beta_i / alpha_i-1,   t_i,i-1 = sqrt(beta_i) / alpha_i-1                        (1)

are the Ritz values of M A (Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., section 6.7.3): the largest and
the smallest are soon near those of M A, from inside. The energy of the error is lowered by a factor eps^2 in

    l + 1/2 sqrt(theta_max / theta_l+1) (ln(2 / eps) + sum over i <= l of ln(theta_max / theta_i))       (2)

iterations at most, for any number l of smallest eigenvalues that are taken care of first (Axelsson and Lindskog, On the
rate of convergence of the preconditioned conjugate gradient method, Numer. Math. 48 (1986)).
"""

import numpy as np


def ritz_values(rz, alphas):
    """(batch, k), rising, from (r, z) and alpha of the first k iterations, (k, batch); NaN where they are none."""
    with np.errstate(all="ignore"):
        beta = rz[1:] / rz[:-1]
        diagonal, beside = 1 / alphas, np.sqrt(beta) / alphas[:-1]
        diagonal[1:] += beta / alphas[:-1]
    good = np.all([np.isfinite(v).all(axis=0) for v in (alphas, diagonal, beside)], axis=0)
    T = np.zeros((rz.shape[1], len(rz), len(rz)))
    i = np.arange(len(rz))
    T[:, i, i] = diagonal.T
    T[:, i[1:], i[:-1]] = beside.T  # eigvalsh reads no more
    T[~good] = 0
    return np.where(good[:, None], np.linalg.eigvalsh(T), np.nan)


def most_iterations(values, digits):
    """(2) with Ritz values for eigenvalues, the least over l <= 1; `digits` is ln(2 / eps), (batch,)."""
    with np.errstate(all="ignore"):
        ratios = values[:, -1:] / values[:, :2]
        bound = 0.5 * np.sqrt(ratios) * digits[:, None]
        bound[:, 1:] = 1 + 0.5 * np.sqrt(ratios[:, 1:]) * (digits[:, None] + np.log(ratios[:, :1]))
    return np.where(np.isfinite(bound), bound, np.inf).min(axis=1)
