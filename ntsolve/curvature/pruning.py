"""Pruning by the optimal brain surgeon, with the inverse of the empirical Fisher matrix.

B. Hassibi, D. Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NeurIPS 1992: where the
loss near the weights w is 1/2 dw'F dw, taking out weight i alone, and letting the others make up for it, costs

    rho_i = w_i^2 / (2 [F^-1]_ii),     dw = -(w_i / [F^-1]_ii) F^-1 e_i                                  (1)

A whole set P is taken out by the dw that minimises 1/2 dw'F dw subject to dw_P = -w_P. With a multiplier for each of P
that is dw = -F^-1[:, P] (F^-1[P, P])^-1 w_P, a system as large as P. Eliminating the constraint instead leaves a least
squares problem for the weights K that stay; F = damp I + (1/m) G'G makes it

    min over u of |G_K u - G_P w_P|^2 / m + damp |u|^2,     dw_K = u = G_K' A_K^-1 G_P w_P,              (2)
    A_K = m damp I + G_K G_K',

m equations however large P is, and no division by damp: of all changes of K, u is the smallest that gives back to each
example's derivative g_i.w what P had contributed to it. That is the joint form. Adding up (1) over P, as if each weight
were taken out alone, is the cheaper form of the M-FAC and WoodFisher papers: `joint=False`.

Gradual pruning takes (1) and (2) in several steps, in each of which the same share of what is left goes. The weights
that are gone no longer count in F: with K the rest, all is done with G_K.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..outcome import report
from ..reductions import SERIAL
from ..result import Fields, Status
from .fisher import EmpiricalFisher
from .gradients import PIECE, Piece, cuts, gradients
from .inverse import Dual, Primal

DONE = "The share of the weights that was asked for is zero."
NOT_FINITE = "NaN or infinity arose: look at the size of the weights and of the gradients, and at damp."


@dataclass(frozen=True, eq=False, repr=False)
class PruneResult(Fields):
    """What `prune` returns. Fields are read as attributes, or as items by name.

    Attributes
    ----------
    weights, x : array (d,)
        Zero where a weight was taken out, the others adapted; of the kind and device of the input, and of its dtype
        where that is float32 or float64.
    success : bool
        Whether all weights are finite, and what they are predicted to add to the loss.
    status : Status
        CONVERGED, or NAN_OR_INF.
    message : str
    mask : bool array (d,)
        True where a weight is left.
    sparsity : float
        Share of the weights that is gone.
    loss_increase : float
        1/2 dw'F dw, added up over the steps: what the quadratic model predicts. It is computed from the change made,
        with the F of each step.
    removed, loss_increases : array (steps,)
        Weights gone after each step, and what the step adds to `loss_increase`.
    elapsed : float
        Seconds.
    backend : str
        "cpu" or "cuda".
    """

    weights: Any
    mask: Any
    sparsity: float
    loss_increase: float
    removed: np.ndarray
    loss_increases: np.ndarray
    success: bool
    status: Status
    message: str
    elapsed: float
    backend: str

    @property
    def x(self):
        return self.weights


def prune(weights, fisher, *, sparsity, recomputes=1, joint=True, damp=None, block_size=None, mask=None, keep=None,
          check=True, on_failure="warn") -> PruneResult:  # fmt: skip
    """Set the weights to zero that the loss needs least, and change the others to make up for them.

    Parameters
    ----------
    weights : array (d,)
        Of a trained model: the gradient of its loss should be about zero. Not changed.
    fisher : EmpiricalFisher, gradients, or callable
        The curvature at the weights. Gradients are whatever `EmpiricalFisher` takes, for example an array (m, d) with
        one gradient a row. A callable is called as ``fisher(weights)`` in each step, with the weights as they are by
        then, zeros included, and returns one or the other; returning gradients is cheaper, since the matrix is then
        only set up for the weights that are left.
    sparsity : float
        Share of the d weights that is to be zero in the end; from 0 up to, but not including, 1.
    recomputes : int
        Steps. In each of them the same share of what is left goes; the curvature is computed anew if `fisher` is a
        callable, otherwise restricted to the weights that are left.
    joint : bool
        Make up for all weights of a step together, equation (2), which is exact for the quadratic model. Otherwise add
        up what each would need alone.
    damp, block_size : optional
        Where `fisher` is, or returns, gradients: as for `EmpiricalFisher`; damp is then needed.
    mask : bool array (d,), optional
        False where a weight is gone already, as in the `mask` of an earlier result. It counts as zero, and stays so.
    keep : bool array (d,), optional
        True where a weight must not be taken out. It is changed as others are.
    check : bool
        Look for NaN and infinity in the weights.
    on_failure : {"warn", "raise", "ignore"}
        What to do when a weight, or the predicted loss, is not finite in the end.

    Returns
    -------
    PruneResult

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``.

    Notes
    -----
    The joint form costs, in each step, two passes of O(q m^2) operations over the gradients of the q weights left (the
    products, and the diagonal of the inverse) and one of the same kind for those that stay; none of its memory grows
    with the number of weights taken out.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> X, w = rng.standard_normal((200, 20)), rng.standard_normal(20)
    >>> X[:, 10:] = X[:, :10] + 0.1 * X[:, 10:]  # features that come almost twice
    >>> F = ntsolve.EmpiricalFisher(X, damp=1e-6)  # the Hessian of |X w - y|^2 / (2 m)
    >>> r = ntsolve.prune(w, F, sparsity=0.5, recomputes=10)
    >>> int(r.mask.sum()), r.sparsity
    (10, 0.5)
    >>> largest = np.where(abs(w) >= np.median(abs(w)), w, 0)
    >>> bool(np.linalg.norm(X @ (r.weights - w)) < 0.4 * np.linalg.norm(X @ (largest - w)))
    True
    """
    began = time.perf_counter()
    weights, own = validate.own_kind("weights", weights)
    weights = validate.numeric("weights", weights, check=check)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"weights must have the shape (d,) with d > 0, not {tuple(weights.shape)}: flatten them")
    if weights.dtype.kind == "c":
        raise TypeError("weights are complex; take real and imaginary parts as weights of their own")
    sparsity = validate.nonnegative("sparsity", sparsity)
    if sparsity >= 1:
        raise ValueError(f"sparsity must be less than 1, the share of weights that is to be zero, not {sparsity}")
    steps = validate.count("recomputes", recomputes, least=1)
    on_failure = validate.choice("on_failure", on_failure, ("warn", "raise", "ignore"))
    source = _Source(fisher, weights, own, damp, block_size)
    with kernels_for(weights=weights) as k:
        d = weights.size
        left = _flags("mask", mask, d, default=True)
        kept = _flags("keep", keep, d, default=False) & left
        removed = _schedule(d, d - int(left.sum()), d - int(kept.sum()), sparsity, steps)
        w = weights.astype("float64")
        w[k.xp.asarray(~left)] = 0
        losses, part = [], None
        for aim in removed:
            part = source.part(k, w, left, part)
            w, left, part, loss = _step(part, w, left, kept, aim - (d - int(left.sum())), joint)
            losses.append(loss)
        with np.errstate(over="ignore"):  # of float32
            w = w.astype(weights.dtype)
        success = bool(np.isfinite(sum(losses))) and bool(k.xp.isfinite(w).all())
        result = PruneResult(
            weights=own(w),
            mask=own(k.xp.asarray(left)),
            sparsity=1 - float(left.mean()),
            loss_increase=float(sum(losses)),
            removed=np.array(removed),
            loss_increases=np.array(losses),
            success=success,
            status=Status.CONVERGED if success else Status.NAN_OR_INF,
            message=DONE if success else NOT_FINITE,
            elapsed=time.perf_counter() - began,
            backend=k.NAME,
        )
    report("prune", result, on_failure)
    return result


def _flags(name, value, d, *, default):
    """(d,) bool, on the host."""
    if value is None:
        return np.full(d, default)
    value = np.asarray(value.get() if hasattr(value, "get") else value)
    if value.dtype != bool or value.shape != (d,):
        raise ValueError(f"{name} must be bool of shape ({d},), not {value.dtype} of shape {value.shape}")
    return value.copy()


def _schedule(d, gone, most, sparsity, steps):
    """Weights gone after each step: the share of what is left that goes is the same in all of them."""
    aim = round(sparsity * d)
    if aim < gone:
        raise ValueError(f"sparsity = {sparsity:g} of {d} weights is {aim}, but mask has taken out {gone} already")
    if aim > most:
        raise ValueError(f"sparsity = {sparsity:g} of {d} weights is {aim}, but keep leaves only {most} to take out")
    start, end = d - gone, max(d - aim, 0.5)
    counts = [d - round(start * (end / start) ** (step / steps)) for step in range(1, steps)]
    return [*counts, aim]


def _step(part, w, left, kept, count, joint):
    """Take out `count` more weights: (w, left, the part of F that is left where it was made, 1/2 dw'F dw)."""
    k, xp = part.k, part.k.xp
    if count == 0:
        return w, left, part, 0.0
    diagonal = xp.maximum(part.diagonal(), np.finfo(float).eps / part.damp)  # it is positive, but for rounding
    here = part.take(w)
    saliency = np.full(left.size, np.inf)
    saliency[left] = k.to_host(part.only_left(here**2 / (2 * diagonal)))  # (1)
    saliency[kept] = np.inf
    chosen = np.argpartition(saliency, count - 1)[:count]
    stays = left.copy()
    stays[chosen] = False
    gone = part.take(xp.asarray(left & ~stays))

    if joint:
        rest = part.restricted(stays)
        new = rest.put(rest.make_up(part.dots(xp.where(gone, here, 0)), rest.take(w)), w.size)  # (2)
    else:
        rest = None
        change = part.inverse.solve(xp.where(gone, here / diagonal, 0)[None])[0]
        new = part.put(xp.where(gone, 0, here - change), w.size)
    dw = part.take(new - w)
    loss = 0.5 * (part.damp * float(dw @ dw) + float((part.dots(dw) ** 2).sum()) / part.rows.m)
    return new, stays, rest, loss


class _Source:
    """The curvature, from whatever `fisher` is, for the weights of each step."""

    def __init__(self, fisher, weights, own, damp, block_size):
        self.fisher, self.dtype, self.own = fisher, weights.dtype, own
        self.d, self.damp, self.block_size = weights.size, damp, block_size
        self.changes = callable(fisher) and not isinstance(fisher, EmpiricalFisher)
        self.found: Any = None if self.changes else self._take(fisher)

    def part(self, k, w, left, before):
        """Of the F at w, what belongs to the weights left; `before` is what the last step ended with, or None."""
        if self.changes:
            self.found = self._take(self.fisher(self.own(w.astype(self.dtype))))
        elif before is not None:
            return before
        rows = self.found[0]
        with kernels_for(weights=w, fisher=getattr(rows, "array", None)):  # on one device, or a TypeError
            return _Part(k, left, *self.found)

    def _take(self, found):
        """(rows of gradients, damp, order of the blocks or None, what has been made of them already or None)"""
        if found is None:
            raise TypeError("fisher returned None" if self.changes else "fisher is None")
        if isinstance(found, EmpiricalFisher):
            if self.damp is not None or self.block_size is not None:
                raise ValueError("damp and block_size belong to the EmpiricalFisher that fisher is, or returns")
            if found._ranks is not SERIAL:
                raise ValueError("fisher is shared among ranks (comm); prune is for all weights in one process")
            rows, made = found._rows, found._inverse
            taken = rows, found.damp, found.block_size, made if isinstance(made, (Dual, Primal)) else None
        else:
            if self.damp is None:
                raise ValueError("damp is needed where fisher is, or returns, gradients")
            damp = validate.positive("damp", self.damp)
            size = None if self.block_size is None else validate.count("block_size", self.block_size, least=1)
            try:
                rows = gradients(found)
            except (TypeError, ValueError) as error:
                raise type(error)(f"fisher: {error}") from error
            taken = rows, damp, size, None
        if rows is None or rows.m == 0:
            raise ValueError("fisher is a window without gradients")
        if rows.d != self.d:
            raise ValueError(f"fisher has gradients of {rows.d} entries, there are {self.d} weights")
        return taken


class _Part:
    """F restricted to some of the weights, and the inverse of that.

    Without blocks the columns of the others are left out. With blocks they count as zero, so that the blocks stay as
    they are; the part of the inverse that belongs to them is then the identity over damp, and nobody looks at it.
    """

    def __init__(self, k, left, rows, damp, block_size, inverse=None):
        self.k, self.rows, self.left, self.damp, self.block_size = k, rows, left, damp, block_size
        self.blocks = block_size is not None and block_size < rows.d
        self.index = None if self.blocks or left.all() else k.xp.asarray(np.flatnonzero(left))
        self.inverse: Any = inverse if left.all() else None
        if self.inverse is None:
            columns = rows if left.all() else Columns(k, rows, left, zeros=self.blocks)
            width = block_size if self.blocks else max(1, columns.d)
            self.inverse = (Dual if rows.m <= width else Primal)(k, columns, width, damp)
            if not bool(k.xp.isfinite(self.inverse.gram).all()):
                raise ValueError("fisher: the gradients contain NaN or infinity")

    def restricted(self, left):
        """The same for fewer weights."""
        return _Part(self.k, left, self.rows, self.damp, self.block_size)

    def take(self, v):
        """The entries of v (d,) that this part has."""
        return v if self.index is None else v[self.index]

    def only_left(self, v):
        """Of entries as `take` gives them, those of the weights left."""
        return v[self.k.xp.asarray(self.left)] if self.blocks else v

    def put(self, v, d):
        """What `take` has taken, in an array (d,) that is zero elsewhere."""
        if self.index is not None:
            v, given = self.k.xp.zeros(d), v
            v[self.index] = given
        elif self.blocks:
            v = self.k.xp.where(self.k.xp.asarray(self.left), v, 0)
        return v

    def diagonal(self):
        return self.inverse.diagonal()

    def dots(self, v):
        """(blocks, 1, m): each gradient's products with v, block by block."""
        return self.inverse.dots(self.k.xp.ascontiguousarray(v[None]))

    def make_up(self, C, w):
        """w + G' A^-1 C: the weights of this part, changed to give C to the products with the gradients."""
        inverse, w = self.inverse, self.k.xp.ascontiguousarray(w[None])
        if isinstance(inverse, Dual):
            inverse.solve_A(C)
            return inverse.combine(C, 1.0, w, 1.0)[0]
        C /= self.rows.m
        return (w + inverse.solve(inverse.combine(C, 0.0, self.k.xp.zeros_like(w), 1.0)))[0]


class Columns:
    """Rows of gradients without some of their columns, which are left out or set to zero; made piece by piece."""

    def __init__(self, k, rows, left, *, zeros):
        self.k, self.rows, self.left, self.zeros = k, rows, left, zeros
        self.m, self.working = rows.m, rows.working
        self.d = rows.d if zeros else int(left.sum())

    def pieces(self, width):
        """All rows of some of the columns at a time."""
        xp, at, most = self.k.xp, 0, max(1, PIECE // (self.m * self.working.itemsize))
        for piece in self.rows.pieces(width if self.zeros else self.rows.d):
            there = piece.last - piece.first
            for a, b, _ in cuts(there, width if self.zeros else there, most):
                first, last = piece.first + a, piece.first + b
                if self.zeros:
                    G = piece.G[:, a:b] * xp.asarray(self.left[first:last])
                    yield Piece(first, last, slice(first // width, -(-last // width)), G)
                elif self.left[first:last].any():
                    G = xp.take(piece.G[:, a:b], xp.asarray(np.flatnonzero(self.left[first:last])), axis=1)
                    yield Piece(at, at + G.shape[1], slice(0, 1), G)
                    at += G.shape[1]

    def slabs(self, width):
        """Whole blocks, of some of the rows at a time where all would be too many."""
        xp = self.k.xp
        if self.zeros:
            for slab in self.rows.slabs(width):
                left = xp.asarray(self.left[slab.first : slab.last])
                yield Piece(slab.first, slab.last, slab.blocks, slab.G * left)
            return
        left = xp.asarray(np.flatnonzero(self.left))
        for slab in self.rows.slabs(self.rows.d):
            yield Piece(0, self.d, slice(0, 1), xp.take(slab.G, left, axis=1))
