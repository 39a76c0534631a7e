"""Settings of the documentation: `sphinx-build -W docs docs/_build`. Needs no network."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # what is documented is this tree, not an installed copy

from ntsolve import __version__  # noqa: E402
from ntsolve.kernels import contracts, sources  # noqa: E402

project = "ntsolve"
author = "the ntsolve developers"
copyright = "2026, the ntsolve developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ntsolve {__version__}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "substitution"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc sections say it, with shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False


def _gpu_table() -> str:
    """One row for each kernel: its last run on a GPU, from tests/gpu_verified.json, and whether that still counts."""
    record = ROOT / "tests" / "gpu_verified.json"
    runs = json.loads(record.read_text("utf-8"))["kernels"] if record.exists() else {}
    rows = ["| kernel | last real run | state |", "|---|---|---|"]
    for name, contract in sorted(contracts.load_all().items()):
        run = runs.get(name)
        if run is None:
            rows.append(f"| `{name}` | – | emulated only |")
            continue
        current = run["sha256"] == sources.fingerprint(contract.family)
        where = f"{run['date']}, {run['device']}, CuPy {run['cupy']}, CUDA {run['cuda']}"
        rows.append(f"| `{name}` | {where} | {'as it is now' if current else 'changed since'} |")
    return "\n".join(rows)


myst_substitutions = {"gpu_table": _gpu_table()}
