"""The maps of the fixed point bench: (name, T, x0), and for linear programs the metric in which T is nonexpansive."""


import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

from ._data import data

NETLIB = ("AFIRO", "SC105", "SCSD1")


def lasso(m, n, seed):
    """Proximal gradient steps."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n)) * np.geomspace(1, 0.1, n)
    b = A[:, :20] @ rng.standard_normal(20) + 0.01 * rng.standard_normal(m)
    L, weight = np.linalg.norm(A, 2) ** 2, 0.02 * abs(A.T @ b).max()

    def T(x):
        z = x - A.T @ (A @ x - b) / L
        return np.sign(z) * np.maximum(abs(z) - weight / L, 0)

    return f"lasso, {m} x {n}", T, np.zeros(n)


def random_walk(n):
    """The distribution of a walk with drift between two walls, after one more step."""
    P = sp.diags_array([0.45, 0.05, 0.5], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    P[0, 0] += 0.45
    P[-1, -1] += 0.5
    P = P.tocsr().T.tocsr()
    return f"Markov chain, {n} states", lambda p: P @ p, np.eye(n)[0]


def projections(seed):
    """Onto 40 half-spaces and a box, one after the other."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((40, 100))
    H /= np.linalg.norm(H, axis=1)[:, None]
    h = 0.9 * (H @ rng.random(100))

    def T(x):
        for row, bound in zip(H, h, strict=True):
            x = x - max(row @ x - bound, 0) * row
        return np.clip(x, 0, 1)

    return "projections onto 41 sets", T, 3 * rng.standard_normal(100)


def subspaces(seed):
    """Onto two subspaces that nearly meet."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((60, 30)))[0]
    V = np.linalg.qr(U + 0.2 * rng.standard_normal((60, 30)))[0]
    return "projections onto two subspaces", lambda x: V @ (V.T @ (U @ (U.T @ x))), rng.standard_normal(60)


def value_iteration(discount, seed):
    """Of a random decision process with 300 states and 4 actions."""
    rng = np.random.default_rng(seed)
    P, rewards = rng.random((4, 300, 300)) ** 8, rng.random((4, 300))
    P /= P.sum(-1, keepdims=True)
    return f"value iteration, discount {discount:g}", lambda v: (rewards + discount * P @ v).max(0), np.zeros(300)


def gridworld(side):
    """Value iteration on a board, a reward of -1 a move."""

    def T(v):
        w = np.pad(v.reshape(side, side), 1, mode="edge")
        new = -1 + 0.95 * np.max([w[:-2, 1:-1], w[2:, 1:-1], w[1:-1, :-2], w[1:-1, 2:]], axis=0)
        new[side // 2, side // 2] = 0
        return new.ravel()

    return f"value iteration on a board, {side} x {side}", T, np.zeros(side * side)


def pdhg(name):
    """(name, T, x0, metric): PDHG on a linear program of Netlib, scaled by ten rounds of Ruiz's method."""
    z = np.load(data("netlib") / f"{name}.npz")
    parts = [sp.csr_array(tuple(z[f"A_{kind}_{part}"] for part in ("data", "indices", "indptr")),
                          shape=tuple(z[f"A_{kind}_shape"])) for kind in ("ub", "eq")]  # fmt: skip
    A, b = sp.csr_array(sp.vstack(parts)), np.concatenate([z["b_ub"], z["b_eq"]])
    rows, columns = np.ones(A.shape[0]), np.ones(A.shape[1])
    for _ in range(10):
        B = abs(sp.diags_array(rows) @ A @ sp.diags_array(columns))
        for scale, axis in ((rows, 1), (columns, 0)):
            largest = B.max(axis=axis).toarray().ravel()
            scale /= np.sqrt(np.where(largest > 0, largest, 1))
    B = sp.csr_array(sp.diags_array(rows) @ A @ sp.diags_array(columns))
    size_c, size_b = 1 + np.linalg.norm(z["c"] * columns), 1 + np.linalg.norm(b * rows)
    c, b = z["c"] * columns / size_c, b * rows / size_b
    low, high = z["lower"] / columns / size_b, z["upper"] / columns / size_b
    step = 0.99 / scipy.sparse.linalg.svds(B, k=1, return_singular_vectors=False, rng=0)[0]
    n, inequalities, Bt = A.shape[1], z["b_ub"].size, sp.csr_array(B.T)

    def T(v):
        x, y = v[:n], v[n:]
        new = np.clip(x - step * (c - Bt @ y), low, high)
        y = y + step * (b - B @ (2 * new - x))
        y[:inequalities] = np.minimum(y[:inequalities], 0)
        return np.concatenate([new, y])

    def metric(v):
        x, y = v[:n], v[n:]
        return np.concatenate([x / step + Bt @ y, y / step + B @ x])

    return f"PDHG on {name}", T, np.zeros(sum(A.shape)), metric


def maps(quick):
    """Those on which the plain iteration contracts."""
    yield lasso(*((60, 150) if quick else (200, 600)), seed=0)
    yield random_walk(30 if quick else 100)
    yield projections(1)
    yield value_iteration(0.9, 3)
    if not quick:
        yield subspaces(2)
        yield lasso(300, 200, seed=4)
        yield value_iteration(0.99, 3)
    yield gridworld(15)


class LeastSquares:
    """F_i(x) = a_i (a_i'x - b_i), with an ill-conditioned matrix."""

    def __init__(self, n, d=50, decades=2, seed=0):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((n, d)) * np.logspace(0, -decades, d)
        self.A = A / np.sqrt((A**2).sum(1)).mean()
        self.b, self.n = self.A @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n), n
        self.L, self.start, self.prox = np.linalg.norm(self.A, 2) ** 2 / n, np.zeros(d), None

    def __call__(self, rows, x):
        A, b = (self.A, self.b) if rows is None else (self.A[rows], self.b[rows])
        return A.T @ (A @ x - b) / b.size


class Game:
    """The policeman and burglar of the paper: payoff w_i (1 - exp(-0.8 |i - j|)), on simplices; a row a component."""

    def __init__(self, n=500, seed=1):
        at = np.arange(n)
        wealth = abs(np.random.default_rng(seed).standard_normal(n))
        self.A = wealth * (1 - np.exp(-0.8 * abs(at[:, None] - at)))
        self.At, self.n, self.start = np.ascontiguousarray(self.A.T), n, np.full(2 * n, 1 / n)
        self.L, self.published_step = np.linalg.norm(self.A, 2), 5 / np.linalg.norm(self.A)

    def prox(self, z, step):
        return np.concatenate([_simplex(z[: self.n]), _simplex(z[self.n :])])

    def __call__(self, rows, z):
        n = self.n
        if rows is None:
            return np.concatenate([self.At @ z[n:], -self.A @ z[:n]])
        share = n / rows.size
        return share * np.concatenate([self.A[rows].T @ z[n:][rows], -self.At[rows].T @ z[:n][rows]])


class Quadratic:
    """The quadratic program of Ouyang and Xu that the paper uses, a column of its matrices a component."""

    prox, published_step = None, 0.3

    def __init__(self, n=200):
        A = (np.eye(n)[::-1] - np.eye(n, k=1)[:, ::-1]) / 4
        self.A, self.H, self.n = A, 2 * A.T @ A, n
        self.b, self.h = np.full(n, 0.25), np.r_[np.zeros(n - 1), 0.25]
        self.M = np.block([[self.H, -A.T], [A, np.zeros((n, n))]])
        self.L, self.start = np.linalg.norm(self.M, 2), np.full(2 * n, 1 / n)

    def __call__(self, columns, z):
        n = self.n
        if columns is None:
            return self.M @ z - np.concatenate([self.h, self.b])
        share, x, y = n / columns.size, z[:n][columns], z[n:][columns]
        first = self.H[:, columns] @ x - self.A[columns].T @ y
        return np.concatenate([share * first - self.h, share * (self.A[:, columns] @ x) - self.b])


def _simplex(y):
    ordered = np.sort(y)[::-1]
    shifts = (np.cumsum(ordered) - 1) / np.arange(1, y.size + 1)
    return np.maximum(y - shifts[ordered > shifts][-1], 0)
