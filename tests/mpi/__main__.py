"""``python -m tests.mpi 1 2 3 [module or module.check ...]``: the checks on so many ranks, with their seconds."""

import sys

from .launch import missing, run_all_checks


def main(arguments):
    sizes = [int(word) for word in arguments if word.isdigit()] or [1, 2, 3]
    if missing():
        sys.exit(missing())
    bad = False
    for size in sizes:
        report = run_all_checks(size, *(word for word in arguments if not word.isdigit()))
        bad = bad or bool(report.failures)
        for name, seconds in report.seconds.items():
            sys.stdout.write(f"{size} ranks {seconds:7.2f} s  {name}{'  FAILED' * (name in report.failures)}\n")
        sys.stdout.write(f"{size} ranks: {report}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
