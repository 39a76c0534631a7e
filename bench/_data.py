"""Where the benches' files of data are."""

import os
from pathlib import Path

from ._harness import HERE


def data(name):
    """The path of a file of data: in the folder that the environment variable NTSOLVE_DATA names."""
    return Path(os.environ.get("NTSOLVE_DATA", HERE.parent.parent / "shared" / "data")) / name
