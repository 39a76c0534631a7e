"""M-FAC, the optimizer: stochastic gradients multiplied by the inverse of their own empirical Fisher matrix.

E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information", NeurIPS
2021, section 3.2 and algorithm 2. With F over a window of the last m gradients, the newest among them,

    x = g + weight_decay w,     the window takes in x, the oldest leaves                                 (1)
    v <- momentum v + (1 - momentum) F^-1 x                                                              (2)
    w <- w - lr v                                                                                        (3)

x being in the window, F^-1 x = m G' A^-1 e: two passes over the window for a step, one for its products with x and one
for this, and O(m^2) for the factor of A, where the paper has O(m^3).
"""

from typing import Any

from .. import validate
from ..dispatch import home, kernels_for
from ..parallel.comm import join
from .fisher import EmpiricalFisher

_SETTINGS = ("lr", "m", "damp", "momentum", "weight_decay")


class MFAC:
    """The M-FAC optimizer, on flat arrays of weights: it knows nothing of the framework that the gradients come from.

    Parameters
    ----------
    d : int
        Number of weights.
    lr : float
        Learning rate; may be assigned between steps.
    m : int
        Gradients in the window. They take m d numbers of memory.
    damp : float
        What is added to the diagonal of the Fisher matrix. The smaller it is, the longer is the step in directions in
        which recent gradients have been small.
    momentum : float
        Of the running mean of F^-1 x; from 0 (no mean) up to, but not including, 1.
    weight_decay : float
        Times the weights, added to the gradient.
    dtype : {"float16", "float32", "float64"}
        In which the window keeps its gradients.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: the weights are shared among its ranks, each
        of which passes the d, the w and the g of its own, and steps when all do.

    Attributes
    ----------
    fisher : EmpiricalFisher
        The window.
    steps : int
        Steps taken.

    Notes
    -----
    Far from a minimum g is much the same from step to step, F is about g g', and F^-1 g about g over its squared
    length: the longer the gradient, the shorter the step, and lr the change of the loss. At a minimum F is the
    covariance of the gradients; for batches of B examples and a model with the right likelihood it is the Hessian over
    B, and lr = 1 / B a step of Newton's. A rate that falls goes from the one to the other.

    While the window fills, F is the mean over the gradients that are there, so that the first step is damped by the
    size of the gradient itself. The reference implementation starts with a window of zeros and divides by m from the
    start, which makes its first steps up to m times as long; for small m the two soon agree.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 20)) * np.geomspace(0.01, 1, 20)  # badly scaled least squares
    >>> y, w = X.sum(1) + 0.1 * rng.standard_normal(1000), np.zeros(20)
    >>> optimizer = ntsolve.MFAC(20, m=64, damp=1e-4, momentum=0.5)
    >>> for lr in np.geomspace(0.3, 1e-3, 200):
    ...     optimizer.lr, some = lr, rng.integers(0, 1000, 32)
    ...     optimizer.step(w, X[some].T @ (X[some] @ w - y[some]) / 32)
    >>> optimizer.steps, bool(np.mean((X @ w - y) ** 2) < 0.015)
    (200, True)
    """

    def __init__(self, d, *, lr=1e-3, m=1024, damp=1e-5, momentum=0.9, weight_decay=0.0, dtype="float32",
                 comm=None) -> None:  # fmt: skip
        with join(comm).together():
            self._setup(d, lr, m, damp, momentum, weight_decay, dtype, comm)

    def _setup(self, d, lr, m, damp, momentum, weight_decay, dtype, comm):
        self.lr = lr
        self.weight_decay = validate.nonnegative("weight_decay", weight_decay)
        self.momentum = validate.nonnegative("momentum", momentum)
        if self.momentum >= 1:
            raise ValueError(f"momentum must be less than 1, not {momentum}")
        self.m, self.steps = validate.count("m", m, least=1), 0
        self.fisher = EmpiricalFisher.window(self.m, d, damp, dtype=dtype, comm=comm)
        self.d = self.fisher.d
        self._mean = None  # v, once there is one

    @property
    def lr(self):
        return self._lr

    @lr.setter
    def lr(self, value):
        self._lr = validate.nonnegative("lr", value)

    @property
    def damp(self):
        return self.fisher.damp

    def __repr__(self):
        settings = ", ".join(f"{name}={getattr(self, name):g}" for name in _SETTINGS)
        return f"MFAC({self.d}, {settings}, steps={self.steps})"

    def step(self, w, g) -> None:
        """Change the weights in place by one step.

        Parameters
        ----------
        w : array (d,)
            The weights, in memory that can be written to: NumPy, CuPy, or shared through DLPack.
        g : array (d,)
            The gradient of the loss, of one batch, at w.

        Raises
        ------
        TypeError, ValueError
            Naming the argument that does not fit; then neither the weights nor the window have changed.
        """
        with self.fisher._together():
            w = self._target(w)
            change, _ = self._change(w, g)
        with kernels_for(w=w):
            w += change.astype(w.dtype, copy=False)

    def _target(self, w):
        """The weights, if they can be changed in place."""
        if home(w) is None and not hasattr(w, "__dlpack__"):
            raise TypeError(f"w must be an array, to be changed in place, not {type(w).__name__}; see MFAC.update")
        w = self._weights(w)
        if w.dtype.kind != "f":
            raise TypeError(f"w has dtype {w.dtype}: a step needs floating point numbers")
        if getattr(getattr(w, "flags", None), "writeable", True) is False:
            raise ValueError("w is read-only; MFAC.update returns the change instead of making it")
        return w

    def update(self, g, w=None) -> Any:
        """Take in a gradient and return the change to be made, for weights that cannot be changed in place.

        Parameters
        ----------
        g : array (d,)
            The gradient of the loss, of one batch.
        w : array (d,), optional
            The weights; needed for weight_decay alone.

        Returns
        -------
        array (d,)
            What to add to the weights, of g's kind.
        """
        with self.fisher._together():
            if w is None and self.weight_decay:
                raise ValueError("w is needed for weight_decay")
            change, own = self._change(None if w is None else self._weights(w), g)
        return own(change)

    def _weights(self, w):
        w = validate.own_kind("w", w)[0]
        if tuple(w.shape) != (self.d,):
            raise ValueError(f"w must have the shape ({self.d},), not {tuple(w.shape)}")
        return w

    def _change(self, w, g):
        g, own = validate.own_kind("g", g)
        with kernels_for(w=w, g=g):
            x = g
            if self.weight_decay:
                w = validate.numeric("w", w)
                x = g + w.dtype.type(self.weight_decay) * w if tuple(g.shape) == (self.d,) else g  # (1)
            self.fisher.append(x)
            step = self.fisher.solve_newest()
            if self.momentum:
                mean = self._mean if self._mean is not None else 0 * step
                step = self._mean = self.momentum * mean + (1 - self.momentum) * step  # (2)
            self.steps += 1
            return -self.lr * step, own  # (3)

    # ---- to stop and go on ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a later run needs to go on as if nothing had been: arrays and numbers, by name.

        Returns
        -------
        dict
            The settings by their names, `steps`, `gradients` (k, d), the oldest first, and `mean` (d,), the v of
            equation (2). Copies; `numpy.savez` can write them.
        """
        state = {name: getattr(self, name) for name in _SETTINGS}
        gradients = self.fisher.gradients()
        mean = 0 * gradients[:1].sum(0) if self._mean is None else self._mean.copy()
        return state | {"steps": self.steps, "gradients": gradients, "mean": mean}

    def load_state_dict(self, state) -> None:
        """Become what `state_dict` was called on; the factor is made anew, so the next steps agree to rounding.

        Parameters
        ----------
        state : dict
            With arrays where the weights are: on the CPU or on a GPU.

        Raises
        ------
        TypeError, ValueError
            Where something is missing or does not fit; then nothing has changed.
        """
        with self.fisher._together() as ranks:
            self._load(state, ranks if ranks.size > 1 else None)

    def _load(self, state, comm):
        missing = {*_SETTINGS, "steps", "gradients", "mean"} - set(state)
        if missing:
            raise ValueError(f"state has no {', '.join(sorted(missing))}")
        settings = {name: state[name].item() if hasattr(state[name], "item") else state[name] for name in _SETTINGS}
        dtype = validate.own_kind("gradients", state["gradients"])[0].dtype.name
        G, mean = (validate.numeric(name, validate.own_kind(name, state[name])[0]) for name in ("gradients", "mean"))
        if G.ndim != 2 or G.shape[1] != self.d or tuple(mean.shape) != (self.d,):
            raise ValueError(f"gradients {tuple(G.shape)}, mean {tuple(mean.shape)}: not those of {self.d} weights")
        new = MFAC(self.d, **settings, dtype=dtype, comm=comm)
        if len(G) > new.m:
            raise ValueError(f"gradients: {len(G)} are more than a window of m = {new.m} holds")
        with kernels_for(gradients=G, mean=mean):
            new.fisher = EmpiricalFisher.window(new.m, self.d, new.damp, start=G, dtype=dtype, comm=comm)
        new.steps, new._mean = validate.count("steps", int(state["steps"])), mean.copy()
        self.__dict__.update(new.__dict__)
