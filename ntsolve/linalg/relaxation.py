"""The relaxation of SSOR, or any other choice between a few, learned from the iterations that solves took.

Khodak, Chow, Balcan and Talwalkar, "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System
Instances" (ICLR 2024), take the choice of omega for a sequence of systems as a bandit with the number of iterations
for its loss. Two of its forms are here, over a finite set of arms:

  - Tsallis-INF (Zimmert and Seldin, JMLR 22 (2021)), which learns the best fixed arm: with L the estimated sums of
    losses in [0, 1], and eta_t = 2 / sqrt(t),

        w_i = 4 (eta_t (L_i - x))^-2,  x such that sum w_i = 1;   draw i from w,  L_i += loss / w_i.     (1)

  - a contextual one, which learns the best arm for what is known of a system: one regression of log(iterations) for
    each arm on a polynomial of degree 2 in the context, and exploration by inverse gap weighting (Foster and Rakhlin,
    "Beyond UCB", ICML 2020), which is the paper's approach for contexts,

        w_i = 1 / (K + gamma_t (y_i - y_best)) for the others, the rest for the best.                    (2)
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import validate

ARMS = tuple(1.0 + 0.95 * i / 11 for i in range(12))
ROUNDS = 2  # of each arm before a regression says anything
RIDGE = 0.03  # of a standardised regression
SHARPNESS = 40.0  # gamma_t / sqrt(t), of losses in units of log(iterations)


class RelaxationTuner:
    """Chooses a relaxation for each system of a sequence, and learns from the iterations that it led to.

    Parameters
    ----------
    arms : sequence, optional
        What to choose from: relaxations for `ntsolve.ssor` (default: 12 from 1 to 1.95), or anything else, such as the
        names of preconditioners.
    method : {"regression", "tsallis"}
        "regression" learns the best arm for a context, "tsallis" (Tsallis-INF) the best one for all.
    rng : None, int or numpy.random.Generator
        For the draws of arms. None: 0, the same each time.

    Attributes
    ----------
    arms : list
    count : int
        Solves observed.

    Notes
    -----
    `suggest` and `observe` come in turns. A context is a number or a few, such as the logarithm of a time step: what
    the best arm depends on, smoothly. Its scale does not matter. Every arm is tried a few times first, so there is a
    price to pay for the first two dozen solves.

    Khodak, Chow, Balcan and Talwalkar, "Learning to Relax", ICLR 2024; Zimmert and Seldin, JMLR 22 (2021).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> import ntsolve
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50), format="csr")
    >>> tuner = ntsolve.RelaxationTuner(rng=0)
    >>> for shift in np.geomspace(1e-4, 1e-1, 40):
    ...     B = A + shift * sp.eye_array(50)
    ...     result = ntsolve.cg(B, np.ones(50), M=ntsolve.ssor(B, tuner.suggest(np.log10(shift))))
    ...     tuner.observe(result.nit)
    >>> tuner.count
    40
    """

    def __init__(self, arms=None, *, method="regression", rng=None) -> None:
        if arms is not None and not isinstance(arms, Iterable):
            raise TypeError(f"arms must be a sequence of what to choose from, not {type(arms).__name__}")
        self.arms = list(ARMS if arms is None else arms)
        if not self.arms:
            raise ValueError("arms must not be empty")
        self.method = validate.choice("method", method, ("regression", "tsallis"))
        self._rng = validate.generator("rng", rng)
        self.count, self._features = 0, None
        self._pending: Any = None
        self._losses = np.zeros(len(self.arms))  # the sums of (1)
        self._highest = 0.0
        self._seen: list[tuple[list, list]] = [([], []) for _ in self.arms]  # contexts and log(iterations) of each
        self._fits: list[Any] = [None] * len(self.arms)

    def __repr__(self):
        return f"RelaxationTuner({len(self.arms)} arms, method={self.method!r}, count={self.count})"

    def suggest(self, context=None) -> Any:
        """The arm to take for the next system.

        Parameters
        ----------
        context : float, or sequence of a few floats, optional
            What is known of the system; as many numbers each time. Tsallis-INF makes no use of it.

        Returns
        -------
        One of `arms`.

        Raises
        ------
        TypeError, ValueError
            Where a context is not made of finite numbers, or not of the length of those before.
        """
        x = self._context(context)
        self._features = x.size
        weights = self._tsallis() if self.method == "tsallis" else self._regression(x)
        arm = int(self._rng.choice(len(self.arms), p=weights / weights.sum()))
        self._pending = arm, x, weights[arm]
        return self.arms[arm]

    def observe(self, iterations) -> None:
        """Learn what the arm that was suggested last led to.

        Parameters
        ----------
        iterations : int or float
            Or any other cost, such as seconds; a solve that failed should count for what it took. Of 0 nothing is
            learned.

        Raises
        ------
        RuntimeError
            Where nothing was suggested since the last time.
        """
        cost = validate.nonnegative("iterations", iterations)
        if self._pending is None:
            raise RuntimeError("observe comes after suggest, once each time")
        (arm, x, weight), self._pending = self._pending, None
        self.count += 1
        if cost == 0:  # a system that needed no solver
            return
        if cost > self._highest:  # losses are fractions of the highest
            self._losses *= self._highest / cost
            self._highest = cost
        self._losses[arm] += cost / self._highest / weight
        contexts, costs = self._seen[arm]
        contexts.append(x)
        costs.append(np.log(cost))
        self._fits[arm] = _Fit(np.array(contexts), np.array(costs))

    def best(self, context=None) -> Any:
        """The arm that looks best now; explores nothing, and wants no `observe`.

        Parameters
        ----------
        context : as for `suggest`

        Returns
        -------
        One of `arms`.

        Raises
        ------
        TypeError, ValueError
            As `suggest`.
        """
        if self.method == "tsallis":
            return self.arms[int(self._losses.argmin())]
        x = self._context(context)
        return self.arms[int(np.argmin([np.inf if fit is None else fit(x) for fit in self._fits]))]

    def _context(self, context):
        """(d,)"""
        try:
            x = np.ravel(np.asarray([] if context is None else context, dtype=float))
        except (TypeError, ValueError) as error:
            raise type(error)(f"context must be a number or a few, not {context!r}") from error
        if not np.isfinite(x).all():
            raise ValueError("context contains NaN or infinity")
        if self._features not in (None, x.size):
            raise ValueError(f"context has {x.size} numbers, those before had {self._features}")
        return x

    def _tsallis(self):
        """(1), by Newton's method from above, where it is monotone: the sum is convex in x."""
        eta = 2 / np.sqrt(self.count + 1)
        x = self._losses.min() - 2 / eta  # the largest w_i is 1
        for _ in range(100):
            w = 4 / (eta * (self._losses - x)) ** 2
            step = (1 - w.sum()) / (eta * (w**1.5).sum())
            x += step
            if abs(step) <= 1e-12 * abs(x):
                break
        return w

    def _regression(self, x):
        """(2)"""
        tried = np.array([len(costs) for _, costs in self._seen])
        if tried.min() < ROUNDS:
            return (tried == tried.min()).astype(float)
        y = np.array([fit(x) for fit in self._fits])
        best, gamma = int(y.argmin()), SHARPNESS * np.sqrt(self.count)
        w = 1 / (y.size + gamma * (y - y[best]))
        w[best] = 0
        w[best] = 1 - w.sum()
        return w


class _Fit:
    """The regression of costs (t,) on contexts (t, d), as a function of a context; constant outside their range."""

    def __init__(self, contexts, costs):
        self.low, self.high, size = contexts.min(axis=0), contexts.max(axis=0), abs(contexts).max(axis=0)
        self.unit = np.where(size > 0, size, 1)  # squares of what is left by it are in range
        inside = contexts / self.unit
        self.middle, self.spread = inside.mean(axis=0), np.where(self.high > self.low, inside.std(axis=0), 1)
        F, self.mean = self._features(contexts), costs.mean()
        self.weights = np.linalg.solve(F.T @ F + RIDGE * np.eye(F.shape[1]), F.T @ (costs - self.mean))

    def _features(self, c):
        c = (np.clip(c, self.low, self.high) / self.unit - self.middle) / self.spread
        return np.concatenate([np.ones((*c.shape[:-1], 1)), c, c**2], axis=-1)

    def __call__(self, x):
        return float(self.mean + self._features(x) @ self.weights)
