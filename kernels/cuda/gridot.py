"""CUDA twins of contracts/gridot.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "gridot.cu"
THREADS, TILE = 256, 32
INSTANCES[FILE] = [
    *(f"{name}<{t}>" for name in ("grid_step", "grid_plan", "grid_turn", "grid_anchor") for t in ("float", "double")),
    "grid_potentials",
    "min_plus",
]
_launch = functools.partial(launch, FILE)


def _over_lines(name, s, starts, *args):
    """A block a line."""
    _launch(f"{name}<{CTYPE[s.dtype.name]}>", (starts.size - 1,), THREADS, (s, *args, np.int32(s.shape[1])))


def grid_step(s, anchor, rows, columns, C, starts, places, speeds, sigma, weight, row_sums, column_sums, moved):
    _over_lines("grid_step", s, starts, anchor, rows, columns, C, starts, places, speeds, np.float64(2 * sigma),
                np.float64(weight), row_sums, column_sums, moved)  # fmt: skip


def grid_plan(s, rows, columns, C, starts, places, speeds, sigma, row_sums, column_sums):
    _over_lines("grid_plan", s, starts, rows, columns, C, starts, places, speeds, np.float64(2 * sigma), row_sums,
                column_sums)  # fmt: skip


def grid_turn(s, anchor, rows, columns, C, starts, places, speeds, sigma, moved):
    _over_lines("grid_turn", s, starts, anchor, rows, columns, C, starts, places, speeds, np.float64(2 * sigma), moved)


def grid_anchor(s, anchor, starts, ratio, row_sums, column_sums):
    _over_lines("grid_anchor", s, starts, anchor, starts, np.float64(ratio), row_sums, column_sums)


def grid_potentials(a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums,
                    g_column_sums, c_f, c_fg, c_g, inverse, sigma, f_rows, f_columns, g_rows, g_columns):  # fmt: skip
    J, K = f_columns.shape
    args = (a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums, g_column_sums,
            c_f, c_fg, c_g, inverse, np.float64(sigma), f_rows, f_columns, g_rows, g_columns)  # fmt: skip
    _launch("grid_potentials", (1,), THREADS, (*args, np.int32(J), np.int32(K)), shared=16 * (J + K))


def min_plus(C, u, w):
    columns = -(-u.shape[1] // TILE)
    args = (C, u, w, *map(np.int32, (*C.shape, u.shape[1])))
    _launch("min_plus", (w.shape[0] * columns,), TILE, args)
