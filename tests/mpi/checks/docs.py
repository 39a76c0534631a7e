"""The examples of the page on distributed solves, which run under MPI only."""

import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "solvers" / "distributed.md"


def check_the_examples_run(comm):
    names: dict = {}
    blocks = re.findall(r"^<!-- mpi -->.*?\n```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
