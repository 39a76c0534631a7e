"""The randomised Nystrom approximation of a Hessian, and the preconditioner made of it.

Z. Frangella, J. A. Tropp, M. Udell, "Randomized Nystrom Preconditioning", SIAM J. Matrix Anal. Appl. 44 (2023). For H
positive semidefinite of order n, an orthonormal random Omega (n, l) and a small shift nu, algorithm 2.1 is

    Y = H Omega,  Y_nu = Y + nu Omega                                                                    (1)
    B = Y_nu C^-1  with  C'C = Omega' Y_nu                                                               (2)
    B = U Sigma V',  Lambda = max(0, Sigma^2 - nu I),  H ~ U Lambda U'                                   (3)

and the preconditioner of H + mu I is (their equation 1.3, with theta = lambda_l + mu, lambda_l the last of Lambda)

    P^-1 = theta U (Lambda + mu I)^-1 U' + (I - U U').                                                   (4)

It brings the eigenvalues that were found to theta, or above it, as (3) underestimates them; those not found lie between
mu and lambda_l + mu. So theta is a quarter of the latter here, but not below mu: on the spectra of networks that takes
a few per cent off the iterations.

In (2) any C does. It is taken from the eigenvalues w and eigenvectors Q of Omega' Y, as diag(w + nu)^(1/2) Q': the w
are Ritz values, so that one below -mu proves that H + mu I is not positive definite. Vectors are the rows of arrays
here, and what is as small as (l, l) is computed on the host. Everything is in float64 whatever the dtype of H: an entry
of (4) spans as many digits as the condition number of P has. Where each of `ranks` has a part of every vector, what is
(l, l) is summed over them.
"""

import numpy as np

from .. import operators
from ..monitor import Monitor
from ..reductions import SERIAL
from ..result import Status

COLUMNS = 2**16  # of the tall matrices that are worked on at a time
EPS = np.finfo(float).eps


class Preconditioner(operators.Operator):
    """Equation (4), on vectors (batch, n)."""

    capturable = False

    def __init__(self, k, U, eigenvalues, damp, dtype, ranks=SERIAL):
        super().__init__(k, U.shape[1], dtype)
        self.U, self.eigenvalues, self.ranks = U, eigenvalues, ranks
        theta = max(damp, (eigenvalues[-1] + damp) / 4)
        self._less = k.xp.asarray(1 - theta / (eigenvalues + damp))

    def matvec(self, x, y):
        xp = self.k.xp
        with np.errstate(all="ignore"):  # seen by the iteration
            share = xp.matmul(x.astype("float64"), self.U.T)
            self.ranks.add(share)
            share *= self._less
            y[...] = x - xp.matmul(share, self.U)


class Sketch:
    """(1) - (3) for the H of a damped operator, product by product: `status` is None, or why there is no approximation.

    Attributes
    ----------
    U : (l, n), rows orthonormal
    eigenvalues : (l,), falling
    lowest : float
        The smallest Ritz value that was seen.
    """

    def __init__(self, k, A, rank, rng, options, ranks=SERIAL):
        self.k, self.damp, self.dtype, self.status, self.lowest = k, A.damp, A.dtype, None, None
        self.ranks, random = ranks, rng
        rank = min(rank, int(ranks.gather(np.array([A.n])).sum()))
        if ranks is not SERIAL:  # of one seed on all, but not the same numbers
            random = np.random.default_rng([random.integers(2**62), ranks.rank])
        omega = k.xp.asarray(random.standard_normal((rank, A.n)))
        omega = orthonormal(k, omega, ranks).astype(A.dtype)  # as the products will see it
        Y = self._products(A, omega, options)
        if self.status is None:
            with np.errstate(all="ignore"):  # what matters of it is seen in the sizes
                self._approximate(omega, Y, np.finfo(A.dtype).eps)

    def _products(self, A, omega, options):
        """(1), without the shift."""
        Y = self.k.xp.empty(omega.shape)
        row = self.k.xp.empty((1, A.n), A.dtype)
        idle = {"start": np.zeros(1), "began": options.began, "time_limit": options.time_limit}
        with Monitor("ihvp, sketch", maxiter=len(omega) + 1, comm=self.ranks, **idle) as watch:
            for i in range(len(omega)):
                if not watch.going():
                    self.status = watch.status
                    break
                A.undamped(omega[i : i + 1], row)
                Y[i : i + 1] = row
                watch.did(np.zeros((1, 1)), 1)
        return Y

    def _approximate(self, omega, Y, eps):
        """(1) - (3), everything divided by a power of two near the size of Y."""
        k, xp = self.k, self.k.xp
        sizes = self.ranks.norm(k.to_host(operators.norms(k, Y)))
        if not np.isfinite(sizes).all():
            self.status = Status.NAN_OR_INF
            return
        exponent = int(np.frexp(sizes.max())[1])
        Y = xp.ldexp(Y, -exponent)
        rounding = eps * np.linalg.norm(np.ldexp(sizes, -exponent))
        core = products(k, omega.astype("float64"), Y, self.ranks)
        w, Q = np.linalg.eigh((core + core.T) / 2)
        self.lowest = float(np.ldexp(w[0], exponent))
        if w[0] + np.ldexp(self.damp, -exponent) < -10 * rounding:
            self.status = Status.INDEFINITE_OPERATOR
            return
        # nu keeps w + nu away from zero, also where rounding, or an H that is a little indefinite, makes w negative
        nu = max(rounding, -2 * w[0], np.finfo(float).tiny)
        Y += nu * omega
        B = transformed(k, Q.T / np.sqrt(w + nu)[:, None], Y)  # (2)
        squares, V = np.linalg.eigh(products(k, B, B, self.ranks))  # (3)
        squares, V = squares[::-1], V[:, ::-1]
        eigenvalues = np.maximum(0, squares - nu)
        # an eigenvector beside which rounding is not small is none
        eigenvalues = eigenvalues[eigenvalues > 1e3 * EPS * squares[0]]
        keep = len(eigenvalues)
        if keep:
            B = transformed(k, V[:, :keep].T / np.sqrt(squares[:keep, None]), B)
            self.U, self.eigenvalues = orthonormal(k, B, self.ranks), np.ldexp(eigenvalues, exponent)
        else:
            self.U, self.eigenvalues = B[:0], eigenvalues

    def preconditioner(self):
        """The operator (4); None, the identity, where H has no eigenvalue that stands out from rounding."""
        if not len(self.eigenvalues):
            return None
        return Preconditioner(self.k, self.U, self.eigenvalues, self.damp, self.dtype, self.ranks)


def products(k, X, Y, ranks):
    """X Y', over the parts that all ranks have, on the host."""
    found = k.to_host(k.xp.matmul(X, Y.T))
    ranks.add(found)
    return found


def orthonormal(k, X, ranks=SERIAL):
    """Rows that span what the rows of X span, by Cholesky: X is L^-1 X, L L' = X X', until it is orthonormal."""
    for _ in range(4):
        gram = products(k, X, X, ranks)
        if abs(gram - np.eye(len(gram))).max(initial=0) < 100 * EPS:
            break
        X = transformed(k, np.linalg.inv(np.linalg.cholesky(gram)), X)
    return X


def transformed(k, T, X):
    """T X for a small host matrix T (r, l), r <= l; X (l, n) is overwritten."""
    T = k.xp.asarray(np.ascontiguousarray(T))
    for first in range(0, X.shape[1], COLUMNS):
        part = slice(first, first + COLUMNS)
        X[: len(T), part] = k.xp.matmul(T, X[:, part])
    return X[: len(T)]
