"""CUDA twins of contracts/split.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, NULL, launch

FILE = "split.cu"
THREADS = 256
REALS, BYTE = ("float", "double"), "unsigned char"
_PAIRS = [("float", "float"), ("double", "float"), ("double", "double")]
INSTANCES[FILE] = [
    *(f"grid_split<{t},{u}>" for t, u in (*_PAIRS, (BYTE, BYTE))),
    *(f"stencil_split<{t},{u}>" for t, u in _PAIRS),
    *(f"grid_join<{t}>" for t in REALS),
    "codes_split",
    "coarsen_faces",
    "coarsen_mask",
    "parted_pairs",
]
_launch = functools.partial(launch, FILE)


def ctype(array):
    """What C calls its elements."""
    return BYTE if array.dtype == np.uint8 else CTYPE[array.dtype.name]


def ints(*values):
    """Typed for a launch."""
    return tuple(map(np.int32, values))


def _over(planes, cells, batch):
    return -(-cells // THREADS), planes, batch


def grid_split(a, v):
    batch, nx, ny, nz = a.shape
    h = v.shape[-1]
    _launch(f"grid_split<{ctype(a)},{ctype(v)}>", _over(nx, ny * 2 * h, batch), THREADS, (a, v, *ints(nx, ny, nz, h)))


def codes_split(open_faces, v):
    batch, nx, ny, nz = open_faces.shape
    args = (open_faces, v, *ints(nx, ny, nz, v.shape[-1]))
    _launch("codes_split", _over(nx, ny * 2 * v.shape[-1], batch), THREADS, args)


def grid_join(v, a):
    batch, nx, ny, nz = a.shape
    args = (v, a, *ints(nx, ny, nz, v.shape[-1]))
    _launch(f"grid_join<{ctype(a)}>", _over(nx, ny * nz, batch), THREADS, args)


def stencil_coarsen(d, fx, fy, fz, s, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    batch, cnx, cny, cnz = cs.shape
    sizes = ints(*(s if d is None else d).shape[1:])
    alphas, out = (np.float64(alpha), np.float64(alpha_s)), (cx, cy, cz, cs, *ints(cny, cnz))
    grid = _over(cnx, cny * cnz, batch)
    if d is None:
        args = (fx, fy, fz, s, *sizes, *alphas, *ints(*factor), *out)
        _launch("coarsen_faces", grid, THREADS, args)
    else:
        _launch("coarsen_mask", grid, THREADS, (d, *sizes, *alphas, *ints(*factor, *wrap), *out))


def parted_pairs(fx, fy, fz, s, factor, counts):
    batch, *sizes = s.shape
    _launch("parted_pairs", (sizes[0], batch), THREADS, (fx, fy, fz, s, counts, *ints(*sizes, *factor)))


def stencil_split(fx, fy, fz, s, wrap, d, sx, sy, sz, ss):
    batch, nx, ny, nz = s.shape
    h = d.shape[-1]
    args = (fx, fy, fz, s, d, sx, sy, sz, NULL if ss is None else ss, *ints(nx, ny, nz, h, wrap[2]))
    _launch(f"stencil_split<{ctype(s)},{ctype(sx)}>", _over(nx + 2, ny * 2 * h, batch), THREADS, args)
