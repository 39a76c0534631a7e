"""The deep conjugate direction method: directions from a neural network, step lengths from conjugate gradients.

Kaneda, Akar, Chen, Kala, Hyde, Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML
2023 (arXiv 2205.10763), algorithm 1. With a network f that was trained to approximate A^-1 up to a factor,

    q = f(r / ||r||)                                                                                      (1)
    p = q - sum over the last two directions p_i of p_i (q, A p_i) / (p_i, A p_i)                         (2)
    alpha = (p, r) / (p, A p),  x += alpha p,  r -= alpha A p                                             (3)

(3) is the exact line search in the norm of A, so no direction does harm. Two earlier directions are all that conjugate
gradients need. f being neither linear nor symmetric, (2) is a truncation here, and more of them are kept where the
residual falls slowly, unless one asks for two. Where a direction is useless, with (p, A p) not positive or not a
number, or gains less than a step along r is known to, it is r that goes through (2) and (3).

The network is described in dcd_network.py and trained in dcd_training.py. Around it, mean errors of large blocks of the
grid are solved for exactly, by dcd_blocks.py.
"""

from collections import deque
from typing import Any

import numpy as np

from .. import operators, validate
from ..dispatch import kernels_for
from ..kernels.contracts import workspace_shape
from ..monitor import Monitor
from ..outcome import linear_result, report
from ..reductions import SERIAL
from ..result import LinearResult, Status
from .dcd_blocks import Blocks
from .dcd_network import Network, take
from .grid import GridOperator
from .linear_operator import linear_operator

PUBLISHED, MOST = 2, 20  # earlier directions that a new one is made orthogonal to
PATIENCE = 3  # iterations that should halve the residual


class DeepConjugateDirection:
    """Approximate inverse of a Poisson operator on a grid by a neural network; a nonlinear preconditioner.

    An application costs about 20,000 operations an unknown, where a multigrid cycle takes some fifty: this is the
    method of a paper, to be studied and compared with. To solve such systems quickly, take `LearnedMultigrid`.

    Parameters
    ----------
    A : GridOperator, sparse matrix, or array of bool
        An operator made by `GridOperator.poisson` (equal spacings), one or a batch; the matrix of one; or its `mask`,
        with cells of value 0 around.
    weights : "auto", path, or mapping of arrays
        The parameters of the network: those that are shipped, for 2 or 3 axes; a file as
        ``python -m bench._train_dcd`` writes it; or its arrays.
    blocks : bool
        Whether one solves exactly, around an application of the network, for errors that are constant on large blocks
        of the grid, of which there are at most 64. Without, walls with little air are beyond the network.

    Attributes
    ----------
    A : GridOperator
    shape : tuple
        That of A.
    dtype : numpy.dtype
        float32, in which the network computes; vectors may have any precision.
    parameters : int
        Numbers that the network consists of.
    flops : float
        Floating-point operations of an application, for each cell of a large grid.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit: an A with coefficients or periodic axes, which the network has not
        learned; weights that are no network for as many axes.

    Notes
    -----
    Passed as ``M=`` to `cg` it runs under flexible conjugate gradients, which remember one direction; `solve` is the
    iteration of the paper, which remembers two. The method is that of A. Kaneda, O. Akar, J. Chen, V. Kala, D. Hyde,
    J. Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023. Unlike theirs, the
    network is told the domain, as that of K. W. Lan, E. Gueidon, A. Kaneda, J. Panetta, J. Teran, "A
    Neural-Preconditioned Poisson Solver for Mixed Dirichlet and Neumann Boundary Conditions", ICML 2024, and has as
    many levels as the grid can be halved. The blocks are no part of either: with r the residual, f the network and Q r
    what is constant on blocks and leaves r no sum over any of them, it is Q r + (1 - Q A) f((1 - A Q) r) that is
    applied. ``blocks=False`` is f alone.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> mask = np.ones((32, 32), dtype=bool)
    >>> mask[10:16, 12:20] = False
    >>> A = ntsolve.GridOperator.poisson(mask)
    >>> M = ntsolve.DeepConjugateDirection(A)
    >>> b = np.ones(A.shape[0])
    >>> result = M.solve(b, rtol=1e-6)
    >>> result.success, result.nit < 0.4 * ntsolve.cg(A, b, rtol=1e-6).nit
    (True, True)
    >>> ntsolve.cg(A, b, M=M, rtol=1e-6).success
    True
    """

    works_on_grid_rows = True

    def __init__(self, A, *, weights="auto", blocks=True) -> None:
        if not isinstance(A, GridOperator):
            A = GridOperator.from_csr(A) if hasattr(A, "tocsr") else GridOperator.poisson(A)
        if A.comm is not SERIAL:
            raise ValueError("A is a GridOperator of several processes, which ntsolve.cg solves with")
        if A.kind != "mask":
            raise ValueError("A must be a Laplacian with equal spacings: the network knows no coefficients")
        if any(A.periodic):
            raise ValueError("A must not have periodic axes, which the network does not know")
        parameters, blocks = take(weights, A.ndim), validate.flag("blocks", blocks)
        self.A = self.grid = A
        self.shape, self.dtype = A.shape, np.dtype("float32")
        self._weights = parameters
        self.parameters = sum(value.size for value in parameters.values())
        with kernels_for(mask=A.mask) as k:
            network, faces = Network(k, parameters), np.float32(2 * A.ndim)
            dims = (-1, *(1,) * (3 - A.ndim), *A.grid_shape)
            share = A.mask.astype("float32").reshape(dims)
            walls = share - A.open_faces.reshape(dims) / faces
            zeros = (A.sink.reshape(dims) / A.scale / faces).astype("float32")
            fields = (k.xp.ascontiguousarray(field.astype("float32")) for field in (share, walls, zeros))
            self._domains = [network.on(*of_one) for of_one in zip(*fields, strict=True)]
            self._idle = [deque([domain]) for domain in self._domains]  # those whose memory no thread is using
            self.flops = 2.0 * network.work()
            self._blocks = Blocks(k, A) if blocks else None

    def __getstate__(self):
        """What it was made of."""
        return {"A": self.A, "weights": self._weights, "blocks": self._blocks is not None}

    def __setstate__(self, state):
        DeepConjugateDirection.__init__(self, **state)

    def matvec_rows(self, k, r, z):
        """z = f(r), blocks included, for rows of cells (batch, cells); zero in cells that are no unknowns."""
        size = k.xp.empty(len(r))
        k.norm(r, size, k.xp.empty(workspace_shape(*r.shape)))
        size = k.to_host(size)
        rows, cells = k.xp.zeros(r.shape, dtype="float32"), np.sqrt(np.maximum(self.A.counts, 1))
        sound = np.isfinite(size) & (size > 0)
        for number, one in enumerate(sound):
            if one:  # (1): so that entries are about 1 on a grid of any size
                rows[number] = r[number] / size[number] * cells[number % len(cells)]
        z[...] = self._network(rows) if self._blocks is None else self._blocks.around(k, self._network, rows)
        for number, one in enumerate(sound):
            if one:
                z[number] *= size[number] / cells[number % len(cells)] / self.A.scale
            else:
                z[number] = r[number]

    def _network(self, rows):
        """What the network makes of rows (batch, cells) float32, with the sign that makes (f(r), r) positive.

        (3) is the same for either sign, but as a preconditioner it has to be that one.
        """
        out, k = rows.copy(), self._domains[0].k
        for number, row in enumerate(out):
            which = number % len(self._domains)
            try:
                domain = self._idle[which].pop()
            except IndexError:
                domain = self._domains[which].twin()
            domain.r[...] = row.reshape(domain.r.shape)
            domain.apply()
            row[...] = domain.r.reshape(row.shape)
            self._idle[which].append(domain)
        sign = k.xp.empty(len(rows))
        k.dot(rows, out, sign, k.xp.empty(workspace_shape(*rows.shape)))
        out *= k.xp.where(sign < 0, -1, 1).astype("float32")[:, None]
        return out

    def matvec(self, r) -> Any:
        """What the network, with the blocks around it, takes for A^-1 r.

        Parameters
        ----------
        r : array (N,), or of the shape of the grid; leading axes are several vectors

        Returns
        -------
        array
            Of the same shape.
        """
        r, own = validate.own_kind("r", r)
        with kernels_for(r=r, mask=self.A.mask) as k:
            system = operators.linear_system(k, self.A, r, None, own=own, names=("A", "r"))
            z = k.xp.empty_like(system.b)
            self.matvec_rows(k, system.b, z)
            return system.restore(z)

    __matmul__ = matvec

    def as_linear_operator(self) -> Any:
        """As a scipy.sparse.linalg.LinearOperator (of cupyx for CuPy) on (N,) vectors; it is not linear."""
        return linear_operator(self, self.A.backend, dtype=np.dtype("float64"), symmetric=False)

    def solve(self, b, x0=None, *, directions="auto", rtol=1e-5, atol=0.0, maxiter=None, time_limit=None, callback=None,
              verbose=False, rng=None, check=True, on_failure="warn") -> LinearResult:  # fmt: skip
        """Solve A x = b by the iteration of the paper.

        Parameters
        ----------
        b : array (N,), or of the shape of the grid
            Leading axes are several right-hand sides.
        x0 : array like b, optional
            Where to start. Default: zero.
        directions : "auto" or int
            How many earlier directions a new one is made A-orthogonal to. With 2 it is the iteration of the paper.
            "auto" begins with 2 and goes up to 20, each two vectors in memory, where three iterations do not halve the
            residual.
        rtol, atol : float
            A system is solved when ``||b - A x||_2 <= max(rtol ||b||_2, atol)``.
        maxiter : int, optional
            Default: 1000.
        time_limit, callback, verbose, rng, check, on_failure
            As for `cg`.

        Returns
        -------
        LinearResult

        Raises
        ------
        TypeError, ValueError
            Naming the argument that does not fit.
        ConvergenceError
            With ``on_failure="raise"``.

        Warns
        -----
        ConvergenceWarning
            With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.
        """
        if isinstance(directions, str):
            validate.choice("directions", directions, ("auto",))
        else:
            directions = validate.count("directions", directions)
        rtol, atol = validate.nonnegative("rtol", rtol), validate.nonnegative("atol", atol)
        options = validate.common(maxiter=1000 if maxiter is None else maxiter, time_limit=time_limit, rng=rng,
                                  callback=callback, verbose=verbose, check=check, on_failure=on_failure)  # fmt: skip
        b, own = validate.own_kind("b", b)
        x0 = None if x0 is None else validate.own_kind("x0", x0)[0]
        with kernels_for(mask=self.A.mask, b=b, x0=x0) as k:
            system = operators.linear_system(k, self.A, b, x0, own=own, check=options.check)
            result = _solve(k, self, system, directions, rtol, atol, options)
        report("DeepConjugateDirection", result, options.on_failure)
        return result


def _solve(k, M, system, directions, rtol, atol, options):
    state = _State(k, M, system, directions, rtol, atol)
    with Monitor("dcd", maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                 began=options.began, verbose=options.verbose, start=state.residual, target=state.tolerance,
                 shape=system.shape, solution=lambda: system.restore(state.solution())) as watch:  # fmt: skip
        while state.begin():
            while state.active.any() and watch.going():
                state.nit += state.active
                watch.did(state.iteration()[None], 1)
            state.verify()
            if watch.status is not None:
                break
        return linear_result(
            system,
            state.solution(),
            success=np.isfinite(state.residual) & (state.residual <= state.goal),
            residual=state.residual,
            tolerance=state.tolerance,
            status=np.where(state.status, state.status, watch.status or Status.STALLED),
            nit=state.nit,
            history=watch.history,
            elapsed=watch.elapsed,
            backend=k.NAME,
        )


class _State:
    """All systems of one call. Vectors are rows (batch, cells); scalars of the systems are on the host.

    Each system is divided by 2**exponent, so that neither a tiny nor a huge b underflows or overflows in a dot.
    What is done to vectors here is little beside a network's 20,000 operations for each of their entries.
    """

    def __init__(self, k, M, system, directions, rtol, atol):
        self.k, self.M, self.system, self.A, self.directions, xp = k, M, system, system.A, directions, k.xp
        b = system.b
        self.work, self.scalar = xp.empty(workspace_shape(*b.shape)), xp.empty(len(b))
        b_norm = self._norm(b)
        self.tolerance = np.maximum(rtol * b_norm, atol)
        self.goal = self.tolerance - 0.5 * np.finfo(b.dtype).eps * b_norm  # as in cg: b - A x is only known to that
        x, r, self.residual = xp.zeros_like(b), b.copy(), b_norm.copy()
        if system.x0 is not None:
            x[...] = system.x0
            x[xp.asarray(b_norm == 0)] = 0  # the solution, whatever the start
            self.residual = k.to_host(operators.true_residual(k, system, x, r)).copy()
        size = np.maximum(b_norm, self.residual)
        exponent = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1.0))[1] - 1
        self.scale = np.ldexp(np.ones(len(b)), exponent)
        self._up, self._down = xp.asarray(exponent)[:, None], xp.asarray(-exponent)[:, None]
        with np.errstate(all="ignore"):  # seen in the residual
            self.x, self.r = xp.ldexp(x, self._down), xp.ldexp(r, self._down)
        self.status, self.nit = np.zeros(len(b), dtype="int64"), np.zeros(len(b), dtype="int64")
        self.status[~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)
        self.active, self.seen = np.zeros(len(b), dtype=bool), self.residual
        self.slow = np.zeros(len(b), dtype=bool)
        self.kept = np.full(len(b), PUBLISHED if directions == "auto" else directions)
        self._last = np.full(len(b), np.inf)  # the residual when the iteration was last begun

    def solution(self):
        """The current iterate, in the caller's units."""
        with np.errstate(all="ignore"):  # seen in the residual
            return self.k.xp.ldexp(self.x, self._up)

    def _dot(self, x, y):
        self.k.dot(x, y, self.scalar, self.work)
        return self.k.to_host(self.scalar).copy()

    def _norm(self, x):
        self.k.norm(x, self.scalar, self.work)
        return self.k.to_host(self.scalar).copy()

    def begin(self):
        """Start from b - A x as it is, for systems where that helps; False where there is none."""
        unsolved = (self.status == 0) & (self.residual > self.goal)
        self.active = unsolved & (self.residual < 0.5 * self._last)
        self.status[unsolved & ~self.active] = int(Status.STALLED)
        self._last = self.seen = self.residual
        self.past, self.before = [], []
        return bool(self.active.any())

    def verify(self):
        """b - A x, computed from the problem as the caller gave it; it is what a next round starts from."""
        if self.nit.any():
            self.system.A.settle(self.x)
            found = operators.true_residual(self.k, self.system, self.solution(), self.r)
            self.residual = self.k.to_host(found).copy()
            self.r[...] = self.k.xp.ldexp(self.r, self._down)
            self.status[~np.isfinite(self.residual) & (self.status == 0)] = int(Status.NAN_OR_INF)

    def iteration(self):
        """(1) - (3); the residuals after it."""
        xp, r = self.k.xp, self.r
        p, ap = xp.empty_like(r), xp.empty_like(r)
        self.M.matvec_rows(self.k, r, p)  # (1)
        self._straighten(p)
        pr, pap, sound = self._look(p, ap)
        with np.errstate(all="ignore"):  # A has no eigenvalue beyond 2 top
            useful = sound & (pr**2 / pap >= self._norm(r) ** 2 / (2 * self.M.A.top))
        if not (useful | ~self.active).all():
            along = r.copy()
            self._straighten(along)
            p[...] = xp.where(xp.asarray(useful)[:, None], p, along)
            pr, pap, sound = self._look(p, ap)
            self.status[self.active & np.isfinite(pap) & (pap <= 0)] = int(Status.INDEFINITE_OPERATOR)
        self.active &= self.status == 0
        alpha = np.where(self.active & sound, self._ratio(pr, pap), 0.0)  # (3)
        self._add(self.x, alpha, p)
        self._add(r, -alpha, ap)
        self.past.append((p, ap, np.where(sound, pap, np.inf)))
        self._keep()
        del self.past[: max(0, len(self.past) - int(self.kept.max()))]
        now = self._norm(r) * self.scale
        self.status[self.active & ~np.isfinite(now)] = int(Status.NAN_OR_INF)
        self.seen = np.where(self.active, now, self.seen)
        self.active &= (self.status == 0) & (now > 0.999 * self.goal) & (now > 0.1 * np.finfo(r.dtype).eps * self._last)
        return self.seen

    def _keep(self):
        """More directions from here on for systems that are slow; `seen` is their residuals before this iteration."""
        self.before.append(self.seen)
        if self.directions == "auto" and len(self.before) > PATIENCE:
            self.slow |= self.seen > 0.5 * self.before.pop(0)
            self.kept = np.where(self.slow, np.minimum(self.kept + 1, MOST), PUBLISHED)

    def _straighten(self, p):
        """(2), for p = q."""
        for ago, (old, image, curvature) in zip(range(len(self.past), 0, -1), self.past, strict=True):
            part = self._ratio(self._dot(p, image), curvature)
            self._add(p, np.where(ago <= self.kept, -part, 0.0), old)

    def _look(self, p, ap):
        """(p, r), (p, A p), and whether that is positive; A p is left in ap."""
        self.A.matvec(p, ap)
        pap = self._dot(p, ap)
        return self._dot(p, self.r), pap, (pap > 0) & np.isfinite(pap)

    def _add(self, x, factor, y):
        x += (self.k.xp.asarray(factor)[:, None] * y).astype(x.dtype, copy=False)

    @staticmethod
    def _ratio(a, b):
        with np.errstate(all="ignore"):
            found = a / b
        return np.where(np.isfinite(found), found, 0.0)
