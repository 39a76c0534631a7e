"""From the arguments of `linprog`, in all the forms that SciPy knows, to a `Program` on the host."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import home
from ..matrices import is_sparse, to_csr
from .program import Program, csr_parts

CROSSED = 4 * np.finfo(float).eps  # relative: what a lower side may be above its upper one by rounding


@dataclass(frozen=True)
class Taken:
    """What a caller passed, understood.

    Attributes
    ----------
    program : Program
        On the host, with rows in the order A_ub, A_eq, constraints.
    counts : tuple of int
        How many rows come from each of these.
    x0, y0 : array (..., n), (..., m), or None
    dtype : dtype
        Of the answer.
    own : callable
        Turns an array of the backend into the caller's kind.
    where : dict
        Arrays by name, as `kernels_for` wants them.
    """

    program: Program
    counts: tuple
    x0: Any
    y0: Any
    dtype: Any
    own: Any
    where: dict


class _Reader:
    """Takes arguments to the host, and notes where they live and of what dtype they are."""

    def __init__(self, check):
        self.check, self.where = check, {}
        self.dtypes: list[np.dtype] = []

    def array(self, name, value, *, infinite=False, counts=True):
        """A float64 array on the host; its dtype `counts` for that of the answer."""
        value = validate.own_kind(name, value)[0]
        if counts or home(value)[0] != "cpu":  # SciPy's Bounds are always on the host
            self.where[name] = value
        if counts:
            self._note(value.dtype)
        if home(value)[0] != "cpu":
            value = value.get()
        value = np.asarray(value)
        if value.dtype == object:
            raise TypeError(f"{name} has dtype object; real numbers are needed")
        value = validate.numeric(name, value, check=self.check and not infinite)
        if value.dtype.kind == "c":
            raise TypeError(f"{name} is complex; linear programs are real")
        if infinite and self.check and np.isnan(value).any():
            raise ValueError(f"{name} contains NaN")
        return np.asarray(value, dtype=float)

    def _note(self, dtype):
        if np.dtype(dtype).kind == "f":  # float16 is answered in float32
            self.dtypes.append(np.result_type(dtype, np.float32))

    def side(self, name, value, m):
        """One side of m rows, of which there may be one value for all."""
        v = np.atleast_1d(self.array(name, value, infinite=True, counts=False))
        return np.broadcast_to(v, (*v.shape[:-1], m)) if v.shape[-1] == 1 else v

    def matrix(self, name, A, n, fits=lambda m: None):
        """(indptr, indices, data (..., nnz), rows) of an array (..., m, n), a sparse matrix, or a list of these."""
        if isinstance(A, (list, tuple)) and A and all(map(is_sparse, A)):
            return _one_pattern(name, [self._sparse(f"{name}[{i}]", one, n) for i, one in enumerate(A)])
        if is_sparse(A):
            one = self._sparse(name, A, n)
            return *csr_parts(one, name=name), one.shape[0]
        A = self.array(name, A)
        if A.ndim == 0:
            raise ValueError(f"{name} is a number where a matrix is needed")
        if A.size == 0 and (A.ndim == 1 or A.shape[-1] == 0 < n):  # [] or [[]], no rows of any length
            A = A.reshape(0, n)
        if A.ndim == 1:
            A = A[None]  # one row, as SciPy has it
        if A.shape[-1] != n:
            raise ValueError(f"{name} has {A.shape[-1]} columns, c has {n} entries")
        if A.ndim == 2:
            fits(A.shape[0])  # before the work of bringing it into CSR
            return *csr_parts(A, name=name), A.shape[0]
        used = (A != 0).any(axis=tuple(range(A.ndim - 2)))
        indptr, indices, _ = csr_parts(used.astype(float), name=name)
        rows = np.repeat(np.arange(A.shape[-2]), np.diff(indptr))
        return indptr, indices, np.ascontiguousarray(A[..., rows, indices]), A.shape[-2]

    def _sparse(self, name, A, n):
        if A.ndim != 2 or A.shape[1] != n:
            raise ValueError(f"{name} has shape {tuple(A.shape)}, c has {n} entries")
        self.where[name] = A
        self._note(A.dtype)
        if np.dtype(A.dtype).kind not in "biu" and A.dtype.name not in ("float16", *validate.FLOATS):
            raise TypeError(f"{name} has dtype {A.dtype}; float32, float64, integers and bool are supported")
        A = to_csr(name, A.get() if home(A)[0] != "cpu" else A)
        validate.numeric(name, A.data, check=self.check)
        return A


def _one_pattern(name, matrices):
    """A batch of sparse matrices, on the union of their patterns."""
    if len({A.shape for A in matrices}) > 1:
        raise ValueError(f"the matrices in {name} have different shapes")
    parts = [csr_parts(A, name=name, zeros=True) for A in matrices]
    m, n = matrices[0].shape

    def places(indptr, indices):
        return np.repeat(np.arange(m, dtype=np.int64), np.diff(indptr)) * n + indices

    every = [places(indptr, indices) for indptr, indices, _ in parts]
    union = functools.reduce(np.union1d, every)
    data = np.zeros((len(parts), union.size))
    for row, (_, _, values), mine in zip(data, parts, every, strict=True):
        row[np.searchsorted(union, mine)] = values
    rows, columns = np.divmod(union, n) if n else (union, union)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))]).astype(np.int32)
    return indptr, columns.astype(np.int32), data, m


def take(c, A_ub, b_ub, A_eq, b_eq, bounds, constraints, x0, y0, check):
    """`Taken` of the arguments of `linprog`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    """
    reader = _Reader(check)
    own = validate.own_kind("c", c)[1]
    c = reader.array("c", c)
    if c.ndim == 0:
        raise ValueError("c must have at least one axis, the last of length n")
    n = c.shape[-1]
    blocks, counts = [], []
    for A_name, A, b_name, b in (("A_ub", A_ub, "b_ub", b_ub), ("A_eq", A_eq, "b_eq", b_eq)):
        if (A is None) != (b is None):
            raise ValueError(f"{A_name if A is None else b_name} is missing: {A_name} and {b_name} belong together")
        counts.append(0)
        if A is None:
            continue
        b = reader.array(b_name, b, infinite=A is A_ub)
        b = b.reshape(1) if b.ndim == 0 else b
        *parts, m = reader.matrix(A_name, A, n, functools.partial(_fits, b_name, b, A_name))
        _fits(b_name, b, A_name, m)
        if (b == -np.inf).any():
            raise ValueError(f"{b_name} contains -inf, which no x meets")
        blocks.append((*parts, np.full_like(b, -np.inf) if A is A_ub else b, b))
        counts[-1] = m
    counts.append(0)
    for name, A, low, high in _two_sided(constraints):
        *parts, m = reader.matrix(f"{name}.A", A, n)
        low, high = (reader.side(f"{name}.{end}", v, m) for end, v in (("lb", low), ("ub", high)))
        _fits(f"{name}.lb", low, f"{name}.A", m)
        _fits(f"{name}.ub", high, f"{name}.A", m)
        if (low == np.inf).any() or (high == -np.inf).any():
            end = "lb contains inf" if (low == np.inf).any() else "ub contains -inf"
            raise ValueError(f"{name}.{end}, which no x meets")
        blocks.append((*parts, *_uncrossed(low, high)))
        counts[-1] += m
    lower, upper = _uncrossed(*_bounds(reader, bounds, n))
    m = sum(counts)
    x0 = None if x0 is None else _sized("x0", reader.array("x0", x0), n, "variables")
    y0 = None if y0 is None else _sized("y0", reader.array("y0", y0), m, "rows")
    program = _stack(c, lower, upper, blocks, x0, y0)
    shape = program.shape
    x0, y0 = (None if v is None else np.broadcast_to(v, (*shape, v.shape[-1])) for v in (x0, y0))
    dtype = np.result_type(*reader.dtypes) if reader.dtypes else np.dtype(float)
    return Taken(program, tuple(counts), x0, y0, dtype, own, reader.where)


def _fits(name, v, A_name, m):
    if v.ndim == 0 or v.shape[-1] != m:
        raise ValueError(f"{name} has shape {tuple(v.shape)}, {A_name} has {m} rows")


def _sized(name, v, size, of):
    if v.ndim == 0 or v.shape[-1] != size:
        raise ValueError(f"{name} has shape {tuple(v.shape)}, there are {size} {of}")
    return v


def _two_sided(constraints):
    """(name, A, lb, ub) of a LinearConstraint, a tuple (A, lb, ub), or a list of these."""
    if constraints is None:
        return
    one = hasattr(constraints, "lb") or _is_triple(constraints)
    entries = [constraints] if one else constraints
    if not isinstance(entries, (list, tuple)):
        raise TypeError(f"constraints must be a LinearConstraint, (A, lb, ub) or a list, not {type(entries).__name__}")
    for i, entry in enumerate(entries):
        name = "constraints" if one else f"constraints[{i}]"
        if hasattr(entry, "lb") and hasattr(entry, "A"):
            yield name, entry.A, entry.lb, entry.ub
        elif _is_triple(entry):
            yield name, *entry
        else:
            raise TypeError(f"{name} must be a LinearConstraint or (A, lb, ub), not {type(entry).__name__}")


def _uncrossed(low, high):
    """Both, and where they cross by no more than rounding the middle of them for both."""
    with np.errstate(invalid="ignore"):
        crossed = (low > high) & (low - high <= CROSSED * np.maximum(abs(low), abs(high)))
        middle = 0.5 * low + 0.5 * high
    return np.where(crossed, middle, low), np.where(crossed, middle, high)


def _is_triple(entry):
    """Whether this is (A, lb, ub), and not three constraints."""
    return isinstance(entry, tuple) and len(entry) == 3 and not any(hasattr(part, "lb") for part in entry)


def _bounds(reader, bounds, n):
    """(lower, upper), (..., n) each."""
    if bounds is None:
        bounds = (0, None)
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        ends = (bounds.lb, bounds.ub)
    else:
        pairs = bounds.tolist() if isinstance(bounds, np.ndarray) and bounds.dtype == object else bounds
        if isinstance(pairs, (list, tuple)):
            pairs = _without_none(pairs)
        pairs = reader.array("bounds", pairs, infinite=True, counts=False)
        if pairs.ndim == 0:
            raise ValueError("bounds must be a pair (lower, upper) or a sequence of pairs, not a number")
        if pairs.size == 0 and pairs.ndim < 3:
            pairs = np.array([0.0, np.inf])
        if pairs.shape[-1] != 2 or (pairs.ndim > 1 and pairs.shape[-2] not in (1, n)):
            raise ValueError(f"bounds has shape {tuple(pairs.shape)}, a pair or {n} pairs (lower, upper) are needed")
        ends = (pairs[..., 0], pairs[..., 1])
    found = []
    for name, end in zip(("lower", "upper"), ends, strict=True):
        end = np.atleast_1d(reader.array("bounds", end, infinite=True, counts=False))
        if end.shape[-1] not in (1, n):
            raise ValueError(f"bounds: {end.shape[-1]} {name} bounds for {n} variables")
        found.append(np.broadcast_to(end, (*end.shape[:-1], n)))
    if (found[0] == np.inf).any() or (found[1] == -np.inf).any():
        raise ValueError("bounds: a lower bound of inf or an upper bound of -inf, which no x meets")
    return found


def _without_none(bounds):
    """Nested lists of pairs, with None as infinity."""
    if len(bounds) == 2 and all(end is None or np.ndim(end) == 0 for end in bounds):
        low, high = bounds
        return [-np.inf if low is None else low, np.inf if high is None else high]
    if not all(isinstance(one, (list, tuple, np.ndarray)) for one in bounds):
        raise ValueError("bounds must be a pair (lower, upper) or a sequence of pairs")
    return [_without_none(one) for one in bounds]


def _stack(c, lower, upper, blocks, *more):
    """The Program of rows in blocks (indptr, indices, data, row_lower, row_upper)."""
    vectors = [c, lower, upper, *(part for block in blocks for part in block[2:]), *(v for v in more if v is not None)]
    try:
        shape = np.broadcast_shapes(*(v.shape[:-1] for v in vectors))
    except ValueError:
        shapes = ", ".join(str(v.shape[:-1]) for v in vectors if v.ndim > 1)
        raise ValueError(f"the leading axes of the arguments do not fit together: {shapes}") from None

    def joined(parts):
        parts = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts]
        return np.concatenate(parts, axis=-1) if parts else np.zeros((*shape, 0))

    starts = np.cumsum([0, *(block[1].size for block in blocks)])
    indptr = np.concatenate([[0], *(block[0][1:] + at for block, at in zip(blocks, starts, strict=False))])
    indices = np.concatenate([np.zeros(0, np.int32), *(block[1] for block in blocks)])
    if indices.size > np.iinfo(np.int32).max:
        raise ValueError(f"A has {indices.size} entries, more than 2**31 - 1")
    c, lower, upper = (np.ascontiguousarray(np.broadcast_to(v, (*shape, v.shape[-1]))) for v in (c, lower, upper))
    return Program(
        c,
        lower,
        upper,
        joined([block[3] for block in blocks]),
        joined([block[4] for block in blocks]),
        indptr.astype(np.int32),
        indices.astype(np.int32),
        joined([block[2] for block in blocks]),
    )
