"""A problem whose rows are shared among ranks: what the methods ask of the others, and how often.

A rank has some rows of X, and f, a and the plan for these; Y, b, g and all else that belongs to columns is on every
rank, the same bit by bit. With the rows' scaling eliminated a method moves g alone, so that it needs from the others
one thing, sums over rows for each column: a message of m numbers for each pass over the cost or the stored kernel, and
for each product of conjugate gradients. Of the rows' own sums (values, errors) there are messages of a few numbers.

For one process `ranks` is `reductions.SERIAL`, and nothing here costs anything.
"""

import numpy as np

from ..kernels.contracts.scaling import A_NOT_POSITIVE, UNDERFLOW
from ..reductions import SERIAL


class once:
    """A property that is computed once. Unlike functools' it has no lock, under which ranks that are threads would wait
    for each other for ever.
    """

    def __init__(self, function):
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.function(instance)
        return value


def total(ranks, *numbers):
    """Sums over the ranks, in one message: a float, or a list of floats."""
    sums = np.array(numbers, dtype=float)
    ranks.total(sums)
    return sums.tolist() if len(numbers) > 1 else float(sums[0])


def columns_largest(ranks, xp, array):
    """Replace an array by its elementwise maximum over the ranks."""
    if ranks is not SERIAL:
        array[...] = xp.asarray(ranks.largest(array))


def columns_smallest(ranks, xp, array):
    """Replace an array by its elementwise minimum over the ranks."""
    if ranks is not SERIAL:
        array[...] = -xp.asarray(ranks.largest(-array))


def columns_log_sums(ranks, xp, log_sums):
    """log sum over the ranks of exp(log_sums), element by element."""
    if ranks is SERIAL:
        return log_sums
    top = xp.asarray(ranks.largest(log_sums))
    top = xp.where(xp.isfinite(top), top, 0.0)
    parts = xp.exp(log_sums - top)
    ranks.add(parts)
    with np.errstate(divide="ignore"):
        return top + xp.log(parts)


def as_first(ranks, array):
    """What rank 0 has, on all: where ranks compute the same on different machines, the last bit may differ."""
    array = array * array.dtype.type(ranks.carry)
    ranks.add(array)
    return array


def bounds(ranks, count):
    """(first, end) of the part of `count` things that is this rank's."""
    return ranks.rank * count // ranks.size, (ranks.rank + 1) * count // ranks.size


def agree(ranks, X, Y, b, init, **settings):
    """Refuse what has to be the same on every rank and is not, naming it."""
    if ranks is SERIAL:
        return
    init = init[1] if isinstance(init, (tuple, list)) and len(init) == 2 else init
    metric = settings.get("metric")
    settings["metric"] = "a function" if callable(metric) else metric
    settings["whether potentials_init is given"] = "no" if init is None else "yes"
    ranks.alike(**{"the dtype of X": str(X.dtype)}, Y=Y, b=b, **settings)
    if init is not None:
        ranks.alike(**{"g of potentials_init": np.asarray(init.get() if hasattr(init, "get") else init)})


class Left:
    """In the place of the ranks in a result that has been pickled: they are not here any more."""

    size, carry = 0, 0.0

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError("this is one rank's part of a solve with comm=, which was pickled: what was not computed "
                           "before needs the other ranks")  # fmt: skip


# ---- loops of kernels, with a message in each step -------------------------------------------------------------------


def sinkhorn_steps(store, a, power_a, b, power_b, tol, rate, warm, steps, v, s, y, err):
    """As the kernel of that name (contracts/scaling.py), for a store whose rows are shared."""
    xp, seen = store.k.xp, []
    for step in range(steps + 1):
        store.sweep(v, a, power_a, s, y)
        seen.append(_error(v, y, b, power_b))
        if not tol < seen[-1] < np.inf or (step > warm and seen[-1] > rate * seen[-2]):
            break
        if step < steps:
            v[:] = xp.where(b > 0, xp.where(b > 0, b / y, 1.0) ** power_b, v)
    err.fill(-1)
    err[: len(seen)] = xp.asarray(seen)


def _error(v, y, b, power_b):
    if bool((y[b > 0] <= UNDERFLOW).any()):
        return np.inf
    target = b if power_b == 1 else b * v ** (1 - 1 / power_b)
    return float(abs(v * y - target).sum())


def schur_cg_steps(store, T, q, d, dinv, tol2, steps, x, r, p, rz, t, work):
    """As the kernel of that name, for a store whose rows are shared: x, r, p are the same on all ranks."""
    xp, y, last = store.k.xp, store.k.xp.empty_like(p), float(rz[0])
    seen = []
    for _ in range(steps):
        if not last > tol2:
            break
        store.k.scaling_products(*T, p, q, None, t, y, work)
        store.ranks.add(y)
        xp.subtract(d * p, y, out=y)
        curvature = float(p @ y)
        if not curvature > 0:
            last = A_NOT_POSITIVE
            break
        length = last / curvature
        x += length * p
        r -= length * y
        z = dinv * r
        before, last = last, float(z @ r)
        seen.append(last)
        if last > tol2:
            p *= last / before
            p += z
    rz[1:] = xp.asarray(seen + [last] * (len(rz) - 1 - len(seen)))
