"""Every example in the documentation runs, and every public name has documentation."""

import ast
import doctest
import inspect
import re
from enum import Enum
from pathlib import Path

import pytest

import ntsolve

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
NO_RUN = "<!-- no-run -->"


def blocks(page):
    """(first line, code) of each ```python block, without those after a line that says <!-- no-run -->."""
    text = page.read_text("utf-8")
    for fence in FENCE.finditer(text):
        if not text[: fence.start()].rstrip().endswith(NO_RUN):
            indent = len(fence["indent"])
            code = "".join(line[indent:] or "\n" for line in fence["code"].splitlines(keepends=True))
            yield text.count("\n", 0, fence.start("code")) + 1, code


PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if any(blocks(p))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_run_in_sequence(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page):
        # blank lines before it, so that a traceback names the line of the page
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_the_pages_with_examples_are_found():
    assert {"README.md", "docs/solvers/cg.md"} <= {page.relative_to(ROOT).as_posix() for page in PAGES}


@pytest.mark.parametrize("name", sorted(ntsolve.__all__))
def test_the_examples_of_a_docstring_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    report = []
    for case in doctest.DocTestFinder().find(getattr(ntsolve, name), name, globs={}):
        runner.run(case, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", sorted(ntsolve.__all__))
def test_a_public_name_is_documented(name):
    value = getattr(ntsolve, name)
    if isinstance(value, str):  # __version__
        return
    text = inspect.getdoc(value)
    assert text, f"ntsolve.{name} has no docstring"
    if isinstance(value, type) and issubclass(value, Enum | BaseException):
        return
    if inspect.isfunction(value):
        assert ">>>" in text, f"the docstring of ntsolve.{name} has no example"


def test_every_public_name_is_on_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    shown = set(re.findall(r"^\.\. auto\w+:: ntsolve\.(\w+)$", page, re.M))
    assert shown >= set(ntsolve.__all__) - {"__version__"}


def test_the_stub_declares_the_public_names():
    """ntsolve/__init__.pyi is what editors and type checkers see of the lazily loaded names."""
    declared = set()
    for node in ast.parse((ROOT / "ntsolve" / "__init__.pyi").read_text("utf-8")).body:
        match node:
            case ast.ImportFrom():
                declared |= {alias.asname or alias.name for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                declared.add(node.name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                declared.add(name)
    assert declared >= set(ntsolve.__all__)
