"""Inverse-Hessian-vector products on a network for handwritten digits: products needed, and time."""

import functools
import itertools

import numpy as np
import scipy.sparse.linalg

import ntsolve
from ntsolve.demo import need
from ntsolve.demo._network import Network, digits

from ._harness import Method, Options, Report, Target

CLAIM = (
    "ihvp with the Gauss-Newton matrix of a network for handwritten digits, damp 1e-4: at most 0.45 of the products of "
    "textbook conjugate gradients to a residual of 1e-6, those of the sketch included."
)
RTOL = 1e-6
DAMP = 1e-4
SEEDS = 5


def run(options: Options) -> Report:
    """One vector in detail, then several at once, then other networks and vectors."""
    report = Report()
    (threadpoolctl,) = need("threadpoolctl")
    with threadpoolctl.threadpool_limits(1, "blas"):  # matrices are small: more threads wait for each other
        one_vector(report, options)
        several_vectors(report, options)
        other_networks(report, options)
    return report


def problem(seed, quick):
    """(network, weights, data) of a network that was trained."""
    data, network = digits(seed), Network((64, 8, 10) if quick else (64, 32, 32, 10))
    w = network.train(data.pixels, data.labels, np.random.default_rng(seed), epochs=5 if quick else 60)
    return network, w, data


class Counted:
    """A product that counts its calls."""

    def __init__(self, product):
        self.product, self.calls = product, 0

    def __call__(self, x):
        self.calls += 1
        return self.product(x)


def _ihvp(product, v, **options):
    counted = Counted(product)
    result = ntsolve.ihvp(counted, v, damp=DAMP, rtol=RTOL, on_failure="ignore", **options)
    assert result.products == counted.calls
    return result.x, counted.calls


def _scipy(name, product, v):
    counted = Counted(lambda x: product(x) + DAMP * x)
    A = scipy.sparse.linalg.LinearOperator((v.size, v.size), counted, dtype=float)
    x, _ = getattr(scipy.sparse.linalg, name)(A, v, rtol=RTOL)
    return x, counted.calls


def _rows(solve, V):
    answers = [solve(v) for v in V]
    return np.stack([x for x, _ in answers]), sum(calls for _, calls in answers)


def _residual(product, v, x):
    """Relative, the largest of the rows."""
    rows = zip(np.atleast_2d(v), np.atleast_2d(x), strict=True)
    return max(float(np.linalg.norm(b - product(y) - DAMP * y) / np.linalg.norm(b)) for b, y in rows)


def one_vector(report, options):
    """(a) The gradient on held-out data, as for influence functions and hypergradients."""
    network, w, data = problem(0, options.quick)
    product = network.gauss_newton(w, data.pixels)
    v = network.gradient(w, data.held_out_pixels, data.held_out_labels)
    m = 64 if options.quick else 512

    def fisher_too():
        chosen = np.random.default_rng(0).choice(len(data.labels), m, replace=False)
        G = network.gradients(w, data.pixels[chosen], data.labels[chosen])
        return _ihvp(product, v, M=ntsolve.EmpiricalFisher(G, damp=DAMP))

    sketch, textbook = "ntsolve.ihvp, Nystrom, rank 50", "ntsolve.ihvp, cg, textbook (keep 0)"
    ours = {
        sketch: functools.partial(_ihvp, product, v, rng=0),
        "the same without residuals kept": functools.partial(_ihvp, product, v, rng=0, keep=0),
        "ntsolve.ihvp, cg": functools.partial(_ihvp, product, v, method="cg"),
        textbook: functools.partial(_ihvp, product, v, method="cg", keep=0),
        f"ntsolve.ihvp, EmpiricalFisher of {m} gradients as M": fisher_too,
        "ntsolve.ihvp, minres": functools.partial(_ihvp, product, v, method="minres"),
    }
    methods = [Method(name, call, call) for name, call in ours.items()]
    methods += [Method(f"scipy {name}", functools.partial(_scipy, name, product, v), peer=True) for name in ("cg",)]
    table = report.contest(
        options,
        f"Gauss-Newton matrix of order {network.d:,} + {DAMP:g}, gradient on held-out data, rtol {RTOL:g}",
        methods,
        functools.partial(_residual, product, v),
        limit=1.01 * RTOL,
        repeats=5,
        error_name="relative residual",
        notes=(
            "Iterations are products here, those of sketches and verified residuals included.",
            "The time with an EmpiricalFisher is that of its gradients and of its making, too.",
            "BLAS on 1 thread.",
        ),
    )
    ratio = table.entry(sketch).iterations / table.entry(textbook).iterations
    report.targets.append(Target("Nystrom-PCG: products, sketch included, over those of textbook CG", ratio, 0.45))
    for method, terms in (("neumann", 200 if options.quick else 3000),):
        result = ntsolve.ihvp(product, v, damp=DAMP, method=method, maxiter=terms, rng=0, on_failure="ignore")
        left = result.residual / np.linalg.norm(v)
        report.lines.append(f"The Neumann series, {terms} terms: a relative residual of {left:.2g} is left.")


def several_vectors(report, options):
    """(b) A sketch for many vectors: the gradients of single examples."""
    network, w, data = problem(0, options.quick)
    product = network.gauss_newton(w, data.pixels)
    count = 3 if options.quick else 16
    V = network.gradients(w, data.held_out_pixels[:count], data.held_out_labels[:count]).astype(float)
    names = ("ntsolve.ihvp, one call", "ntsolve.ihvp, cg, one call")
    methods = [
        Method(name, functools.partial(_ihvp, product, V, method=method, rng=0))
        for name, method in zip(names, ("nystrom", "cg"), strict=True)
    ]
    loop = functools.partial(_rows, functools.partial(_scipy, "cg", product), V)
    methods.append(Method("loop over scipy cg", loop, peer=True))
    report.contest(
        options,
        f"{count} vectors, the gradients of single examples",
        methods,
        functools.partial(_residual, product, V),
        limit=1.01 * RTOL,
        repeats=3,
        error_name="largest relative residual",
        notes=("Iterations are products, of all vectors together.", "BLAS on 1 thread."),
    )


def other_networks(report, options):
    """(c) Ratios for other seeds, of data, training and sketch, and for random vectors."""
    ratios = []
    for seed, kind in itertools.product(range(1, 2 if options.quick else SEEDS), ("gradient", "random vector")):
        options.say(f"network {seed}, {kind}")
        network, w, data = problem(seed, options.quick)
        product = network.gauss_newton(w, data.pixels)
        v = network.gradient(w, data.held_out_pixels, data.held_out_labels)
        if kind != "gradient":
            v = np.random.default_rng(seed).standard_normal(network.d)
        textbook = _ihvp(product, v, method="cg", keep=0)[1]
        ratios.append((_ihvp(product, v, rng=seed)[1] / textbook, _ihvp(product, v, method="cg")[1] / textbook))
    text = ("Nystrom {:.2f} to {:.2f}, cg with residuals kept {:.2f} to {:.2f}").format(
        *(f(ratio[i] for ratio in ratios) for i in (0, 1) for f in (min, max))
    )
    report.lines.append(f"Products over those of textbook CG on {len(ratios)} other networks and vectors: {text}.")
