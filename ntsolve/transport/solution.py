"""What a solve knows at its end, and all that follows from it when it is asked for: plan, values, bounds.

Arrays are those of the problem without the rows and columns that have no mass, in float64 and in the user's units.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import shared
from .costs import MatrixCost
from .gradient import adjoint
from .level import relaxed
from .problem import Problem, cost_matrix, equal_weights


@dataclass(eq=False)
class Solution:
    """Potentials of one problem. Everything else is computed once, from them and the cost.

    Attributes
    ----------
    rows, columns : arrays
        Marginals of the plan: of the rows (n,), and of the columns (m,).

    Where the rows are shared among ranks, f, rows and the plan are a rank's own; what is about all of them takes a
    message, and so has to be asked for on all ranks.
    """

    problem: Problem
    reg: float
    f: Any
    g: Any
    rows: Any
    columns: Any
    own: Any  # makes an array of the user's own kind; None: it is one

    @property
    def k(self):
        return self.problem.cost.k

    @property
    def ranks(self):
        return self.problem.cost.ranks

    @property
    def dtype(self):
        return self.problem.cost.dtype

    @property
    def x(self):
        """f and g, one after the other, as the user gets them."""
        return self.restore(self.k.xp.concatenate(self.potentials))

    def residual(self, error):
        """L1 error of the marginals of the plan as it is handed out, from that of the columns.

        The rows are exact but for rounding: of the weights' sums, of the plan to its dtype, and of the logarithms of
        its entries, differences of numbers that may be large. Where the last may matter, the plan is summed up itself.
        """
        problem, mass = self.problem, self.mass
        rounded = 0.0 if self.dtype == np.float64 else 0.5 * np.finfo(self.dtype).eps * mass
        size = float(self.ranks.largest(float(abs(self.f).max()) if self.f.size else 0.0)) + float(abs(self.g).max())
        if np.isfinite(size) and size * np.finfo(float).eps * mass > 1e-12 * self.reg:
            rows, columns = problem.cost.marginals(*self.logs)
            error = self._total(float(abs(rows - self.rows).sum()), float(abs(columns - self.wanted).sum()))
        return error + rounded + problem.mismatch

    @property
    def balanced(self):
        return self.problem.balanced

    @functools.cached_property
    def logs(self):
        """(log_u, log_v, 1 / reg) of the kernels."""
        log_v = self.k.xp.zeros(self.problem.cost.width)
        log_v[: self.g.size] = self.g / self.reg
        return self.f / self.reg, log_v, 1 / self.reg

    @property
    def wanted(self):
        """What the columns of the plan should sum to."""
        return relaxed(self.k.xp, self.problem.weights[1], self.g, self.problem.tau[1])

    def restore(self, array):
        """Of the dtype and kind of what was passed in."""
        array = self.k.xp.ascontiguousarray(array, dtype=self.dtype)
        return array if self.own is None else self.own(array)

    def whole(self, values, rows, size, fill):
        """(size,) with `fill` where there is no mass."""
        if rows is None:
            return values
        full = self.k.xp.full(size, fill)
        full[rows] = values
        return full

    @property
    def potentials(self):
        """(f, g) in the user's order; -inf where there is no mass."""
        problem = self.problem
        return (
            self.whole(self.f, problem.rows, problem.shape[0], -np.inf),
            self.whole(self.g, problem.columns, problem.shape[1], -np.inf),
        )

    def _total(self, rows, columns=0.0):
        """The sum of a number of each rank's rows and one of the columns, which all have."""
        return shared.total(self.ranks, rows + self.ranks.carry * columns)

    @shared.once
    def mass(self):
        """Of the plan."""
        return self._total(float(self.rows.sum()))

    # ---- the plan ---------------------------------------------------------------------------------------------------

    def plan(self):
        """(n, m), with zeros where there is no mass."""
        problem, xp = self.problem, self.k.xp
        P = xp.empty(problem.cost.shape, dtype=self.dtype)
        problem.cost.plan(*self.logs, P)
        for axis, kept in enumerate((problem.rows, problem.columns)):
            if kept is not None:
                shape = list(P.shape)
                shape[axis] = problem.shape[axis]
                full = xp.zeros(shape, dtype=self.dtype)
                full[(slice(None),) * axis + (kept,)] = P
                P = full
        return P

    def sparse_plan(self, threshold):
        """The entries above the threshold as a CSR matrix of SciPy or CuPy."""
        problem, k = self.problem, self.k
        indptr, indices, data = problem.cost.sparse(*self.logs, threshold)
        if problem.columns is not None:
            indices = problem.columns[indices].astype(indices.dtype)
        if problem.rows is not None:
            counts = k.xp.zeros(problem.shape[0] + 1, dtype=indptr.dtype)
            counts[problem.rows + 1] = k.xp.diff(indptr)
            indptr = k.xp.cumsum(counts)
        return k.csr_matrix(data, indices, indptr, problem.shape)

    def marginal_error(self, k, C, a, b):
        """L1 error of the marginals for a cost matrix and weights as a user passes them, the plan summed up itself."""
        cost, (f, g) = MatrixCost(k, cost_matrix(k, "C", C), self.ranks), self.potentials
        if cost.shape != self.problem.shape:
            raise ValueError(f"C has shape {cost.shape}; the potentials are of shape {self.problem.shape}")
        log_v = k.xp.zeros(cost.width)
        log_v[: g.size] = g / self.reg
        marginals = cost.marginals(f / self.reg, log_v, 1 / self.reg)
        wanted = equal_weights(k, a, b, cost.shape, balanced=self.balanced, ranks=self.ranks)[:2]
        errors = []
        for got, weights, potential, tau in zip(marginals, wanted, (f, g), self.problem.tau, strict=True):
            target = relaxed(k.xp, weights, k.xp.where(weights > 0, potential, 0.0), tau)
            errors.append(float(abs(got - target).sum()))
        return self._total(*errors)

    def complete(self):
        """Compute values and bounds while all ranks are here: later one may be asked for them, and not another."""
        _ = self.value, self.value_linear, self.balanced and self.bounds

    # ---- values -----------------------------------------------------------------------------------------------------

    @shared.once
    def value(self):
        """<P, C> + reg sum P (log P - 1), by (f_i + g_j - C_ij) / reg = log P_ij; with the penalties, if there are."""
        rows = float(self.f @ self.rows) - self.reg * float(self.rows.sum())
        columns = float(self.g @ self.columns)
        (a, b), (tau_a, tau_b) = self.problem.weights, self.problem.tau
        if tau_a < np.inf:
            rows += tau_a * self._divergence(self.rows, a)
        if tau_b < np.inf:
            columns += tau_b * self._divergence(self.columns, b)
        return self._total(rows, columns)

    def _divergence(self, p, q):
        """KL(p | q) = sum p log(p / q) - p + q"""
        logs = self.k.xp.log(self.k.xp.where(p > 0, p / q, 1.0))
        return float((p * logs - p + q).sum())

    @shared.once
    def value_linear(self):
        """<P, C>"""
        return self._total(float(self.moments[0].sum()))

    @shared.once
    def moments(self):
        """Row and column sums of P_ij C_ij."""
        rows, columns = self.problem.cost.moments(*self.logs)
        return rows, columns[: self.g.size]

    @shared.once
    def adjoint(self):
        """(alpha, beta) of the gradient of <P, C>."""
        return adjoint(self)

    # ---- bounds -----------------------------------------------------------------------------------------------------

    @shared.once
    def bounds(self):
        """(lower, upper) bound of the unregularised cost, and what the rounded plan is made of.

        Any g gives a feasible dual point by two c-transforms, and so a lower bound. The plan is rounded to one with
        the right marginals (Altschuler, Weed, Rigollet, NeurIPS 2017, algorithm 2), whose cost is an upper bound: its
        columns are scaled down to b, and what is then missing is added as a matrix of rank one.
        """
        problem, xp, m = self.problem, self.k.xp, self.g.size
        a, b = problem.weights
        g, keep, left = (xp.zeros(problem.cost.width) for _ in range(3))
        g[:m] = self.g
        with np.errstate(all="ignore"):
            keep[:m] = xp.minimum(1.0, b / self.columns)
        keep = xp.nan_to_num(keep, nan=1.0, posinf=1.0)
        left[:m] = b - keep[:m] * self.columns
        f, kept, short, reach, low = problem.cost.certificate(g, 1 / self.reg, a, keep, left)
        lower = self._total(float(a @ f), float(b @ low[:m]))
        upper, missing = shared.total(self.ranks, float(kept.sum()), float(short.sum()))
        if missing > 0:
            with np.errstate(all="ignore"):
                extra = short * (reach / missing)
            upper += self._total(float(xp.where(short > 0, extra, 0.0).sum()))
            left /= missing
        return lower, max(upper, lower), keep, short, left

    @shared.once
    def gap(self):
        """Value of the rounded plan minus a.f + b.g - reg sum P, both of the regularised problem; never negative."""
        a, b = self.problem.weights
        _, _, keep, short, left = self.bounds
        linear, entropy = self.problem.cost.rounded(*self.logs, keep, short, left)
        primal = float(linear.sum()) + self.reg * float(entropy.sum())
        dual = float(a @ self.f) - self.reg * float(self.rows.sum())
        return max(0.0, shared.total(self.ranks, primal) - self._total(dual, float(b @ self.g)))
