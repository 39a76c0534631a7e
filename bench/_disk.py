"""Gradients in a file that is larger than the memory allowed: a process of its own solves with them, and reports."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS = 64
DAMP = 1e-3


def measure(columns, threads):
    """Write a file of ROWS x columns float32, solve with it in another process: what that found, as a dictionary.

    The file is not in the page cache before it is read, set up with, or solved with, as far as the system takes advice.
    """
    with tempfile.TemporaryDirectory(prefix="ntsolve-bench-") as folder:
        path = Path(folder) / "gradients.f4"
        write(path, columns)
        found = {}
        for turn in range(2):  # in turn, and the better of two
            for what in ("read", "solve"):
                forget(path)
                command = [sys.executable, "-m", "bench._disk", what, str(path), str(columns), str(threads)]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(done.stderr)
                for name, value in json.loads(done.stdout).items():
                    found[name] = value if turn == 0 else (max if name == "bytes" else min)(found[name], value)
        G = np.memmap(path, np.float32, "r", shape=(ROWS, columns))
        x, v = np.load(f"{path}.npy"), right_hand_side(columns)
        from ._mfac import residual

        return found | {"residual": residual(G, DAMP, x, v), "size": path.stat().st_size}


def write(path, columns):
    """Rows that are one random row, turned round by a different amount each."""
    base = np.random.default_rng(0).standard_normal(columns, dtype=np.float32) / np.float32(np.sqrt(columns / ROWS))
    with path.open("wb") as file:
        for row in range(ROWS):
            at = (row * 7919 * 131) % columns
            base[at:].tofile(file)
            base[:at].tofile(file)
        file.flush()
        os.fsync(file.fileno())


def right_hand_side(columns):
    return np.random.default_rng(1).standard_normal(columns, dtype=np.float32)


def forget(path):
    """Ask the system to drop the file from its page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path):
    """Seconds to read the file from its beginning to its end, and once more, when some of it may be in memory."""
    buffer, seconds = bytearray(2**24), {}
    for name in ("read", "again"):
        began = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        seconds[name] = time.perf_counter() - began
    return seconds


def solve(path, columns, threads):
    """Seconds to set up and to solve, and the most memory that the process has had."""
    import ntsolve

    with ntsolve.config(threads=threads):
        small = ntsolve.EmpiricalFisher(np.ones((ROWS, 4096), np.float32), damp=DAMP)
        small.solve(np.ones(4096, np.float32))  # compiled, or loaded
        v = right_hand_side(columns)
        G = np.memmap(path, np.float32, "r", shape=(ROWS, columns))
        began = time.perf_counter()
        F = ntsolve.EmpiricalFisher(G, damp=DAMP)
        ready = time.perf_counter()
        forget(Path(path))
        dropped = time.perf_counter()
        x = F.solve(v)
        done = time.perf_counter()
    np.save(f"{path}.npy", x)
    return {"ready": ready - began, "solve": done - dropped, "bytes": peak()}


def peak():
    """The most bytes of memory that this process has had; what getrusage says includes the parent's at the fork."""
    status = Path("/proc/self/status").read_text("utf-8")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kibibytes) * 1024


if __name__ == "__main__":
    what, path, columns, threads = sys.argv[1:]
    print(json.dumps(read(path) if what == "read" else solve(path, int(columns), int(threads))))
