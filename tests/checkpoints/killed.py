"""A program whose solve is killed, over and over: `python -m tests.checkpoints.killed NAME KILLS FOLDER SEED`.

The solve runs in a child that is forked for it and killed by SIGKILL after a random time; the next child goes on from
the checkpoint. What each child saw is in a log, one line an iteration. Prints JSON: what was lost at each kill, and how
the end compares with a solve that nobody killed.
"""

import itertools
import json
import os
import pathlib
import pickle
import signal
import sys
import time

import numpy as np

import ntsolve

from .solves import SOLVES, flat

EVERY = 0.03  # seconds between two checkpoints
ITERATION = 0.004  # seconds that each iteration takes at least
LIFE = 0.12  # seconds that a child has from its first iteration on, at most


def live(solve, path, log, done):
    """In the child: the solve, to its end."""
    with open(log, "ab", buffering=0) as file:

        def tell(state):
            file.write(f"{os.getpid()} {state.nit} {state.elapsed!r}\n".encode())
            time.sleep(ITERATION)

        result = solve(checkpoint=path, checkpoint_every=EVERY, resume=path, callback=tell)
    success = bool(np.all(result.success)) and bool(solve.right(result))
    done.write_bytes(pickle.dumps((flat(result), int(np.max(result.nit)), success)))


def born(solve, path, log, done):
    pid = os.fork()
    if pid == 0:
        try:
            live(solve, path, log, done)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
    return pid


def lines(log):
    """{pid: [(nit, elapsed), ...]} in the order of lives."""
    lives: dict[int, list] = {}
    for line in log.read_text().splitlines():
        pid, nit, elapsed = line.split()
        lives.setdefault(int(pid), []).append((int(nit), float(elapsed)))
    return lives


def main(name, kills, folder, seed):
    ntsolve.config(threads=1)
    folder, rng = pathlib.Path(folder), np.random.default_rng(seed)
    path, log, done = folder / "run.npz", folder / "log", folder / "done"
    solve = SOLVES[name]()
    whole = solve(callback=lambda state: None)
    log.touch()
    killed = ends = 0
    while not done.exists():
        before = log.stat().st_size
        pid = born(solve, path, log, done)
        if killed < kills:
            while log.stat().st_size == before and not done.exists() and os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, LIFE))
            os.kill(pid, signal.SIGKILL)
            killed += 1
        ends = os.waitpid(pid, 0)[1]
        if os.WIFEXITED(ends) and os.WEXITSTATUS(ends):
            raise SystemExit("a child raised")
    lives = list(lines(log).values())
    # the first line of a life is the iteration after the checkpoint that it went on from
    lost = [(a[-1][0] - (b[0][0] - 1), a[-1][1] - b[0][1]) for a, b in itertools.pairwise(lives)]
    x, nit, success = pickle.loads(done.read_bytes())
    far = float(abs(x - flat(whole)).max() / abs(flat(whole)).max())
    seen = {"kills": killed, "lives": len(lives), "seconds_lost": max((t for _, t in lost), default=0.0),
            "iterations_lost": max((n for n, _ in lost), default=0), "success": success, "far": far,
            "same": bool(np.array_equal(x, flat(whole))), "nit": [nit, int(np.max(whole.nit))]}  # fmt: skip
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
