"""What every bench is made of: options, targets, the report and its record."""

import datetime
import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ntsolve import _environment
from ntsolve.demo._contest import Method, Table, contest  # noqa: F401  benches import them from here

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Options:
    """`quick`: small problems, to see that it works; their figures mean nothing. `say` is told what runs now."""

    quick: bool = False
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Target:
    """A figure and the bound it has to keep."""

    text: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self):
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self):
        sign = ">=" if self.at_least else "<="
        return f"{self.text}: {self.value:.3g}, target {sign} {self.bound:g}: {'met' if self.met else 'MISSED'}"


@dataclass
class Report:
    """What a bench found: tables, targets, lines of text."""

    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def contest(self, options, title, methods, check, *, repeats, **settings):
        """Add the table of a `contest`, which is also returned; a quick run has no repeats."""
        repeats = 1 if options.quick else repeats
        table = contest(title, methods, check, repeats=repeats, say=options.say, **settings)
        self.tables.append(table)
        return table

    def record(self, name, claim, quick):
        """As a dictionary fit for JSON, with what it was run on."""
        return {
            "name": name,
            "claim": claim,
            "quick": quick,
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "environment": _environment.describe("threadpoolctl"),
            "tables": [table.record() for table in self.tables],
            "targets": [
                {"text": t.text, "value": round(t.value, 4), "bound": t.bound, "at_least": t.at_least, "met": t.met}
                for t in self.targets
            ],
            "lines": self.lines,
        }


def benches():
    """Names of the benches."""
    return sorted(m.name for m in pkgutil.iter_modules([str(HERE)]) if not m.name.startswith("_"))


def load(name):
    """The module of a bench."""
    return importlib.import_module(f"bench.{name}")


def page(record):
    """The page of the documentation that shows a record: every figure on it comes from there."""
    lines = [f"# {record['name']}", "", record["claim"], ""]
    if record["quick"]:
        lines += ["**A quick run, on small problems: these figures only show that it works.**", ""]
    for table in record["tables"]:
        lines += [f"## {table['title']}", ""]
        error = table["error"].replace("|", "\\|")  # a plain bar would end the cell
        lines += [f"| method | iterations | seconds (median; all) | ratio | {error} |", "|---|---:|---:|---:|---:|"]
        for e in table["entries"]:
            steps = "–" if e["iterations"] is None else e["iterations"]
            every = ", ".join(f"{s:.3g}" for s in e["seconds"])
            name = e["method"] + (" (peer)" if e["peer"] else "")
            lines.append(f"| {name} | {steps} | {e['median']:.3g}; {every} | {e['ratio']:.3g} | {e['error']:.1e} |")
        lines += ["", "Ratio: to the fastest peer.", "", *(f"- {note}" for note in table["notes"]), ""]
    for target in record["targets"]:
        sign, verdict = "≥" if target["at_least"] else "≤", "met" if target["met"] else "**missed**"
        lines.append(f"- {target['text']}: {target['value']:.3g}, target {sign} {target['bound']:g}: {verdict}")
    lines += [f"- {line}" for line in record["lines"]]
    environment = record["environment"]
    where = _environment.line(environment).replace("\n", "; ")
    load = f"{environment['processors']} processors, load {environment['load']} in the last minute of the run"
    lines += ["", f"Run on {record['when']} with {where}; {load}; ntsolve has {environment['ntsolve threads']} threads"]
    lines[-1] += " where nothing else is said."
    lines += ["", f"Repeat it with `python -m bench {record['name']}`.", ""]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def write_pages(folder):
    """Make <name>.md from every <name>.json in a folder; the names."""
    names = []
    for path in sorted(Path(folder).glob("*.json")):
        path.with_suffix(".md").write_text(page(json.loads(path.read_text("utf-8"))), "utf-8")
        names.append(path.stem)
    return names
