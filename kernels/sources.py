"""The CUDA sources as text: what is compiled, and a fingerprint of what a run on a GPU vouches for. Needs no CuPy."""

import hashlib
import pathlib
import re

CUDA = pathlib.Path(__file__).parent / "cuda"


def source(name: str) -> str:
    """The file's text with its headers pasted in: CuPy's on-disk cache does not see #includes."""
    text = (CUDA / name).read_text("utf-8")
    return re.sub(r'^#include "([^"]+)"\n', lambda match: source(match[1]), text, flags=re.M)


def fingerprint(family: str) -> str:
    """SHA-256 of all that makes the CUDA twins of a family: the .cu file with its headers, and the launch code."""
    launch = [(CUDA / name).read_text("utf-8") for name in (f"{family}.py", "launch.py")]
    return hashlib.sha256("\0".join([source(f"{family}.cu"), *launch]).encode()).hexdigest()
