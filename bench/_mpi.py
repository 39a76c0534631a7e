"""Programs of the bench under mpiexec: two processes beside one, and what they report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ntsolve.demo._contest import Entry

from ._harness import HERE, Table

ONE, TWO = "1 process, 1 thread", "2 processes, 1 thread each"


def launcher():
    """The path of mpiexec: this environment's, or one on the PATH; None where there is none."""
    return shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")


def run(count, module, *arguments):
    """What ``python -m bench.<module>`` on so many processes, each with one thread, prints as its last line: JSON."""
    command = [launcher(), "-n", str(count), sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "OPENBLAS", "MKL", "NTSOLVE")}
    done = subprocess.run(command, cwd=HERE.parent, env=environment, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def table(title, runs, *, error_name, limit, notes):
    """Of what one and two processes have reported, {1: [...], 2: [...]}: {seconds, iterations, error} of each run."""
    entries = []
    for count, name in ((1, ONE), (2, TWO)):
        seconds, errors = ([one[what] for one in runs[count]] for what in ("seconds", "error"))
        entries.append(Entry(name, count == 1, runs[count][-1]["iterations"], tuple(seconds), max(errors)))
    assert all(entry.error <= limit for entry in entries), entries
    return Table(title, tuple(entries), error_name, notes)


def bounds(comm, size):
    """(first, end) of the part of `size` things that is this process's."""
    return comm.rank * size // comm.size, (comm.rank + 1) * size // comm.size


def say(comm, found):
    """Rank 0 prints it for `run` to read."""
    if comm.rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")
