"""ntsolve.minimize against IPOPT (through CasADi), SciPy's trust-constr and SLSQP, on five kinds of problem."""

import dataclasses
import functools
import json
import subprocess
import sys

import numpy as np

import ntsolve
from ntsolve.demo.constrained_regression import trust_constr as regression_by_trust_constr

from . import _optimize_peers as peers
from ._harness import HERE, Method, Options, Report, Target, contest
from ._optimize_problems import (
    Plate,
    Quartics,
    data,
    dense_regression,
    plate_in_casadi,
    regression_in_casadi,
    sparse_regression,
)
from ._optimize_set import set_part

CLAIM = (
    "Equality-constrained minimization: outer iterations at most 0.9 of IPOPT's on the test problems; logistic "
    "regression in at most 0.5 of IPOPT's time; control of a PDE in at most 0.6 of it; sketched Hessians 3.5 times as "
    "fast as exact ones; 1,000 small problems at least 200 times as fast as a loop over trust-constr."
)
THREADS = 2
LIMIT = 1.01 * peers.TOL  # of the residual, whose multipliers are not a method's own
PEER_LIMIT = 10 * peers.TOL  # a peer's multipliers and scaling are not those of the residual
DENSE_TOL = 1e-6  # X is in float32
GIGABYTES = 4
ERROR = "KKT residual"


def run(options: Options) -> Report:
    """Every part."""
    report = Report()
    ca = peers.casadi(options.quick)
    if ca is None:
        report.lines.append("CasADi is not installed: IPOPT is left out")
    else:
        report.lines.append(
            f"{peers.ipopt_version(ca)}; tol, dual_inf_tol and constr_viol_tol {peers.TOL:g}, other options as they "
            "are. It gets exact derivatives, as expressions that are evaluated without Python; making them is not timed"
        )
    report.lines.append("KKT residual: largest entry of c and of the Lagrangian's gradient, at multipliers of least "
                        "squares, unscaled, by the same code for every method")  # fmt: skip
    with ntsolve.config(threads=THREADS):
        for part in (set_part, regression_part, control_part, batch_part, dense_part, large_part):
            part(report, options, ca)
    return report


def _minimize(problem, functions, **more):
    """(x, iterations) of ntsolve on (fun, jac, hess)."""
    fun, jac, hess = functions
    result = ntsolve.minimize(fun, problem.start, jac=jac, hess=hess, constraints=problem.constraint,
                              on_failure="ignore", **{"tol": peers.TOL} | more)  # fmt: skip
    return result.x, int(np.max(result.nit))


def regression_part(report, options, ca):
    """Logistic regression on sparse data under ten linear constraints and a sphere."""
    if not options.quick and not data("libsvm/a9a.npz").exists():
        report.lines.append(f"{data('libsvm/a9a.npz')} is not there (NTSOLVE_DATA): logistic regression is left out")
        return
    title, problem = sparse_regression(options.quick)

    def residual(x):
        return peers.kkt_residual(problem.gradient(x), problem.violation(x), problem.jacobian(x))

    ours = functools.partial(_minimize, problem, (problem.loss, True, problem.hessian))
    methods = [
        Method("ntsolve.minimize", ours, ours),
        Method("scipy trust-constr", functools.partial(regression_by_trust_constr, problem), peer=True),
        Method("scipy SLSQP", functools.partial(
            peers.slsqp, problem.loss, problem.start, True, problem.violation, problem.jacobian,
            lambda x: residual(x) <= peers.TOL), peer=True),
    ]  # fmt: skip
    if ca is not None:
        solver = peers.Ipopt(ca, *regression_in_casadi(ca, problem))
        methods.insert(1, Method("IPOPT", functools.partial(solver, problem.start), peer=True))
    table = report.contest(
        options,
        f"Logistic regression, {title}, {problem.b.size} linear constraints and a sphere",
        methods,
        residual,
        limit=PEER_LIMIT,
        repeats=3,
        error_name=ERROR,
        notes=(
            "ntsolve gets the Hessian as factors, X and d; trust-constr as products, quicker for it than the matrix;",
            "IPOPT X' diag(d) X as one expression, three times as fast as CasADi's own derivative; SLSQP none, and is",
            "stopped where it meets the tolerance.",
        ),
    )
    name = methods[0].name
    for peer, bound in (("IPOPT", 0.5), ("scipy trust-constr", 0.25)):
        if any(entry.method == peer for entry in table.entries):
            ratio = table.entry(name).median / table.entry(peer).median
            report.targets.append(Target(f"Logistic regression: time over that of {peer}", ratio, bound))


def control_part(report, options, ca):
    """Control of a semilinear elliptic equation."""
    for N, bound in ((15, 0.6),) if options.quick else ((127, 0.6), (223, 0.8)):
        plate = Plate(N)
        functions = plate.objective, plate.gradient, plate.hessian
        name = "ntsolve.minimize, state solve by sine transforms"
        swift = functools.partial(_minimize, plate, functions, state_solve=plate.state_solve)
        methods = [
            Method(name, swift, swift),
            Method('ntsolve.minimize, inner="reduced"',
                   functools.partial(_minimize, plate, functions, inner="reduced")),
        ]  # fmt: skip
        if ca is not None:
            solver = peers.Ipopt(ca, *plate_in_casadi(ca, plate))
            methods.append(Method("IPOPT", functools.partial(solver, plate.start), peer=True))
        else:
            methods.append(Method("scipy trust-constr", functools.partial(_plate_by_trust_constr, plate), peer=True))
        table = report.contest(
            options,
            f"Control of -Laplace w + w^3 = z, {N} x {N} points, {2 * plate.points:,} unknowns",
            methods,
            functools.partial(_plate_residual, plate),
            limit=PEER_LIMIT,
            repeats=3,
            error_name=ERROR,
            notes=(
                "A state solve is the user's to bring: here conjugate gradients with a fast sine transform.",
                'inner="reduced" alone factorises the state equation by SuperLU; IPOPT the whole system by MUMPS.',
            ),
        )
        ratio = table.ratio(name)
        report.targets.append(Target(f"Control, {2 * plate.points:,} unknowns: time over that of "
                                     f"{table.fastest_peer.method}", ratio, bound))  # fmt: skip


def _plate_by_trust_constr(plate):
    return peers.trust_constr(plate.objective, plate.start, plate.gradient, plate.hessian, plate.constraint,
                              sparse=True)  # fmt: skip


def _plate_residual(plate, x):
    return peers.kkt_residual(plate.gradient(x), plate.equation(x), plate.jacobian_operator(x), plate.normal_inverse)


def large_part(report, options, ca):
    """A million unknowns without a matrix, in a process of its own, whose memory is measured."""
    N = 31 if options.quick else 707
    options.say(f"control with {2 * N * N:,} unknowns, in a process of its own")
    done = subprocess.run([sys.executable, "-m", "bench._optimize_large", str(N)], cwd=HERE.parent, text=True,
                          capture_output=True, check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    report.lines.append(
        f"Control, {2 * N * N:,} unknowns, no matrix: {found['seconds']:.3g} s, {found['iterations']} iterations, "
        f"{found['inner']} of conjugate gradients inside; {ERROR} {found['residual']:.1e}, {found['status']}"
    )
    report.targets.append(Target(f"Control, {2 * N * N:,} unknowns: {ERROR}", found["residual"], LIMIT))
    report.targets.append(Target("and its memory, GB", found["gigabytes"], GIGABYTES))


def batch_part(report, options, ca):
    """Many small problems in one call."""
    count, measured = (200, 5) if options.quick else (1000, 40)
    problems = Quartics(count)
    functions = problems.objective, problems.gradient, problems.hessian
    ours = functools.partial(_minimize, problems, functions, args=problems.of_objective)

    def loop():
        found = [problems.alone(i).by_trust_constr() for i in range(measured)]
        return np.stack([x for x, _ in found]), max(steps for _, steps in found)

    def worst(x):
        return max(problems.alone(i).residual(xi) for i, xi in enumerate(x))

    name, peer = "ntsolve.minimize, one call", f"loop over scipy trust-constr ({measured} of them, scaled to all)"
    table = contest(
        f"{count:,} problems of 10 variables on a sphere and two planes",
        [Method(name, ours, ours), Method(peer, loop, peer=True)],
        worst,
        limit=PEER_LIMIT,
        repeats=1 if options.quick else 3,
        error_name=f"largest {ERROR}",
        notes=("iterations: the most that a problem took.",),
        say=options.say,
    )
    entries = [
        dataclasses.replace(e, seconds=tuple(s * count / measured for s in e.seconds)) if e.peer else e
        for e in table.entries
    ]
    table = dataclasses.replace(table, entries=tuple(entries))
    report.tables.append(table)
    report.targets.append(Target("Batch: times as fast as the loop", 1 / table.ratio(name), 200, at_least=True))
    report.targets.append(Target(f"Batch: largest {ERROR}", table.entry(name).error, LIMIT))


def dense_part(report, options, ca):
    """Dense data, where forming the Hessian is what takes the time."""
    N, n = (3000, 60) if options.quick else (100_000, 2000)
    problem = dense_regression(N, n)
    products = {}

    def solve(precond):
        result = ntsolve.minimize(problem.loss, problem.start, jac=True, hess=problem.hessian, inner="nullspace",
                                  constraints=problem.constraint, precond=precond, tol=DENSE_TOL,
                                  on_failure="ignore")  # fmt: skip
        products[precond] = result.products
        return result.x, result.nit

    names = {"rows": "sketched: 2 n sampled rows", "exact": "exact Hessian formed"}
    methods = [
        Method(name, functools.partial(solve, kind), peer=kind == "exact") for kind, name in names.items()
    ]
    methods[0] = dataclasses.replace(methods[0], prepare=functools.partial(_compile_sketches))
    table = report.contest(
        options,
        f"Logistic regression, dense X {N:,} x {n:,} in float32, {problem.b.size} linear constraints and a sphere",
        methods,
        lambda x: peers.kkt_residual(problem.gradient(x), problem.violation(x), problem.jacobian(x)),
        limit=1.1 * DENSE_TOL,
        repeats=1,
        error_name=ERROR,
        notes=('Both ntsolve.minimize with inner="nullspace": the peer is its own path with the exact Hessian.',),
    )
    gain = 1 / table.ratio(names["rows"])
    report.targets.append(Target("Sketched Hessian: times as fast as the exact one", gain, 3.5, at_least=True))
    report.targets.append(Target("Sketched Hessian: products with it, over those with the exact one",
                                 products["rows"] / products["exact"], 1.2))  # fmt: skip


def _compile_sketches():
    problem = dense_regression(600, 20)
    ntsolve.minimize(problem.loss, problem.start, jac=True, hess=problem.hessian, inner="nullspace",
                     constraints=problem.constraint, tol=DENSE_TOL, on_failure="ignore")  # fmt: skip
