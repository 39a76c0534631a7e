"""Under mpiexec: the checks of tests/mpi/checks, one after the other, what became of each noted in FOLDER.

    mpiexec -n 2 python -m tests.mpi.programs.run_checks FOLDER [basics cg.check_uneven ...]

A line of JSON for each check and rank: {check, rank, seconds, failure}. A rank that hangs ends the run.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import pathlib
import pkgutil
import sys
import time
import traceback
import warnings

import ntsolve

from .. import checks

LIMIT = 120.0  # seconds a check, where kernels are to be compiled
PATIENCE = 10.0  # for the others, of one that has failed


def found(wanted=()):
    """{name: function} of the checks in `wanted`: of modules, or functions as module.name; of all."""
    names = {}
    for info in pkgutil.iter_modules(checks.__path__):
        if wanted and info.name not in [name.partition(".")[0] for name in wanted]:
            continue
        module = importlib.import_module(f"{checks.__name__}.{info.name}")
        for name, function in vars(module).items():
            own = getattr(function, "__module__", "") == module.__name__
            if own and (name == "check" or name.startswith("check_")):
                names[f"{info.name}.{name}"] = function
    return {name: names[name] for name in names
            if not wanted or name in wanted or name.partition(".")[0] in wanted}  # fmt: skip


def main(folder, *wanted):
    """Run the checks; 0 unless one has failed on any rank."""
    from mpi4py import MPI

    world, failures = MPI.COMM_WORLD, 0
    with open(pathlib.Path(folder) / f"{world.rank}.jsonl", "a", encoding="utf-8") as notes:
        for name, function in found(wanted).items():
            failure = attempt(world, name, function, notes)
            with patience(PATIENCE if failure else LIMIT):
                failures += any(world.allgather(failure))
    return 1 if failures else 0


def attempt(world, name, function, notes):
    """Run one check and note what became of it; whether it failed here."""
    notes.write(json.dumps({"check": name, "rank": world.rank, "failure": "did not come to its end"}) + "\n")
    notes.flush()
    comm, failure, began = world.Dup(), None, time.perf_counter()
    try:
        with patience(LIMIT), warnings.catch_warnings(), ntsolve.config(threads=1):
            warnings.simplefilter("error")
            function(comm)
    except BaseException:  # all that it may raise is a failure, and noted
        failure = traceback.format_exc()
    entry = {"check": name, "rank": world.rank, "seconds": time.perf_counter() - began, "failure": failure}
    notes.write(json.dumps(entry) + "\n")
    notes.flush()
    gc.collect()
    return failure is not None  # the communicator is left: after a failure nobody knows what is under way in it


@contextlib.contextmanager
def patience(seconds):
    """End this process, with what it was doing, after so long; MPI then ends the others."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
