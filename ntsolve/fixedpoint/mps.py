"""Linear programs from MPS files, in fixed and in free format.

An MPS file names rows, then gives each column's entries, then right-hand sides, ranges and bounds:

    ROWS      N the objective (the first N row; further ones are left out), L, G, E
    COLUMNS   column row value [row value]
    RHS       [set] row value [row value]; that of the objective is the constant, with a minus sign
    RANGES    [set] row R: an L row has its lower side |R| below, a G row its upper side |R| above; an E row extends to
              R above where R > 0, to |R| below where R < 0
    BOUNDS    type [set] column [value]

Columns are in [0, inf) unless bounds say otherwise: UP the upper bound, LO the lower one, FX both, FR none, MI no lower
one, PL no upper one, BV 0 and 1, LI and UI as LO and UP for integers. A column with a negative UP and no lower bound of
its own has none, with a warning: so CPLEX reads it, while HiGHS 1.15 keeps the 0, and nothing is feasible. Values
of 1e20 and beyond are infinite as bounds and sides; one that nothing meets then is an error. Integer columns between
markers have an upper bound of 1 where the file gives them no bound at all.
"""

import codecs
import gzip
import inspect
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import MPSError
from .mpsformat import Reader
from .program import Program
from .result import LinprogResult


@dataclass(frozen=True, eq=False)
class LinearProgram:
    """min c'x + offset (or max), row_lower <= A x <= row_upper, lower <= x <= upper, with names.

    Attributes
    ----------
    name : str
    c, lower, upper : array (n,)
    A : csr_array (m, n)
    row_lower, row_upper : array (m,)
    offset : float
    maximize : bool
        What the file asks for; c and offset are as the file has them.
    column_names, row_names : list of str
    objective_name : str
    integers : array of int
        Columns that the file wants to be whole numbers. `solve` does not know that: it solves the relaxation.
    """

    name: str
    c: Any
    A: Any
    row_lower: Any
    row_upper: Any
    lower: Any
    upper: Any
    offset: float = 0.0
    maximize: bool = False
    column_names: list = field(default_factory=list)
    row_names: list = field(default_factory=list)
    objective_name: str = ""
    integers: Any = ()

    def __repr__(self):
        m, n = self.A.shape
        return f"<LinearProgram {self.name!r}: {m} rows, {n} columns, {self.A.nnz} entries>"

    @property
    def program(self):
        """The same to be minimised, as the solver takes it."""
        sign = -1.0 if self.maximize else 1.0
        sides = self.row_lower, self.row_upper, self.lower, self.upper
        return Program.from_matrix(sign * self.c, self.A, *sides, sign * self.offset)

    def objective(self, x) -> float:
        """c'x + offset"""
        return float(self.c @ x) + self.offset

    def solve(self, **options) -> LinprogResult:
        """Solve it with `ntsolve.linprog`.

        Parameters
        ----------
        **options
            Keywords of `ntsolve.linprog`: tol, time_limit, x0, y0, finisher, ...

        Returns
        -------
        LinprogResult
            Of the minimisation: where the file wants a maximum, `fun` is minus that, and the multipliers are of -c.
        """
        from .linprog import solve_program

        unknown = options.keys() - inspect.signature(solve_program).parameters
        if unknown:
            raise TypeError(f"LinearProgram.solve() got an unexpected keyword argument {min(unknown)!r}")
        return solve_program(self.program, **options)


def read_mps(path, *, format="auto") -> LinearProgram:
    """Read a linear program from an MPS file.

    Parameters
    ----------
    path : str, Path or open file
        The file, as text or compressed by gzip. An open one is read to its end, and left open.
    format : {"auto", "free", "fixed"}
        "free": fields separated by white space; "fixed": fields in the columns 2, 5, 15, 25, 40, 50, so that names may
        have spaces in them. "auto" reads what is not free as fixed.

    Returns
    -------
    LinearProgram
        Its `solve` is `ntsolve.linprog`.

    Raises
    ------
    MPSError
        A ValueError that says what is wrong in which line, in its attribute `line` as well.
    OSError
        The file cannot be read.

    Warns
    -----
    UserWarning
        Columns are to be whole numbers, which is left out; a marker INTORG has no INTEND; a column has a negative upper
        bound and no lower one; or there are several sets of right-hand sides, ranges or bounds, of which the first is
        taken; or a column has two bounds of one kind, of which the last is taken.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import ntsolve
    >>> text = '''NAME TINY
    ... ROWS
    ...  N COST
    ...  G NEED
    ... COLUMNS
    ...  X COST 2 NEED 1
    ...  Y COST 3 NEED 2
    ... RHS
    ...  RHS NEED 4
    ... ENDATA
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "tiny.mps"
    ...     _ = path.write_text(text)
    ...     lp = ntsolve.read_mps(path)
    >>> lp
    <LinearProgram 'TINY': 1 rows, 2 columns, 2 entries>
    >>> round(lp.solve(tol=1e-8).fun, 6)
    6.0
    """
    validate.choice("format", format, ("auto", "free", "fixed"))
    lines = _text(path).split("\n")
    path = getattr(path, "name", "the file") if hasattr(path, "read") else path
    reader = Reader(path, fixed=format == "fixed")
    try:
        fields = reader.read(lines)
    except MPSError as error:
        if format != "auto":
            raise
        reader = Reader(path, fixed=True)
        try:
            fields = reader.read(lines)
        except MPSError as other:  # that of the format which understood more is of more use
            raise (error if error.line >= other.line else other) from None
    for remark in reader.remarks():
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    return LinearProgram(**fields)


def _text(path):
    data = path.read() if hasattr(path, "read") else Path(path).read_bytes()
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise MPSError(f"{path} is no whole gzip file: {error}", 0) from None
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")
    return text.replace("\r", "\n" if b"\n" not in data else "")
