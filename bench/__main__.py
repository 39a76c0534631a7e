"""`python -m bench`: list the claims. `python -m bench NAME [--quick] [--json PATH]`: measure one."""

import argparse
import json
import sys
from pathlib import Path

from ntsolve import _environment
from ntsolve.demo import MissingExtra

from . import _harness

PAGES = _harness.HERE.parent / "docs" / "benchmarks"


def main(argv=None):
    """Run a command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure a claim of speed.")
    parser.add_argument("name", nargs="?", choices=[*_harness.benches(), "all"], help="without it: list them")
    parser.add_argument("--quick", action="store_true", help="small problems: shows that it works, proves nothing")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the record (with `all`: a folder)")
    parser.add_argument("--pages", action="store_true", help="make docs/benchmarks/*.md from the records there")
    arguments = parser.parse_args(argv)
    if arguments.pages:
        print("written:", ", ".join(_harness.write_pages(PAGES)) or "nothing, there are no records")
        return 0
    if arguments.name is None:
        for name in _harness.benches():
            print(f"{name:12} {_harness.load(name).CLAIM}")
        return 0
    try:
        for name in _harness.benches() if arguments.name == "all" else [arguments.name]:
            path = arguments.json / f"{name}.json" if arguments.json and arguments.name == "all" else arguments.json
            measure(name, arguments.quick, path)
    except MissingExtra as missing:
        print(str(missing).replace("[demo]", "[bench]"), file=sys.stderr)
        return 2
    return 0


def measure(name, quick, path):
    """Run one bench, print its report, and write its record."""
    bench = _harness.load(name)
    say = (lambda line: print("  ..", line, file=sys.stderr, flush=True)) if sys.stderr.isatty() else lambda line: None
    report = bench.run(_harness.Options(quick, say))
    print(f"== {name}: {bench.CLAIM}\n")
    for table in report.tables:
        print(table, end="\n\n")
    for line in (*report.targets, *report.lines):
        print(line)
    record = report.record(name, bench.CLAIM, quick)
    print(_environment.line(record["environment"]))
    if path is not None:
        text = json.dumps(record, indent=1, ensure_ascii=False, default=lambda number: number.item())  # of NumPy
        path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
