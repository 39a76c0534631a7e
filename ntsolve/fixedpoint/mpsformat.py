"""The lines of an MPS file, section by section; what they mean is said in `mps`."""

import itertools
import math

import numpy as np

from ..errors import MPSError

INFINITE = 1e20
SECTIONS = ("NAME", "ROWS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "ENDATA", "OBJSENSE", "OBJNAME")
ELSEWHERE = ("SOS", "SOS1", "SOS2", "QUADOBJ", "QMATRIX", "QSECTION", "QCMATRIX", "CSECTION", "INDICATORS", "LAZYCONS",
             "USERCUTS", "GENCONS", "PWLOBJ", "MULTIOBJ")  # fmt: skip
FIELDS = ((1, 3), (4, 12), (14, 22), (24, 36), (39, 47), (49, 61))  # of the fixed format
WITHOUT_VALUE = ("FR", "MI", "PL", "BV")
WITH_VALUE = ("UP", "LO", "FX", "LI", "UI")
WITH_MORE = ("NAME", "OBJSENSE", "OBJNAME")  # headers that have something else on their line


def number(text):
    """A number, with D for E as Fortran writes it; no NaN."""
    value = float(text.replace("D", "E").replace("d", "e"))
    if math.isnan(value) or "_" in text:
        raise ValueError
    return value


class Reader:
    """One pass over the lines; `line` is the number of the current one, from 1."""

    def __init__(self, path, fixed):
        self.path, self.fixed, self.line = path, fixed, 0
        self.name, self.maximize = "", False
        self.objective: str | None = None
        self.rows: dict[str, int] = {}  # number, or -1 for an N row
        self.senses: list[str] = []
        self.columns: dict[str, int] = {}
        self.cost: list[float] = []
        self.entries: list[tuple] = []  # (row, column, value)
        self.seen: set = set()  # rows of the current column
        self.rhs: dict[int, float] = {}
        self.ranges: dict[int, float] = {}
        self.constant = 0.0
        self.lower: dict[int, float] = {}
        self.upper: dict[int, float] = {}
        self.integers: set = set()
        self.marked = False  # between the markers of integer columns
        self.unended = 0  # line of a marker INTORG that no INTEND follows
        self.negative = 0  # columns with a negative upper bound and no lower one
        self.bounded: set = set()
        self.twice: set = set()  # names of columns with two bounds of one kind
        self.sets: dict[str, str] = {}  # section -> the set that is taken
        self.others: set = set()
        self.done: set = set()

    def wrong(self, what):
        """The error of the current line."""
        return MPSError(f"{self.path}, line {self.line}: {what}", self.line)

    def read(self, lines):
        """The fields of a `LinearProgram`, by name."""
        section = None
        for number, text in enumerate(lines, 1):
            self.line = number
            if not text.strip() or text[0] == "*":
                continue
            first, *more = text.split(None, 1)
            alone = not more or first.upper() in WITH_MORE
            if not text[0].isspace() and alone and first.upper() in SECTIONS + ELSEWHERE:
                section = self._header(first.upper(), text)
                if section == "ENDATA":
                    return self._program()
            elif section is None:
                raise self.wrong(f"no section begins with {first!r}")
            else:
                self._data(section, self._fields(text, section))
        raise self.wrong("the file ends without ENDATA")

    def _header(self, section, text):
        words = text.split()
        if section in ELSEWHERE:
            raise self.wrong(f"section {section} is none of a linear program")
        if section in self.done:
            raise self.wrong(f"section {section} comes up again")
        self.done.add(section)
        before = {"COLUMNS": "ROWS", "RHS": "COLUMNS", "RANGES": "COLUMNS", "BOUNDS": "COLUMNS", "ENDATA": "COLUMNS"}
        if section in before and before[section] not in self.done:
            raise self.wrong(f"section {section} needs a section {before[section]} before it")
        if section == "COLUMNS":
            if self.objective is None or self.objective not in self.rows:
                raise self.wrong("no row is the objective: it needs one of type N")
        elif section == "NAME":
            self.name = " ".join(words[1:])
        elif section in ("OBJSENSE", "OBJNAME") and len(words) > 1:
            self._data(section, words[1:])
        return section

    def _fields(self, text, section):
        """The fields of a line; in the fixed format those of names and numbers only up to the last one there is."""
        if not self.fixed or section in ("OBJSENSE", "OBJNAME"):
            words = text.split()
            for number, word in enumerate(words):
                if word[0] == "$" and number:
                    return words[:number]
            return words
        if "\t" in text:
            raise self.wrong("a tab in a file of the fixed format")
        parts = [text[first:last].strip() for first, last in FIELDS]
        between = [text[last:first].strip() for (_, last), (first, _) in itertools.pairwise(FIELDS)]
        for number in (2, 4):
            if parts[number][:1] == "$":
                parts, between = parts[:number], between[:number]
                break
        if any(between) or text[0] != " ":
            raise self.wrong("something stands between the fields of the fixed format")
        while parts and not parts[-1]:
            parts.pop()
        if section in ("COLUMNS", "RHS", "RANGES"):
            parts = parts[1:]
        return parts

    def _data(self, section, words):
        if section == "NAME":
            raise self.wrong("data before the first section")
        {"ROWS": self._row, "COLUMNS": self._column, "RHS": self._sides, "RANGES": self._sides, "BOUNDS": self._bound,
         "OBJSENSE": self._sense, "OBJNAME": self._objective_name}[section](words, section)  # fmt: skip

    # ---- the sections -----------------------------------------------------------------------------------------------

    def _sense(self, words, section):
        sense = " ".join(words).upper()
        if sense not in ("MAX", "MAXIMIZE", "MAXIMUM", "MIN", "MINIMIZE", "MINIMUM"):
            raise self.wrong(f"OBJSENSE is MAX or MIN, not {sense!r}")
        self.maximize = sense.startswith("MAX")

    def _objective_name(self, words, section):
        self.objective = " ".join(words)

    def _row(self, words, section):
        if len(words) != 2:
            raise self.wrong(f"a row has a type and a name; these are {len(words)} fields")
        sense, name = words[0].upper(), words[1]
        if sense not in ("N", "L", "G", "E"):
            raise self.wrong(f"rows are of type N, L, G or E, not {words[0]!r}")
        if name in self.rows:
            raise self.wrong(f"row {name!r} comes up again")
        if sense == "N":
            self.rows[name] = -1
            self.objective = self.objective or name
        else:
            self.rows[name] = len(self.senses)
            self.senses.append(sense)

    def _column(self, words, section):
        if len(words) >= 3 and words[1].strip("'\"").upper() == "MARKER":
            kind = words[-1].strip("'\"").upper()
            if kind not in ("INTORG", "INTEND"):
                raise self.wrong(f"a marker is INTORG or INTEND, not {words[-1]!r}")
            self.marked = kind == "INTORG"
            self.unended = self.line if self.marked else 0
            return
        if len(words) not in (3, 5) or not words[0]:
            raise self.wrong(f"a column has a name and one or two rows with values; these are {len(words)} fields")
        name = words[0]
        if self.columns.get(name) != len(self.columns) - 1 or not self.columns:
            if name in self.columns:
                raise self.wrong(f"column {name!r} comes up again")
            self.columns[name] = len(self.columns)
            self.cost.append(0.0)
            self.seen = set()
            if self.marked:
                self.integers.add(self.columns[name])
        for row, text in zip(words[1::2], words[2::2], strict=True):
            value = self._finite(text)
            number = self._row_number(row)
            if row in self.seen:
                raise self.wrong(f"column {name!r} has row {row!r} twice")
            self.seen.add(row)
            if number >= 0:
                self.entries.append((number, len(self.columns) - 1, value))
            elif row == self.objective:
                self.cost[-1] = value

    def _sides(self, words, section):
        if len(words) % 2 == 0:
            words = ["", *words]
        if len(words) not in (3, 5):
            raise self.wrong(f"{section} has a name and one or two rows with values; these are {len(words)} fields")
        if not self._taken(section, words[0]):
            return
        store = self.rhs if section == "RHS" else self.ranges
        for row, text in zip(words[1::2], words[2::2], strict=True):
            value, number = self._value(text), self._row_number(row)
            if number >= 0:
                if number in store:
                    raise self.wrong(f"{section} of row {row!r} comes up again")
                if section == "RHS" and math.isinf(value):
                    self._reachable(self.senses[number], value, row)
                store[number] = value
            elif row == self.objective:
                if section == "RANGES":
                    raise self.wrong("the objective has no range")
                self.constant = -self._finite(text)

    def _bound(self, words, section):
        kind = words[0].upper() if words else ""
        if kind not in WITH_VALUE + WITHOUT_VALUE:
            raise self.wrong(f"bounds of type {kind!r} are none of a linear program")
        rest = words[1:]
        nameless = len(rest) == 2 if kind in WITH_VALUE else len(rest) == 1 or self._names_no_set(rest)
        if nameless and not self.fixed:
            rest = ["", *rest]
        if len(rest) not in (2, 3) or (kind in WITH_VALUE and len(rest) != 3):
            raise self.wrong(f"a bound has a type, a name, a column and a value; these are {len(words)} fields")
        if not self._taken(section, rest[0]):
            return
        if rest[1] not in self.columns:
            raise self.wrong(f"there is no column {rest[1]!r}")
        column = self.columns[rest[1]]
        value = self._value(rest[2]) if kind in WITH_VALUE else 0.0
        lowers, uppers = kind in ("LO", "LI", "FX", "FR", "MI", "BV"), kind in ("UP", "UI", "FX", "FR", "PL", "BV")
        if (lowers and value == math.inf) or (uppers and value == -math.inf):
            raise self.wrong(f"no value of column {rest[1]!r} is beyond its bound {rest[2]}")
        for has, ends in ((lowers, self.lower), (uppers, self.upper)):
            if has and kind not in WITHOUT_VALUE and math.isfinite(ends.get(column, math.inf)):
                self.twice.add(rest[1])
        self.bounded.add(column)
        if kind in ("BV", "LI", "UI"):
            self.integers.add(column)
        if kind in ("LO", "LI", "FX", "BV"):
            self.lower[column] = value
        if kind in ("UP", "UI", "FX"):
            self.upper[column] = value
        if kind in ("FR", "MI"):
            self.lower[column] = -math.inf
        if kind in ("FR", "PL"):
            self.upper[column] = math.inf
        if kind == "BV":
            self.upper[column] = 1.0

    def _reachable(self, sense, side, row):
        """Refuse a side that nothing meets."""
        if sense == "E" or (sense == "G") == (side > 0):
            raise self.wrong(f"no activity of row {row!r}, of type {sense}, meets a right-hand side of {side}")

    # ---- fields -----------------------------------------------------------------------------------------------------

    def _taken(self, section, name):
        """Whether a set is the one to be taken: the first."""
        taken = self.sets.setdefault(section, name) == name
        if not taken:
            self.others.add(section)
        return taken

    def _names_no_set(self, rest):
        return len(rest) == 2 and rest[0] in self.columns and rest[1] not in self.columns

    def _row_number(self, name):
        if name not in self.rows:
            raise self.wrong(f"there is no row {name!r}")
        return self.rows[name]

    def _value(self, text):
        try:
            value = number(text)
        except ValueError:
            raise self.wrong(f"{text!r} is not a number") from None
        return math.copysign(math.inf, value) if abs(value) >= INFINITE else value

    def _finite(self, text):
        value = self._value(text)
        if math.isinf(value):
            raise self.wrong(f"{text} is too large a number here")
        return value

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _program(self):
        from scipy.sparse import coo_array

        m, n = len(self.senses), len(self.columns)
        if not n:
            raise self.wrong("there are no columns")
        rows, columns, values = np.array(self.entries, dtype=float).reshape(-1, 3).T
        A = coo_array((values, (rows.astype(np.int64), columns.astype(np.int64))), shape=(m, n)).tocsr()
        lower, upper = self._bounds(n)
        row_lower, row_upper = self._row_sides(m)
        return {
            "name": self.name,
            "c": np.array(self.cost),
            "A": A,
            "row_lower": row_lower,
            "row_upper": row_upper,
            "lower": lower,
            "upper": upper,
            "offset": self.constant,
            "maximize": self.maximize,
            "column_names": list(self.columns),
            "row_names": [name for name, row in self.rows.items() if row >= 0],
            "objective_name": self.objective or "",
            "integers": np.array(sorted(self.integers), dtype=np.int64),
        }

    def remarks(self):
        """What was left out, a line each."""
        if self.integers:
            yield f"{len(self.integers)} columns are to be whole numbers, which is left out: this is the relaxation"
        if self.unended:
            yield f"no marker INTEND follows INTORG in line {self.unended}: all columns after it count as whole numbers"
        if self.negative:
            yield f"{self.negative} columns have a negative upper bound and no lower one, which is taken to be -inf"
        if self.twice:
            yield f"{len(self.twice)} columns ({min(self.twice)!r}, ...) have two bounds of a kind; the last is taken"
        for section in sorted(self.others):
            yield f"{section} has several sets, of which {self.sets[section]!r} is taken"

    def _bounds(self, n):
        lower, upper = np.zeros(n), np.full(n, np.inf)
        for column in self.integers - self.bounded:
            upper[column] = 1.0
        for column, value in self.upper.items():
            upper[column] = value
            if value < 0 and column not in self.lower:
                lower[column] = -np.inf
                self.negative += 1
        for column, value in self.lower.items():
            lower[column] = value
        return lower, upper

    def _row_sides(self, m):
        rhs = np.zeros(m)
        for row, value in self.rhs.items():
            rhs[row] = value
        senses = np.array(self.senses, dtype="U1")
        lower, upper = np.where(senses == "L", -np.inf, rhs), np.where(senses == "G", np.inf, rhs)
        for row, value in self.ranges.items():
            if senses[row] == "G" or (senses[row] == "E" and value > 0):
                upper[row] = lower[row] + abs(value)
            else:
                lower[row] = upper[row] - abs(value)
        return lower, upper
