"""A linear program by its primal-dual map: the plain iteration, Halpern's, and Halpern's restarted, side by side.

The map is that of the primal-dual hybrid gradient method (Chambolle and Pock, 2011) for transport between histograms,

    P+ = max(P - s (C - u 1' - 1 v'), 0),   u+ = u + s (a - (2 P+ - P) 1),   v+ = v + s (b - (2 P+ - P)'1),

whose fixed points are the solutions. It is nonexpansive, and that is all that the solver is told.
"""

import functools

import numpy as np

import ntsolve

from . import Options
from ._contest import Method, Table, contest
from ._picture import blank, save

FALL = 1e-5  # of the residual
PLAIN_HALPERN = {"reflect": False, "restart": None, "anchor": "classic"}


def run(options: Options) -> Table:
    """Count and time the iterations to the same residual."""
    T, start = histograms(12 if options.quick else 25)
    tol = FALL * residual(T, start)
    methods = [
        Method("ntsolve.halpern", functools.partial(halpern, T, start, tol), functools.partial(halpern, T, start, tol)),
        Method("plain iteration", functools.partial(plain, T, start, tol), peer=True),
    ]
    table = contest(
        f"Transport between histograms of {len(start['u'])} bins, by its primal-dual map, to {FALL:g} of the residual",
        methods,
        lambda x: residual(T, x) / residual(T, start),
        limit=1.001 * FALL,
        repeats=1,
        error_name="residual / first residual",
        notes=("Iterations are evaluations of the map, which is what counts for maps that take longer than this one.",),
        say=options.say,
    )
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, T, start, tol, table.entry("plain iteration").iterations)
    return table


def histograms(n):
    """(T, start) for two mixtures of bumps on a line, at squared distances."""
    x = np.linspace(0, 1, n)
    a = np.exp(-((x - 0.25) ** 2) / 0.01) + 0.5 * np.exp(-((x - 0.7) ** 2) / 0.004) + 0.01
    b = np.exp(-((x - 0.5) ** 2) / 0.003) + np.exp(-((x - 0.85) ** 2) / 0.008) + 0.01
    a, b, C = a / a.sum(), b / b.sum(), (x[:, None] - x) ** 2
    s = 0.99 / np.sqrt(2 * n)  # the constraints have the norm sqrt(2 n)

    def T(z):
        P = np.maximum(z["P"] - s * (C - z["u"][:, None] - z["v"]), 0)
        ahead = 2 * P - z["P"]
        return {"P": P, "u": z["u"] + s * (a - ahead.sum(1)), "v": z["v"] + s * (b - ahead.sum(0))}

    return T, {"P": np.zeros((n, n)), "u": np.zeros(n), "v": np.zeros(n)}


def residual(T, z):
    """||z - T(z)||"""
    t = T(z)
    return float(np.sqrt(sum(np.sum((z[name] - t[name]) ** 2) for name in z)))


def halpern(T, start, tol, **options):
    """(answer, evaluations)"""
    result = ntsolve.halpern(T, start, tol=tol, **options)
    return result.x, result.nfev


def plain(T, start, tol, residuals=None):
    """The same, of z <- T(z)."""
    z, count = start, 0
    while True:
        t, count = T(z), count + 1
        left = float(np.sqrt(sum(np.sum((z[name] - t[name]) ** 2) for name in z)))
        if residuals is not None:
            residuals.append(left)
        if left <= tol:
            return z, count
        z = t


def draw(path, T, start, tol, longest):
    """The residual by evaluations of the map."""
    figure = blank(9, 5.4)
    axes = figure.add_subplot()
    residuals: list = []
    plain(T, start, tol, residuals)
    axes.loglog(np.arange(1, len(residuals) + 1), residuals, label="plain iteration", color="0.45")
    for name, options in (
        ("Halpern", PLAIN_HALPERN),
        ("Halpern, restarted and reflected", {}),
        ("with Anderson's acceleration", {"accelerate": "anderson"}),
    ):
        history = ntsolve.halpern(T, start, tol=tol, maxiter=longest, on_failure="ignore", **options).history
        axes.loglog(np.arange(1, len(history) + 1), history, label=name)
    axes.axhline(tol, color="0.7", linewidth=0.8)
    axes.set_title("Transport between histograms, as a linear program")
    axes.set(xlabel="evaluations of the map", ylabel="||x - T(x)||")
    axes.legend(frameon=False)
    save(figure, path)
