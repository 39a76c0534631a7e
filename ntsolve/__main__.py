"""`python -m ntsolve info | warmup | demo | solve`: what is there, compile ahead, see it work, solve a file."""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from . import _environment, config, demo
from .kernels import contracts
from .kernels.settings import available_threads


def main(argv=None):
    """Run a command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ntsolve", description="Numerical solvers for the CPU and the GPU.")
    parser.add_argument("--version", action="version", version=_environment.__version__)
    commands = parser.add_subparsers(required=True, metavar="info | warmup | demo | solve")

    info = commands.add_parser("info", help="versions, backends, devices, threads, caches")
    info.set_defaults(run=lambda arguments: print(about()) or 0)

    warm = commands.add_parser("warmup", help="compile what can be compiled ahead, for this CPU and its GPU")
    warm.set_defaults(run=lambda arguments: warmup())

    show = commands.add_parser("demo", help="see it solve something, beside what one would use without it")
    names = demo.scenes()
    show.add_argument("--scene", choices=[*names, "all"], default=names[0], help=f"default: {names[0]}")
    show.add_argument("--plot", type=Path, metavar="OUT.png", help="write a picture as well")
    show.add_argument("--threads", type=_positive, help=f"for ntsolve; default: {available_threads()}")
    show.add_argument("--quick", action="store_true", help="a small problem")
    show.set_defaults(run=show_scenes)

    solve = commands.add_parser("solve", help="solve a linear program from an MPS file")
    solve.add_argument("file", type=Path, help="fixed or free format, plain or compressed by gzip")
    solve.add_argument("--tol", type=float, default=1e-6, help="relative; default: %(default)g")
    solve.add_argument("--time-limit", type=float, metavar="SECONDS")
    solve.add_argument("--threads", type=_positive, help=f"default: {available_threads()}")
    solve.add_argument("--solution", type=Path, metavar="OUT.txt", help="write the values of all columns")
    solve.set_defaults(run=solve_file)

    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


# ---- info -----------------------------------------------------------------------------------------------------------


def about():
    """What `info` prints."""
    found, why_not = _environment.gpus()
    pools = _environment.blas()
    rows = list(_environment.versions().items())
    rows += [
        ("CPU", _environment.processor()),
        ("threads", f"{available_threads()} for CPU kernels (NTSOLVE_NUM_THREADS, ntsolve.config(threads=...))"),
        ("backends", "cpu, cuda" if found else "cpu"),
        *((f"GPU {number}", device) for number, device in enumerate(found)),
    ]
    if not found:
        rows.append(("GPU", f"none. {why_not}"))
    rows += [("BLAS", f"{name} {release}, {count} threads") for name, release, count in pools or []]
    rows.append(("Numba cache", _environment.numba_cache()))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


# ---- warmup ---------------------------------------------------------------------------------------------------------


def smallest_cases(contract):
    """One case, as small as there is, for each combination of argument types that a kernel is compiled for."""
    found: dict[tuple, tuple] = {}
    for dtype in ("float32", "float64"):
        for case in contract.cases(np.random.default_rng(0), np.dtype(dtype)):
            arrays = [v for v in case if isinstance(v, np.ndarray)]
            key = tuple((v.dtype.name, v.ndim) if isinstance(v, np.ndarray) else type(v) for v in case)
            # an empty array may return before anything is compiled
            size = (any(v.size == 0 for v in arrays), sum(v.size for v in arrays))
            if key not in found or size < found[key][0]:
                found[key] = (size, case)
    return [case for _, case in found.values()]


def warmup(stream=None):
    """Run each kernel of each backend on its smallest cases, which compiles it and keeps the result on disk."""
    from tqdm import tqdm

    import ntsolve.kernels.cpu as cpu

    backends = [cpu]
    if _environment.gpus()[0]:
        import ntsolve.kernels.cuda as cuda

        backends.append(cuda)
    registry = contracts.load_all()
    jobs = [(k, name, case) for name in sorted(registry) for case in smallest_cases(registry[name]) for k in backends]
    began = time.perf_counter()
    bar = tqdm(jobs, desc="compiling", file=stream or sys.stderr, disable=None)
    for k, name, case in bar:
        bar.set_postfix_str(f"{name}, {k.NAME}")
        getattr(k, name)(*[k.xp.array(v) if isinstance(v, np.ndarray) else v for v in case])
        k.synchronize()
    where = " and ".join(k.NAME for k in backends)
    print(f"{len(registry)} kernels ready on {where}, {len(jobs)} variants, {time.perf_counter() - began:.1f} seconds")
    return 0


# ---- demo -----------------------------------------------------------------------------------------------------------


def show_scenes(arguments):
    """Run the scenes asked for and print their tables."""
    names = demo.scenes() if arguments.scene == "all" else [arguments.scene]
    began = time.perf_counter()
    try:
        for number, name in enumerate(names):
            scene = demo.load(name)
            plot = arguments.plot
            if plot is not None and len(names) > 1:
                plot = plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
            with StatusLine() as status, config(threads=arguments.threads):
                options = demo.Options(arguments.quick, plot, arguments.threads, sys.stderr.isatty(), status.say)
                table = scene.run(options)
                facts = _environment.describe()
            print("\n" * (number > 0) + str(table))
            print(_environment.line(facts))
            if plot is not None:
                print(f"picture: {plot}")
    except demo.MissingExtra as missing:
        print(missing, file=sys.stderr)
        return 2
    print(f"{time.perf_counter() - began:.1f} seconds in all, compiling included where it was needed")
    return 0


# ---- solve ----------------------------------------------------------------------------------------------------------


def solve_file(arguments):
    """Solve a program from a file and say how it went; 0 if it is solved, 1 if not, 2 if the file cannot be read."""
    from . import read_mps
    from .errors import MPSError

    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            program = read_mps(arguments.file)
    except (OSError, MPSError) as error:
        print(error, file=sys.stderr)
        return 2
    for remark in remarks:
        print(remark.message, file=sys.stderr)
    try:
        if arguments.solution is not None:
            arguments.solution.open("a").close()  # before the work of solving it
        with config(threads=arguments.threads):
            result = program.solve(tol=arguments.tol, time_limit=arguments.time_limit, on_failure="ignore")
        print(solution_summary(program, result))
        if arguments.solution is not None:
            lines = [f"{name} {value!r}\n" for name, value in zip(program.column_names, result.x.tolist(), strict=True)]
            arguments.solution.write_text("".join(lines), "utf-8", errors="surrogateescape")
            print(f"solution: {arguments.solution}")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if result.success else 1


def solution_summary(program, result):
    """What `solve` prints."""
    m, n = program.A.shape
    rows = [
        ("problem", f"{program.name or 'without a name'}: {m} rows, {n} columns, {program.A.nnz} entries"),
        ("status", f"{result.status.name}. {result.message}"),
        ("maximum" if program.maximize else "objective", f"{program.objective(result.x):.12g}"),
        ("errors", f"primal {result.primal_error:.1e}, dual {result.dual_error:.1e}, gap {result.gap_error:.1e}"),
        ("iterations", f"{result.nit}"),
        ("seconds", f"{result.elapsed:.3g}"),
    ]
    if result.ray is not None:
        crossed = np.flatnonzero(program.lower > program.upper)
        proof = f"a ray with {np.count_nonzero(result.ray)} entries that are not zero"
        if crossed.size and not result.ray.any():
            proof = f"the bounds of column {program.column_names[crossed[0]]} contradict each other"
        rows[2:4] = [("proof", proof)]
    return "\n".join(f"{name:10}  {value}" for name, value in rows)


class StatusLine:
    """One line on standard error that says what is being done, where that is a terminal."""

    def __init__(self):
        self._shown, self._terminal = 0, sys.stderr.isatty()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.say("")

    def say(self, line):
        if self._terminal:
            print("\r" + line.ljust(self._shown), end="" if line else "\r", file=sys.stderr, flush=True)
            self._shown = len(line)


if __name__ == "__main__":
    sys.exit(main())
