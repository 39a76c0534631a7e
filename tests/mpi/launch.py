"""Programs under mpiexec: where it is, what they are given, how long they may take, and what they have said."""

import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from .programs import run_checks

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNS = 5  # of the same checks, where one that hangs has taken the rest with it


@dataclass
class Done:
    """A program that has ended; `output` is all that its ranks have printed."""

    code: int
    output: str
    seconds: float


@functools.cache
def mpiexec():
    """The path of this environment's launcher, or else of one on the PATH; None where there is none."""
    beside = pathlib.Path(sys.executable).parent
    return shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")


@functools.cache
def missing():
    """Why nothing can be run here; None where it can."""
    if importlib.util.find_spec("mpi4py") is None:
        return 'mpi4py is not installed: pip install "ntsolve[mpi]"'
    if mpiexec() is None:
        return "there is no mpiexec"
    return None


def run(size, *arguments, timeout=120.0, unseen=False):
    """``python *arguments`` on `size` ranks, one thread each; a TimeoutError ends all.

    `unseen`: the launcher, which ends all where it sees that one is gone, does not see it of rank 1 for a minute.
    """
    python = [sys.executable, "-W", "error", *map(str, arguments)]
    hidden = ["sh", "-c", '"$@" || { code=$?; [ "$PMI_RANK" = 1 ] && sleep 60; exit $code; }', "sh"] if unseen else []
    command = [mpiexec(), "-n", str(size), *hidden, *python]
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "OPENBLAS", "MKL", "NTSOLVE")}
    environment["PYTHONUNBUFFERED"] = "1"
    began = time.perf_counter()
    with one_at_a_time(), tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if process.poll() is None:
                end(process)
        output.seek(0)
        said = output.read()
    if late:
        raise TimeoutError(f"{' '.join(command)} took more than {timeout:g} s; it said:\n{said}")
    return Done(process.returncode, said, time.perf_counter() - began)


def end(process):
    """The launcher, which ends its ranks when it is asked to; and by force what is left of its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


@contextlib.contextmanager
def one_at_a_time():
    """Ranks wait by spinning: two such runs on one machine are slower than one after the other."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(pathlib.Path(tempfile.gettempdir()) / f"ntsolve-mpi-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class Report:
    """What became of the checks: {name: seconds}, {name: {rank: how it failed}}, and what was printed."""

    seconds: dict
    failures: dict
    output: str

    def __str__(self):
        if not self.failures:
            return f"{len(self.seconds)} checks passed"
        lines = [f"{len(self.failures)} of {len(self.seconds)} checks failed: {', '.join(self.failures)}"]
        for name, ranks in self.failures.items():
            for rank, failure in sorted(ranks.items()):
                lines += [f"---- {name}, rank {rank}", failure]
        return "\n".join([*lines, "---- printed", self.output[-10_000:]])


def run_all_checks(size, *wanted, timeout=400.0):
    """The `Report` of tests/mpi/checks on `size` ranks."""
    left, report = list(run_checks.found(wanted)), Report({}, {}, "")
    for _ in range(RUNS):
        if not left:
            break
        with tempfile.TemporaryDirectory() as folder:
            done = run(size, "-m", "tests.mpi.programs.run_checks", folder, *left, timeout=timeout)
            entries = [json.loads(line) for rank in sorted(pathlib.Path(folder).glob("*.jsonl"))
                       for line in rank.read_text("utf-8").splitlines()]  # fmt: skip
        report.output += done.output
        began = {entry["check"] for entry in entries}
        latest = {(entry["check"], entry["rank"]): entry for entry in entries}  # the second line of two counts
        for (name, rank), entry in latest.items():
            report.seconds[name] = max(report.seconds.get(name, 0.0), entry.get("seconds", 0.0))
            if entry["failure"] is not None:
                report.failures.setdefault(name, {})[rank] = entry["failure"]
        if not began:
            break
        left = [name for name in left if name not in began]
        if done.code and not report.failures:
            report.failures["mpiexec"] = {"-": f"ended with {done.code}"}
    for name in left:
        report.failures[name] = {"-": "was not run"}
    return report
