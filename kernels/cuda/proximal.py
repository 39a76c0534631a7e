"""CUDA twins of contracts/proximal.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import INSTANCES, launch

FILE = "proximal.cu"
THREADS, LANES = 256, 8  # a row of A or A' is summed by eight lanes
SEARCH = 512
INSTANCES[FILE] = [f"proximal_columns<{LANES}>", f"proximal_rows<{LANES}>", "proximal_search", "proximal_hessian"]
_launch = functools.partial(launch, FILE)
_int, _real = np.int32, np.float64


def _grid(rows, lanes):
    return (-(-rows * lanes // THREADS),)


def proximal_columns(t_indptr, t_indices, t_data, c, lower, upper, x0, y, tau, aty, x, free):
    args = (t_indptr, t_indices, t_data, c, lower, upper, x0, y, _real(tau), aty, x, free, _int(c.size))
    _launch(INSTANCES[FILE][0], _grid(c.size, LANES), THREADS, args)


def proximal_rows(indptr, indices, data, row_lower, row_upper, s0, y0, x, y, tau, sigma, s, slack, g):
    args = (indptr, indices, data, row_lower, row_upper, s0, y0, x, y, _real(tau), _real(sigma), s, slack, g)
    _launch(INSTANCES[FILE][1], _grid(s.size, LANES), THREADS, (*args, _int(s.size)))


def proximal_search(c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma, step):
    args = (c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, _real(tau), _real(sigma), step)
    _launch("proximal_search", (1,), SEARCH, (*args, _int(c.size), _int(y.size)))


def proximal_hessian(indptr, indices, data, t_indptr, t_indices, t_data, free, slack, tau, shift, H):
    args = (indptr, indices, data, t_indptr, t_indices, t_data, free, slack, _real(tau), _real(shift), H)
    _launch("proximal_hessian", _grid(slack.size, 32), THREADS, (*args, _int(slack.size)))
