"""Newton systems of equality-constrained optimization, and what solves them.

With H the Hessian of the Lagrangian, J the Jacobian of the constraints, tau and delta >= 0,

    K d = b,    K = [[H + tau I, J'], [J, -delta I]].                                                     (1)

d is a descent direction for the merit functions where H + tau I is positive definite on the null space of J, that is
(delta = 0, J of full rank) where K has n positive and m negative eigenvalues. An `Inner` chooses tau so, from the
sequence of trials of Waechter and Biegler, Math. Program. 106 (2006), section 3.1, and solves (1) to the accuracy that
it is asked for. `INNER` names them; `choose` picks one.
"""

import importlib
from typing import Any

import numpy as np

from .hessians import is_operator, is_sparse
from .leastsquares import least_squares

INNER = {
    "ldl": "kkt.LDL",
    "splu": "sparsekkt.SuperLU",
    "minres": "sparsekkt.Minres",
    "kaczmarz": "paper.Kaczmarz",
    "gaussian": "paper.Gaussian",
    "nullspace": "sketch.NullSpace",
    "reduced": "reduced.Reduced",
}
DIRECT_LIMIT = 500  # order of K up to which it is factorised as a dense matrix
SKETCHED_FROM = 1000  # variables from which sketching a dense factored Hessian pays
FEW_PRODUCTS = 200  # variables up to which a Hessian that is an operator is formed, by a product for each
FIRST_SHIFT, LEAST_SHIFT, LARGEST_SHIFT = 1e-4, 1e-20, 1e20  # tau: where none was needed before, and at all
FIRST_GROWTH, GROWTH = 100.0, 8.0  # of tau from trial to trial: where none was needed before, and else
DUAL_SHIFT = 1e-8
ZERO_PIVOT = 1e-13  # of a matrix whose largest entries are 1


def shifts(floor, last):
    """The values of tau to try, from `floor` up; `last` is the one that the iteration needed before, or 0."""
    tau = floor
    while tau <= LARGEST_SHIFT:
        yield tau
        tau = max(GROWTH * tau, last / 3, LEAST_SHIFT) if last > 0 else max(FIRST_GROWTH * tau, FIRST_SHIFT)


class Inner:
    """A solver of (1); one object a call of `minimize`. Subclasses have `prepare` and `solve`.

    Parameters
    ----------
    n, m : int
    rng : numpy.random.Generator
    precond : optional
        What the user passed as `precond=`.
    state_solve : optional
        And as `state_solve=`.
    going : callable, optional
        False where the time is up; a long solve then ends with what it has.

    Attributes
    ----------
    shift, dual_shift : float
        tau and delta of the K in force.
    products, factorizations, iterations : int
        Products with H, factorisations, iterations of an iterative solver, in all.
    exact, inertia_known : bool
        Solves to rounding whatever accuracy is asked for; `prepare` has made sure of the signs of K's eigenvalues.
    """

    kept = ("rng", "shift", "dual_shift", "products", "factorizations", "iterations")
    exact = False
    inertia_known = False  # whether `prepare` has made sure of the signs of K's eigenvalues

    def __init__(self, n, m, *, rng=None, precond=None, state_solve=None, going=None):
        self.n, self.m, self.rng = n, m, rng
        self.precond, self.state_solve = precond, state_solve
        self.going = going or (lambda: True)
        self.shift = self.dual_shift = 0.0
        self.products = self.factorizations = self.iterations = 0
        self.H: Any = None
        self.J: Any = None
        self._normal: Any = None

    def visit(self, point):
        """What follows, up to the next visit, is asked at this Point."""

    def prepare(self, H, J, floor, last):
        """Take over H and J, and find shift >= floor; False where none is found."""
        raise NotImplementedError

    def solve(self, b, accuracy):
        """(d, ||K d - b|| / ||b||), aiming at `accuracy`. It may raise the shift, and then solves with the new K."""
        raise NotImplementedError

    def apply(self, d):
        """K d"""
        self.products += 1
        x, lam = d[: self.n], d[self.n :]
        top = self.H.matvec(x) + self.shift * x + self.J.T @ lam
        return np.concatenate([top, self.J @ x - self.dual_shift * lam])

    def normal(self, J):
        """Least squares with J, factorised once for each J."""
        if self._normal is None or self._normal.J is not J:
            self._normal = least_squares(J)
        return self._normal

    def multipliers(self, g, J):
        """argmin |g + J' lam|"""
        return self.normal(J).multipliers(g) if self.m else np.zeros(0)

    def rank(self, J):
        """Of J, or None where that is not known without more work."""
        return self.normal(J).rank

    def normal_step(self, J, c, damping):
        """argmin |J s + c|^2 + damping |s|^2"""
        return self.normal(J).step(c, damping)

    def curvature(self, H, J):
        """(u'Hu, u) for a unit u with J u = 0 of the least curvature that Lanczos finds from a random start."""
        self.products += LANCZOS_STEPS
        project = self.normal(J).project if self.m else (lambda v: v)
        return least_eigenpair(lambda v: project(H.matvec(v)), project(self.rng.standard_normal(self.n)))


class LDL(Inner):
    """K as a dense matrix, by LAPACK's Bunch-Kaufman factorisation L D L', whose D shows the signs of its eigenvalues.

    Factorised is [[(H + tau I) / s, J'/r], [J/r, -delta s / r^2]], with s and r the largest entries of H + tau I and of
    the rows of J: what counts as a zero pivot then depends on the scale of neither. delta is 0 where no pivot is zero.
    """

    exact = inertia_known = True

    def prepare(self, H, J, floor, last):
        n, m = self.n, self.m
        self.H, self.J = H, J
        B, J = H.dense(), _dense_jacobian(J)
        if not (np.isfinite(B).all() and np.isfinite(J).all()):
            return False
        self._B, self._dense_J = B, J
        rows = np.abs(J).max(axis=1, initial=0.0)
        self._r = np.where(rows > 0, rows, 1.0)
        K = np.zeros((n + m, n + m), order="F")
        K[n:, :n] = J / self._r[:, None]  # the lower triangle is enough
        diagonal, off = np.diag(B).copy(), float(np.abs(B - np.diag(np.diag(B))).max(initial=0.0))
        for tau in shifts(floor, last):
            self.shift, self.dual_shift = tau, 0.0
            s = max(float(np.abs(diagonal + tau).max(initial=0.0)), off)
            self._s = s = s if s > 0 else 1.0
            while True:
                K[:n, :n] = B / s
                index = np.arange(n + m)
                K[index[:n], index[:n]] = (diagonal + tau) / s
                K[index[n:], index[n:]] = -self.dual_shift * s / self._r**2
                positive, negative, zero = self._factor(K)
                if (positive, negative) == (n, m):
                    return True
                if not (zero and self.dual_shift == 0.0 and m):
                    break
                self.dual_shift = DUAL_SHIFT * min(1.0, rows.max() ** 2) / max(1.0, s)
                if not self.dual_shift:
                    self.dual_shift = DUAL_SHIFT
        return False

    def _factor(self, K):
        """Factorise; how many eigenvalues of D are positive, negative, zero."""
        from scipy.linalg.lapack import dsytrf

        self.factorizations += 1
        self._factors, self._pivots, _ = dsytrf(K, lower=1, lwork=64 * len(K))  # less is unblocked
        values = np.diag(self._factors).copy()
        pairs = np.flatnonzero(self._pivots < 0)[::2]  # a 2 x 2 block is marked in both its rows
        if pairs.size:
            off = self._factors[pairs + 1, pairs]
            middle = 0.5 * (values[pairs] + values[pairs + 1])
            radius = np.hypot(0.5 * (values[pairs] - values[pairs + 1]), off)
            values[pairs], values[pairs + 1] = middle + radius, middle - radius
        positive, negative = int((values > ZERO_PIVOT).sum()), int((values < -ZERO_PIVOT).sum())
        return positive, negative, values.size - positive - negative

    def _raw(self, b):
        from scipy.linalg.lapack import dsytrs

        n, scaled = self.n, np.concatenate([b[: self.n] / self._s, b[self.n :] / self._r])
        d = dsytrs(self._factors, self._pivots, scaled[:, None], lower=1)[0][:, 0]
        d[n:] *= self._s / self._r
        return d

    def solve(self, b, accuracy):
        return refined(self._raw, self.apply, b, rounds=2)

    def apply(self, d):
        n, B, J = self.n, self._B, self._dense_J
        return np.concatenate([B @ d[:n] + self.shift * d[:n] + d[n:] @ J, J @ d[:n] - self.dual_shift * d[n:]])

    def curvature(self, H, J):
        """The least eigenvalue of Z'HZ, exactly, with Z a basis of the null space of J."""
        import scipy.linalg as la

        if not self.m:
            Z = np.eye(self.n)
        else:
            Q, R, _ = la.qr(_dense_jacobian(J).T, pivoting=True, check_finite=False)
            pivots = np.abs(np.diag(R))
            Z = Q[:, int((pivots > 1e-10 * max(pivots.max(initial=0.0), 1e-300)).sum()) :]
        if not Z.shape[1]:
            return np.inf, np.zeros(self.n)
        values, vectors = la.eigh(Z.T @ H.dense() @ Z, subset_by_index=[0, 0], check_finite=False)
        return float(values[0]), Z @ vectors[:, 0]


def refined(solve, product, b, rounds, target=1e-12):
    """(d, ||b - K d|| / ||b||) by `solve` and at most so many rounds of iterative refinement."""
    size = np.linalg.norm(b)
    if size == 0:
        return np.zeros_like(b), 0.0
    with np.errstate(all="ignore"):
        d = solve(b)
        r = b - product(d)
        left = np.linalg.norm(r) / size
        for _ in range(rounds):
            if not left > target:
                break
            better = d + solve(r)
            r_better = b - product(better)
            left_better = np.linalg.norm(r_better) / size
            if not left_better < left:
                break
            d, r, left = better, r_better, left_better
    return d, float(left)


LANCZOS_STEPS = 60
SURE = 3  # of them, before a positive value is believed


def least_eigenpair(product, start):
    """The least Ritz pair of a symmetric operator on the space that `start` lies in, by Lanczos' method.

    Its value bounds the least eigenvalue from above, so a negative one is a proof.
    """
    import scipy.linalg as la

    size = np.linalg.norm(start)
    if not size > 0:
        return np.inf, np.zeros_like(start)
    basis, diagonal, below = [start / size], [], []
    for j in range(min(LANCZOS_STEPS, start.size)):
        w = product(basis[j])
        diagonal.append(basis[j] @ w)
        for _ in range(2):
            for q in basis:
                w = w - (q @ w) * q
        left = np.linalg.norm(w)
        if not left > 1e-10 * max(map(abs, diagonal)) or not np.isfinite(left):
            break
        below.append(left)
        basis.append(w / left)
        if len(diagonal) >= SURE:  # of one that is positive, once it is known to a tenth
            value, s = la.eigh_tridiagonal(diagonal, below[:-1], select="i", select_range=(0, 0))
            if value[0] > 0 and left * abs(s[-1, 0]) < 0.1 * value[0]:
                break
    count = len(diagonal)
    values, vectors = la.eigh_tridiagonal(diagonal, below[: count - 1], select="i", select_range=(0, 0))
    u = np.stack(basis[:count], axis=1) @ vectors[:, 0]
    return float(values[0]), u / np.linalg.norm(u)


def _dense_jacobian(J):
    if is_sparse(J):
        return J.toarray()
    if is_operator(J):
        m, n = J.shape
        if m <= n:
            return np.stack([J.rmatvec(unit) for unit in np.eye(m)]) if m else np.zeros((0, n))
        return np.stack([J.matvec(unit) for unit in np.eye(n)], axis=1)
    return J


def make(name, problem, **options):
    """The inner solver of that name."""
    home, _, kind = INNER[name].partition(".")
    return getattr(importlib.import_module(f".{home}", __package__), kind)(problem.n, problem.m, **options)


def choose(problem, start, lam, *, state_solve=None):
    """The name of the inner solver that "auto" stands for.

    A state solve is used where there is one. Else K is factorised: as a dense matrix up to order 500 or where H or J is
    dense, as a sparse one where both are sparse, or J is an array with no more entries than H. A Hessian that is known
    by products is formed where there are at most 200 variables; beyond that K is left to an iterative solver. A
    `FactoredHessian` of order 1000 or more is sketched where X is dense and has more than 16 n rows: there, to form it
    would take longest.
    """
    if state_solve is not None:
        return "reduced"
    H = start.hessian(lam)
    kind = H.kind
    n, m = problem.n, problem.m
    if is_operator(start.J) or kind == "operator":
        return "ldl" if n + m <= FEW_PRODUCTS else "minres"
    if n + m <= DIRECT_LIMIT:
        return "ldl"
    if kind == "sparse" and (not m or is_sparse(start.J) or np.count_nonzero(start.J) <= H.sparse().nnz):
        return "splu"
    if kind == "factored":
        X = H.factored[1].X
        return "nullspace" if not is_sparse(X) and n >= SKETCHED_FROM and X.shape[0] > 16 * n else "ldl"
    return "ldl"
