"""Systems and preconditioners for the watchdog: useful, mediocre, useless and hostile ones, drawn at random."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

from .problems import laplacian, poisson, spd


def _scaled(A, rng, decades):
    s = sp.diags_array(10 ** rng.uniform(-decades / 2, decades / 2, A.shape[0]))
    return (s @ A @ s).tocsr()


def _graph(rng, n=400):
    """The Laplacian of a random graph, plus a little of the identity."""
    i, j, w = rng.integers(0, n, 4 * n), rng.integers(0, n, 4 * n), 10 ** rng.uniform(-1, 1, 4 * n)
    G = sp.coo_array((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    G.setdiag(0)
    return (sp.diags_array(G.sum(axis=1) + 1e-3) - G).tocsr()


SYSTEMS = {
    "poisson": lambda rng: poisson(24),
    "badly scaled poisson": lambda rng: _scaled(poisson(20), rng, 3),
    "shifted chain": lambda rng: laplacian(400, shift=1e-3),
    "graph": _graph,
    "dense": lambda rng: sp.csr_array(spd(150, 150, condition=3e3, seed=int(rng.integers(1 << 30)))),
    "anisotropic": lambda rng: (sp.kron(laplacian(20), sp.eye_array(20)) + 0.02 * sp.kron(sp.eye_array(20),
                                laplacian(20))).tocsr(),
}  # fmt: skip


def _factor(A):
    return scipy.sparse.linalg.splu(A.tocsc()).solve


def _coarse(A, rng):
    """A coarse space and next to nothing of the rest."""
    n = A.shape[0]
    P = sp.csr_array((np.ones(n), (np.arange(n), np.arange(n) // 10)))
    inner = _factor(P.T @ A @ P)
    return lambda r: P @ inner(P.T @ r) + 1e-6 * r / A.diagonal()


def _turns(good, bad, at):
    """`good` at first, `bad` from call number `at` on."""
    calls = []

    def apply(r):
        calls.append(1)
        return good(r) if len(calls) < at else bad(r)

    return apply


def _dense_spd(A, rng):
    n = A.shape[0]
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * 10 ** rng.uniform(-2, 2, n)) @ Q.T


def _perturbed(A, rng):
    B = A + sp.diags_array(A.diagonal() * 10 ** rng.uniform(-4, 0, A.shape[0]))
    return _factor(B)


PRECONDITIONERS = {
    "wrong sign": lambda A, rng: lambda r: -r / A.diagonal(),
    "zero": lambda A, rng: lambda r: 0 * r,
    "nan": lambda A, rng: lambda r: r * np.nan,
    "nan later": lambda A, rng: _turns(_factor(A + 0.1 * sp.diags_array(A.diagonal())), lambda r: r * np.nan, 3),
    "indefinite later": lambda A, rng: _turns(lambda r: r / A.diagonal(), lambda r: -r, int(rng.integers(2, 12))),
    "zero later": lambda A, rng: _turns(lambda r: r / A.diagonal(), lambda r: 0 * r, int(rng.integers(2, 12))),
    "random later": lambda A, rng: _turns(lambda r: r / A.diagonal(), lambda r: rng.standard_normal(r.size),
                                          int(rng.integers(2, 12))),
    "random vector": lambda A, rng: lambda r: rng.standard_normal(r.size),
    "random vector of its sign": lambda A, rng: lambda r: (v := rng.standard_normal(r.size)) * np.sign(v @ r),
    "one fixed vector": lambda A, rng: (lambda v: lambda r: v * (v @ r))(rng.standard_normal(A.shape[0])),
    "indefinite diagonal": lambda A, rng: sp.diags_array(rng.uniform(-0.3, 1.7, A.shape[0])),
    "rarely negative diagonal": lambda A, rng: sp.diags_array((1 - 3 * (rng.random(A.shape[0]) < 0.02)) / A.diagonal()),
    "random diagonal": lambda A, rng: sp.diags_array(rng.uniform(0.02, 2, A.shape[0]) / A.diagonal()),
    "wild diagonal": lambda A, rng: sp.diags_array(10 ** rng.uniform(-2, 2, A.shape[0]) / A.diagonal()),
    "mild diagonal": lambda A, rng: sp.diags_array(rng.uniform(0.7, 1.3, A.shape[0]) / A.diagonal()),
    "changing diagonal": lambda A, rng: lambda r: r * rng.uniform(0.2, 1.8, r.size),
    "identity": lambda A, rng: lambda r: r,
    "Jacobi": lambda A, rng: lambda r: r / A.diagonal(),
    "random spectrum": _dense_spd,
    "A itself": lambda A, rng: lambda r: A @ r,
    "not symmetric": lambda A, rng: np.diag(1 / A.diagonal()) + 0.3 * np.diag(1 / A.diagonal()[1:], k=1),
    "tiny": lambda A, rng: lambda r: r / A.diagonal() * 1e-170,
    "huge": lambda A, rng: lambda r: r / A.diagonal() * 1e170,
    "any size": lambda A, rng: lambda r: r / A.diagonal() * 10.0 ** rng.integers(-140, 140),
    "signs": lambda A, rng: lambda r: np.sign(r),
    "cubes": lambda A, rng: lambda r: r**3,
    "largest entries": lambda A, rng: lambda r: np.where(abs(r) > 0.5 * abs(r).max(), r, 0),
    "half of the entries": lambda A, rng: (lambda keep: lambda r: keep * r)(rng.random(A.shape[0]) < 0.5),
    "coarse space": _coarse,
    "the inverse": lambda A, rng: _factor(A),
    "nearly the inverse": _perturbed,
    "the inverse, then random": lambda A, rng: _turns(_perturbed(A, rng), lambda r: rng.standard_normal(r.size), 4),
    "forward substitution": lambda A, rng: (lambda L: lambda r: sp.linalg.spsolve_triangular(L, r))(sp.tril(A).tocsr()),
    "rounded": lambda A, rng: lambda r: np.round(r / A.diagonal() / abs(r).max(), 1),
}  # fmt: skip


def draw(seed):
    """(name, A, b, M) of one case."""
    rng = np.random.default_rng(seed)
    system, kind = (list(names)[rng.integers(len(names))] for names in (SYSTEMS, PRECONDITIONERS))
    A = SYSTEMS[system](rng)
    return f"{kind}, {system}", A, rng.standard_normal(A.shape[0]), PRECONDITIONERS[kind](A, rng)
