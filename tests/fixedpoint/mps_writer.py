"""Linear programs as MPS files, for the tests of the reader."""

import numpy as np

EDGE = "    "


def fixed_line(kind="", *fields):
    """A line of the fixed format: fields begin in the columns 2, 5, 15, 25, 40 and 50."""
    line = f" {kind:<3}"
    for start, text in zip((4, 14, 24, 39, 49), fields, strict=False):
        line = line.ljust(start) + text
    return line


def free_line(kind="", *fields):
    return " ".join([EDGE, kind, *fields])


def number(value, fixed):
    """As many digits as there is room for: 12 characters in the fixed format."""
    if not fixed:
        return repr(float(value))
    for digits in range(12, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 12:
            return text
    raise AssertionError(value)


def mps_text(program, *, fixed=False, pairs=True, sets=True, maximize=False, columns=None, rows=None):
    """The file of a `Program`; with `sets` the sets of sides and bounds have names."""
    line = fixed_line if fixed else free_line
    rows = rows or [f"R{i}" for i in range(program.m)]
    columns = columns or [f"X{j}" for j in range(program.n)]

    def text(value):
        return number(value, fixed)

    lower, upper = program.row_lower, program.row_upper
    sense = np.where(lower == upper, "E", np.where(np.isneginf(lower), "L", "G"))
    sense = np.where(np.isneginf(lower) & np.isposinf(upper), "N", sense)
    side = np.where(sense == "L", upper, lower)
    out = ["* made for a test", "NAME          MADE"]
    if maximize:
        out += ["OBJSENSE", "    MAX"]
    out += ["ROWS", line("N", "COST"), *(line(kind, name) for kind, name in zip(sense, rows, strict=True)), "COLUMNS"]
    A = program.matrix().tocsc()
    for j, name in enumerate(columns):
        stored = slice(A.indptr[j], A.indptr[j + 1])
        fields = [(rows[i], text(v)) for i, v in zip(A.indices[stored], A.data[stored], strict=True)]
        fields.insert(0, ("COST", text(program.c[j])))
        out += [line("", name, *pair) for pair in paired(fields, pairs)]
    finite = [(name, text(v)) for name, v, kind in zip(rows, side, sense, strict=True) if kind != "N" and v]
    sides = [("COST", text(-program.offset)), *finite]
    out += ["RHS", *(line("", "RHS" if sets else "", *pair) for pair in paired(sides, pairs))]
    ranged = (sense == "G") & np.isfinite(upper)
    if ranged.any():
        out.append("RANGES")
        ranges = [(rows[i], text(upper[i] - lower[i])) for i in np.flatnonzero(ranged)]
        out += [line("", "RNG" if sets else "", *pair) for pair in paired(ranges, pairs)]
    bounds = [line(kind, "BND" if sets else "", columns[j], *map(text, values))
              for j in range(program.n) for kind, *values in bound(program.lower[j], program.upper[j])]  # fmt: skip
    return "\n".join([*out, *(["BOUNDS", *bounds] if bounds else []), "ENDATA", ""])


def paired(fields, pairs):
    """Fields of lines, with one or two (name, value) each."""
    step = 2 if pairs else 1
    return [[part for field in fields[k : k + step] for part in field] for k in range(0, len(fields), step)]


def bound(low, high):
    """The BOUNDS entries for [low, high]: (kind,) or (kind, value)."""
    if low == high:
        return [("FX", low)]
    if np.isneginf(low):
        return [("FR",)] if np.isposinf(high) else [("MI",), ("UP", high)]
    found = [("LO", low)] if low or high < 0 else []
    return found + ([("UP", high)] if np.isfinite(high) else [])
