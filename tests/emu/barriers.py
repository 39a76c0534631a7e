"""Barriers of a CUDA source, to be deleted one at a time: a kernel that works without one has one too many."""

import re
from typing import NamedTuple

from .source import blank_comments

BARRIER = re.compile(r"\b(__syncthreads|__syncwarp)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*;")


class Site(NamedTuple):
    """One barrier of a text: its line, which of the two it is, and where it starts."""

    line: int
    kind: str
    start: int


def sites(text: str) -> list[Site]:
    """Each `__syncthreads();` and `__syncwarp(...);` of the text; comments do not count."""
    plain = blank_comments(text)
    return [Site(text.count("\n", 0, m.start()) + 1, m[1], m.start()) for m in BARRIER.finditer(plain)]


def without(text: str, site: Site) -> str:
    """The text with that barrier replaced by an empty statement; nothing moves to another line."""
    m = BARRIER.match(text, site.start)
    if m is None or m[1] != site.kind:
        raise ValueError(f"there is no {site.kind} at character {site.start} of this text")
    return text[: m.start()] + ";" + "\n" * m[0].count("\n") + text[m.end() :]
