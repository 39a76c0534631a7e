"""Multigrid by aggregation: sweeps of Gauss-Seidel by colours, on a grid and on sparse matrices, and what joins levels.

On the grid, the operator is cz, cy, cx, diag as in contracts/grid.py, with dinv = 1 / diag (0 where that is 0). On a
coarser level it is a CSR matrix without its diagonal, with the signs of its entries turned (`weights` > 0), whose rows
come colour by colour: rows bounds[c] to bounds[c + 1] have no couplings among themselves. Entries below the diagonal
come first in a row, those above it from middle[i]. P joins levels: column a is 1
on the rows members[starts[a] : starts[a + 1]]. One vector at a time; all in the dtype of the vector.

`coarse_cycle` does a number of small levels in one call. Level l has rows first[l] to first[l + 1] of all arrays, and
column numbers, members and aggregates count from the first row of all. It runs a program of (what, level):

    DOWN    x = L^-1 r by a sweep from 0, and r of the next level = P'(r - A x)
    UP      x += P x of the next level, and a sweep in the reverse order
    AGAIN   y = x and r = r - A x, for the cycle to be applied to this r
    FINISH  x = once y + twice x
    BOTTOM  x = inverse r, dense, on the last level
"""

import itertools
from typing import Any

import numpy as np
import scipy.sparse as sp

from . import contract
from .grid import _face_operators, _sum_faces

DOWN, UP, AGAIN, FINISH, BOTTOM = range(5)


def _grid_cases(rng, dtype):
    for unknown, (cz, cy, cx, diag) in _face_operators(rng, dtype):
        vectors = [(rng.standard_normal(unknown.shape) * unknown).astype(dtype) for _ in range(2)]
        yield cz, cy, cx, diag.astype(dtype), *vectors


def _sweep_cases(rng, dtype):
    for cz, cy, cx, diag, r, x in _grid_cases(rng, dtype):
        if any(extent % 2 and extent > 1 for extent in diag.shape[1:]) and _wraps(cz, cy, cx):
            continue  # two cells of a colour would meet
        with np.errstate(divide="ignore"):
            dinv = np.where(diag > 0, 1 / diag, 0).astype(dtype)
        for colour, weight in ((0, 1.0), (1, 1.3)):
            yield cz, cy, cx, dinv, colour, weight, r, x.copy()


def _wraps(cz, cy, cx):
    return bool(cz[:, -1].any() or cy[:, :, -1].any() or cx[..., -1].any())


@contract(cases=_sweep_cases, writes=("x",))
def colour_sweep(cz, cy, cx, dinv, colour, weight, r, x):
    """x = (1 - weight) x + weight D^-1 (r + sum of c_f x_j) where z + y + x is odd (`colour` 1) or even (0).

    Cells whose dinv is 0 stay as they are.
    """
    z, y, column = np.ogrid[: x.shape[1], : x.shape[2], : x.shape[3]]
    chosen = ((z + y + column) % 2 == colour) & (dinv > 0)
    around = -_sum_faces(cz, cy, cx, np.zeros(dinv.shape), x)
    x[:] = np.where(chosen, x + weight * (dinv * (r + around) - x), x)


def _residual_cases(rng, dtype):
    for cz, cy, cx, diag, r, x in _grid_cases(rng, dtype):
        yield cz, cy, cx, diag, x, r, np.full_like(x, np.nan)


@contract(cases=_residual_cases, writes=("t",))
def stencil_residual(cz, cy, cx, diag, x, r, t):
    """t = r - A x."""
    t[:] = r - _sum_faces(cz, cy, cx, diag, x)


# ---- between levels -------------------------------------------------------------------------------------------------


def _joined(rng, n, count):
    """(aggregate of each row, -1 for none, starts, members)"""
    aggregate = rng.integers(-1, count, n) if count else np.full(n, -1)
    aggregate[:count] = np.arange(count)
    order = np.argsort(aggregate, kind="stable")
    members = order[aggregate[order] >= 0].astype("int64")
    starts = np.concatenate([[0], np.cumsum(np.bincount(aggregate[members], minlength=count))]).astype("int64")
    return aggregate.astype("int32"), starts, members


def _member_cases(rng, dtype):
    for n, count in ((1, 1), (40, 9), (9000, 2300), (5, 0)):
        _, starts, members = _joined(rng, n, count)
        yield starts, members, rng.standard_normal(n).astype(dtype), np.full(count, np.nan, dtype)


@contract(cases=_member_cases, writes=("out",))
def sum_members(starts, members, v, out):
    """out = P'v; v (n,), out (coarse,)."""
    for a in range(out.size):
        out[a] = v[members[starts[a] : starts[a + 1]]].astype(float).sum()


def _spread_cases(rng, dtype):
    for n, count in ((1, 1), (40, 9), (9000, 2300), (5, 0)):
        aggregate, _, _ = _joined(rng, n, count)
        yield aggregate, rng.standard_normal(count).astype(dtype), rng.standard_normal(n).astype(dtype)


@contract(cases=_spread_cases, writes=("x",))
def add_aggregates(aggregate, e, x):
    """x += P e; aggregate (n,) int32, -1 for a row of none."""
    inside = aggregate >= 0
    x[inside] += e[aggregate[inside]]


# ---- sparse levels --------------------------------------------------------------------------------------------------


def _coloured(rng, n, dtype):
    """(indptr, middle, indices, weights, diag, bounds) of a random symmetric graph in the order of its colours."""
    half = sp.random_array((n, n), density=min(1.0, 4 / max(1, n)), rng=rng)
    G = sp.csr_array(sp.triu(half + half.T, 1))
    G = sp.csr_array(G + G.T)
    colours = np.zeros(n, dtype=int)
    for i in range(n):
        taken = set(colours[[j for j in G.indices[G.indptr[i] : G.indptr[i + 1]] if j < i]])
        colours[i] = next(c for c in range(n + 1) if c not in taken)
    order = np.argsort(colours, kind="stable")
    G = sp.csr_array(G[order][:, order])
    G.sort_indices()
    middle = G.indptr[:-1] + np.bincount(np.repeat(np.arange(n), np.diff(G.indptr))[_below(G)], minlength=n)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(colours))]).astype("int64")
    diag = np.asarray(G.sum(axis=1)).reshape(-1) + rng.uniform(0.01, 0.2, n)
    parts = G.indptr.astype("int64"), middle.astype("int64"), G.indices.astype("int32"), G.data.astype(dtype)
    return (*parts, diag.astype(dtype), bounds)


def _below(G):
    return G.indices < np.repeat(np.arange(G.shape[0]), np.diff(G.indptr))


def _sparse_cases(rng, dtype):
    for n in (1, 2, 30, 3000):
        yield (*_coloured(rng, n, dtype),
               rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype))  # fmt: skip


def _sparse_sweep_cases(rng, dtype):
    for indptr, _, indices, weights, diag, bounds, r, x in _sparse_cases(rng, dtype):
        yield indptr, indices, weights, 1 / diag, bounds, r, x.copy()


@contract(cases=_sparse_sweep_cases, writes=("x",))
def sparse_up(indptr, indices, weights, dinv, bounds, r, x):
    """x_i = dinv_i (r_i + sum of w_ij x_j), colour by colour, from the last to the first."""
    for i in reversed(range(x.size)):
        row = slice(indptr[i], indptr[i + 1])
        x[i] = dinv[i] * (r[i] + (weights[row].astype(float) * x[indices[row]]).sum())


def _sparse_down_cases(rng, dtype):
    for indptr, middle, indices, weights, diag, bounds, r, x in _sparse_cases(rng, dtype):
        yield indptr, middle, indices, weights, 1 / diag, bounds, r, x.copy(), np.full_like(x, np.nan)


@contract(cases=_sparse_down_cases, writes=("x", "t"))
def sparse_down(indptr, middle, indices, weights, dinv, bounds, r, x, t):
    """The sweep from the first to the last, from x = 0, which needs half of the entries; t = r - A x, of the others."""
    for i in range(x.size):
        row = slice(indptr[i], middle[i])
        x[i] = dinv[i] * (r[i] + (weights[row].astype(float) * x[indices[row]]).sum())
    for i in range(x.size):
        row = slice(middle[i], indptr[i + 1])
        t[i] = (weights[row].astype(float) * x[indices[row]]).sum()


def _sparse_residual_cases(rng, dtype):
    for indptr, _, indices, weights, diag, _, r, x in _sparse_cases(rng, dtype):
        yield indptr, indices, weights, diag, x, r, np.full_like(x, np.nan)


@contract(cases=_sparse_residual_cases, writes=("t",))
def sparse_residual(indptr, indices, weights, diag, x, r, t):
    """t = r - A x; t may be r."""
    rows = [slice(low, high) for low, high in itertools.pairwise(indptr)]
    around = [(weights[row].astype(float) * x[indices[row]]).sum() for row in rows]
    t[:] = r - (diag * x.astype(float) - np.array(around))


# ---- small levels, all in one ---------------------------------------------------------------------------------------


def program_of(levels):
    """The cycle on the first of `levels` levels, applied twice on each but the last."""

    def visit(level):
        if level == levels - 1:
            return [(BOTTOM, level)]
        once = [(DOWN, level), *visit(level + 1), (UP, level)]
        return [*once, (AGAIN, level), *once, (FINISH, level)]

    return np.array(visit(0), dtype="int32")


def _cycle_cases(rng, dtype):
    for sizes in ((1,), (7,), (40, 9), (300, 70, 12)):
        graphs = [_coloured(rng, n, dtype) for n in sizes]
        first = np.concatenate([[0], np.cumsum(sizes)]).astype("int32")
        entries = np.concatenate([[0], np.cumsum([graph[2].size for graph in graphs])])
        indptr = np.concatenate([[0], *(graph[0][1:] + at for graph, at in zip(graphs, entries[:-1], strict=True))])
        middle = np.concatenate([graph[1] + at for graph, at in zip(graphs, entries[:-1], strict=True)])
        indices = np.concatenate([graph[2] + at for graph, at in zip(graphs, first[:-1], strict=True)])
        colours = np.concatenate([[0], np.cumsum([graph[5].size for graph in graphs])]).astype("int32")
        bounds = np.concatenate([graph[5] + at for graph, at in zip(graphs, first[:-1], strict=True)])
        aggregate, starts = np.full(first[-1], -1), [np.zeros(sizes[0] + 1)]
        members: list[Any] = []
        for level, n in enumerate(sizes[:-1]):
            mine, begin, rows = _joined(rng, n, sizes[level + 1])
            aggregate[first[level] : first[level + 1]] = np.where(mine >= 0, mine + first[level + 1], -1)
            starts.append(begin[1:] + sum(rows.size for rows in members))
            members.append(rows + first[level])
        diag = np.concatenate([graph[4] for graph in graphs])
        half = rng.standard_normal((sizes[-1], sizes[-1])) / sizes[-1]
        x, r, y, t = (np.full(first[-1], np.nan, dtype) for _ in range(4))
        r[: sizes[0]] = rng.standard_normal(sizes[0])
        yield (program_of(len(sizes)), first, indptr.astype("int64"), middle, indices.astype("int32"),
               np.concatenate([graph[3] for graph in graphs]), diag, 1 / diag, colours, bounds.astype("int64"),
               np.concatenate(starts).astype("int64"),
               np.concatenate([*members, np.zeros(0)]).astype("int64"), aggregate.astype("int32"),
               (half @ half.T).astype(dtype), 0.5555, 2.7777, x, r, y, t)  # fmt: skip


@contract(cases=_cycle_cases, writes=("x",), scratch=("r", "y", "t"), rtol={"float32": 2e-4, "float64": 1e-11})
def coarse_cycle(program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members,
                 aggregate, inverse, once, twice, x, r, y, t):  # fmt: skip
    """Run a program on small levels: r of the first level to x of the first level; x, r, y, t (rows of all,).

    colours (levels + 1,) says which of `bounds` are those of a level; starts (rows + 1,) is for the level above a row.
    """

    def coupled(low, high):
        return (weights[low:high].astype(float) * x[indices[low:high]]).sum()

    for what, level in program:
        here, rows = slice(first[level], first[level + 1]), range(first[level], first[level + 1])
        if what == DOWN:
            for i in rows:
                x[i] = dinv[i] * (r[i] + coupled(indptr[i], middle[i]))
            for i in rows:
                t[i] = coupled(middle[i], indptr[i + 1])
            for a in range(first[level + 1], first[level + 2]):
                r[a] = t[members[starts[a] : starts[a + 1]]].astype(float).sum()
        elif what == UP:
            inside = np.flatnonzero(aggregate[here] >= 0) + first[level]
            x[inside] += x[aggregate[inside]]
            for i in reversed(rows):
                x[i] = dinv[i] * (r[i] + coupled(indptr[i], indptr[i + 1]))
        elif what == AGAIN:
            for i in rows:
                r[i] = r[i] - (diag[i] * float(x[i]) - coupled(indptr[i], indptr[i + 1]))
            y[here] = x[here]
        elif what == FINISH:
            x[here] = once * y[here] + twice * x[here]
        else:
            x[here] = inverse.astype(float) @ r[here]
