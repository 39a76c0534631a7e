"""The part of the bench of `ntsolve.minimize` that counts iterations: on the problems of the tests."""

import functools
import warnings

import numpy as np

import ntsolve
from tests.optimize.problems import load_all

from . import _optimize_peers as peers
from ._harness import Method, Target

FEW = ("HS6", "HS7", "HS26", "HS39", "HS46", "BT1", "BT11", "MARATOS", "BYRDSPHR", "GENHS28")  # of a quick run
SECONDS = 1.0  # that the paper's method is given for a problem
SOLVES = 9  # rows that a solve with a factorised K touches, times its order: two sweeps and a product, refined twice


def set_part(report, options, ca):
    """All problems by all methods; iterations where both ntsolve and IPOPT get to the tolerance."""
    problems = {name: p for name, p in load_all().items() if not options.quick or name in FEW}
    results = {name: _ours(problem) for name, problem in problems.items()}
    solvers = {"scipy trust-constr": _by_trust_constr, "scipy SLSQP": _by_slsqp}
    if ca is not None:
        expressions = {name: _in_casadi(ca, problem) for name, problem in problems.items()}
        solvers = {"IPOPT": lambda problem: expressions[problem.name](problem.x0)} | solvers
    found = {"ntsolve.minimize": {name: (result.x, result.nit) for name, result in results.items()}}
    for solver, solve in solvers.items():
        options.say(f"{solver} on {len(problems)} problems")
        found[solver] = {name: _quietly(solve, problem) for name, problem in problems.items()}
    solved = {solver: {name for name, (x, _) in answers.items() if _residual(problems[name], x) <= peers.TOL}
              for solver, answers in found.items()}  # fmt: skip
    for solver, answers in found.items():
        steps = sum(steps for name, (_, steps) in answers.items() if name in solved[solver])
        missed = [name for name in answers if name not in solved[solver]]
        report.lines.append(f"{solver}: {len(solved[solver])} of {len(problems)} problems to {peers.TOL:g}, "
                            f"{steps:,} iterations on these; not {', '.join(missed) or 'one missed'}")  # fmt: skip
    false = [name for name, result in results.items() if result.success and name not in solved["ntsolve.minimize"]]
    unsolved = len(problems) - len(solved["ntsolve.minimize"])
    report.targets.append(Target("Test problems that ntsolve does not solve", unsolved, 0))
    report.targets.append(Target("Test problems where it says success above the tolerance", len(false), 0))

    peer = next(iter(solvers))
    both = [name for name in problems if name in solved["ntsolve.minimize"] & solved[peer]]
    methods = [
        Method("ntsolve.minimize", functools.partial(_all, _by_ntsolve, problems, both)),
        Method(peer, functools.partial(_all, solvers[peer], problems, both), peer=True),
    ]
    table = report.contest(
        options,
        f"The {len(both)} of {len(problems)} test problems that both solve",
        methods,
        lambda answers: max(_residual(problems[name], x) for name, x in zip(both, answers, strict=True)),
        limit=peers.TOL,
        repeats=3,
        error_name="largest KKT residual",
        notes=("iterations: in sum. Seconds mean nothing here: ntsolve's are those of derivatives in slow Python.",),
    )
    ours, theirs = (table.entry(method.name).iterations for method in methods)
    report.targets.append(Target(f"Iterations in sum where both solve, over those of {peer}", ours / theirs, 0.9))
    _, most = max((found["ntsolve.minimize"][name][1] - found[peer][name][1], name) for name in both)
    report.lines.append(f"The largest difference is {most}: {found['ntsolve.minimize'][most][1]} iterations, {peer} "
                        f"{found[peer][most][1]}")  # fmt: skip
    paper_part(report, options, problems, results)


def paper_part(report, options, problems, results):
    """The paper's algorithm with Kaczmarz' method, on the same problems to the same tolerance."""
    touches, ours, wasted, seconds = [], [], 0, SECONDS / 5 if options.quick else SECONDS
    for name, problem in problems.items():
        options.say(f"the paper's method on {name}")
        slow = ntsolve.minimize(**problem.arguments(), method="adasketch", tol=peers.TOL, time_limit=seconds,
                                maxiter=10_000, on_failure="ignore")  # fmt: skip
        if slow.success and _residual(problem, slow.x) <= peers.TOL:
            touches.append(slow.inner_iterations)
            ours.append(rows_touched(results[name], problem.n + problem.m))
        else:
            wasted += slow.inner_iterations
    if not touches:
        report.lines.append(f"The paper's method with Kaczmarz solves none within {seconds:g} s each")
        return
    report.lines.append(
        f"The paper's method (adasketch, Kaczmarz), {seconds:g} s a problem: {len(touches)} of {len(problems)} to "
        f"{peers.TOL:g}, rows of K touched {sum(touches):.3g} in sum, ntsolve's default {sum(ours):.3g} on these; "
        f"{wasted:.3g} more on those it did not solve. Of the default a factorisation of order q counts as q^2 / 2 "
        f"rows, what is solved with it as {SOLVES} q"
    )
    report.targets.append(Target("Rows that the paper's method touches, over the default's, where both solve",
                                 sum(touches) / sum(ours), 1000, at_least=True))  # fmt: skip


def rows_touched(result, q):
    """By the factorisations and solves of a run with inner="ldl"."""
    return result.factorizations * q * q / 2 + (result.factorizations + result.nit) * SOLVES * q


def _residual(problem, x):
    with np.errstate(all="ignore"):
        parts = problem.grad(x), problem.constraint(x), problem.jac(x)
        return peers.kkt_residual(*parts) if all(np.isfinite(part).all() for part in parts) else np.inf


def _quietly(solve, problem):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return solve(problem)


def _all(solve, problems, names):
    """(answers, iterations in sum)"""
    found = [_quietly(solve, problems[name]) for name in names]
    return [x for x, _ in found], sum(steps for _, steps in found)


def _ours(problem):
    return ntsolve.minimize(**problem.arguments(), tol=peers.TOL, on_failure="ignore")


def _by_ntsolve(problem):
    result = _ours(problem)
    return result.x, result.nit


def _by_trust_constr(problem):
    (constraint,) = problem.arguments()["constraints"]
    return peers.trust_constr(problem.fun, problem.x0, problem.grad, problem.hess, constraint)


def _by_slsqp(problem):
    return peers.slsqp(problem.fun, problem.x0, problem.grad, problem.constraint, problem.jac,
                       lambda x: _residual(problem, x) <= peers.TOL)  # fmt: skip


def _in_casadi(ca, problem):
    x = ca.SX.sym("x", problem.n)
    f, c = problem.formulas(ca.vertsplit(x))
    return peers.Ipopt(ca, x, f, ca.vertcat(*c))
