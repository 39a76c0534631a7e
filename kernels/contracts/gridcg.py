"""The two passes of preconditioned conjugate gradients on a grid, in the layout of contracts/split.py.

With z = M r and rz = r.z already there, one iteration is two trips through memory; x is one step behind, so that it is
updated while p is in the processor anyway, and A p is computed twice rather than stored once:

    x += alpha p,  p <- z + beta p,  pq = p.Ap           beta = rz / rz_old                                       (1)
    alpha = rz / pq,  r -= alpha A p,  rr = r.r                                                                   (2)

x and r are float64, p and z float32. A = D - L: on a mask d = D in uint8 with fx = fy = fz = None; otherwise d = s,
what couples to fixed values, and D = s + the sum of the faces, so that A p = s p + sum of f (p - p'). These, unlike
the stencil of the cycle, are float64 where the matrix has entries that float32 has not.

`rr` carries the verdict on a system, as in contracts/linalg.py; alpha is 0 for a system that rests.
"""

import numpy as np

from . import contract
from .linalg import verdict
from .split import NEVER, SHAPES, natural, neighbours, pairs, put, some_faces, split_shape, stencil_split

RTOL = {"float32": 1e-6, "float64": 1e-6}


def product(d, fx, fy, fz, wrap, p):
    """A p in the natural order, of p in the natural order."""
    if fx is None:
        D = natural(d).astype(float)
        return np.where(D > 0, D * p - neighbours(p, None, wrap), 0)
    faces = [natural(fx).astype(float), natural(fy).astype(float), pairs(fz).astype(float)]
    if p.shape[-2] == 1 and not wrap[1]:
        faces[1] = np.zeros_like(p)
    whole = natural(d).astype(float) + sum(f + np.roll(f, 1, axis) for f, axis in zip(faces, (-3, -2, -1), strict=True))
    return whole * p - neighbours(p, faces, wrap)


def _operators(rng, dtype):
    """(split shape, batch, d, fx, fy, fz, wrap, active): of masks and with coefficients."""
    for number, (shape, _, wrap) in enumerate(SHAPES):
        batch, own = 1 + number % 2, 1 + number % 2 if number % 3 else 1
        split = split_shape(*shape)
        active = rng.random((own, *shape)) < 0.8
        codes = np.zeros((own, *split), np.uint8)
        put(codes, np.where(active, rng.integers(6, 8, active.shape), 0).astype(np.uint8))
        yield split, batch, codes, None, None, None, wrap, active
        parts = [np.zeros((own, *split), np.float32), *(np.zeros((own, *split), dtype) for _ in range(4))]
        stencil_split(*some_faces(rng, (own, *shape), wrap, active)[0], 0.1 * active, wrap, *parts)
        yield split, batch, parts[4], *parts[1:4], wrap, active


def _vector(rng, split, batch, active, dtype):
    v = np.zeros((batch, *split), dtype)
    put(v, (rng.standard_normal((batch, *active.shape[1:])) * active).astype(dtype))
    return v


def _direction_cases(rng, dtype):
    for split, batch, *operator, active in _operators(rng, dtype):
        z, before = (_vector(rng, split, batch, active, np.float32) for _ in range(2))
        x = _vector(rng, split, batch, active, np.float64)
        alpha, rz, rz_old = rng.uniform(0.5, 2, (3, batch))
        alpha[-1] *= batch > 1
        rz_old[0] *= split[1] != 3  # beta is not finite: p = z
        yield (*operator, z, before, alpha, rz, rz_old, x, np.zeros_like(before), np.full(batch, np.nan),
               np.full((batch, 2, split[1]), np.nan))  # fmt: skip


@contract(cases=_direction_cases, writes=("x", "p", "pq"), scratch=("work",), rtol=RTOL)
def grid_direction(d, fx, fy, fz, wrap, z, before, alpha, rz, rz_old, x, p, pq, work):
    """(1): x += alpha before, p = z + beta before, with beta = 0 where rz / rz_old is not finite, and pq = p.Ap.

    z, before, p float32 and x float64 (batch, 2, X, Y, H), with zero ghosts, which stay; d, fx, fy, fz with 1 or batch
    in front; alpha, rz, rz_old, pq (batch,) float64; work (batch, 2, X) float64 has sums of parts of planes.
    """
    with np.errstate(all="ignore"):
        beta = rz / rz_old
    beta = np.where(np.isfinite(beta), beta, 0)[:, None, None, None, None]
    x += alpha[:, None, None, None, None] * before
    p[...] = (z + beta.astype(np.float32) * before).astype(np.float32)
    inner = natural(p).astype(float)
    pq[:] = (inner * product(d, fx, fy, fz, wrap, inner)).sum((1, 2, 3))


def _update_cases(rng, dtype):
    for split, batch, *operator, active in _operators(rng, dtype):
        p = _vector(rng, split, batch, active, np.float32)
        r = _vector(rng, split, batch, active, np.float64)
        rz, pq = rng.uniform(0.5, 2, (2, batch))
        rr = np.full(batch, 2.0)
        yield (*operator, p, rz, pq, rr, np.full(batch, 1e-10), r, r.astype(np.float32), np.full(batch, np.nan),
               np.full(batch, np.nan), np.full((batch, 2, split[1]), np.nan))  # fmt: skip
    split, batch, active = split_shape(3, 2, 5), 7, np.ones((1, 3, 2, 5), bool)
    d = np.zeros((1, *split), np.uint8)
    put(d, 6 * active.astype(np.uint8))
    p, r = (_vector(rng, split, batch, active, kind) for kind in (np.float32, np.float64))
    rr = np.array([1.0, 1e-12, 1.0, 1.0, np.nan, -1.0, 1.0])
    pq = np.array([1.0, 1.0, -1.0, np.nan, 1.0, 1.0, 1.0])
    rz = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    yield (d, None, None, None, NEVER, p, rz, pq, rr, np.full(batch, 1e-10), r, r.astype(np.float32),
           np.full(batch, np.nan), np.full(batch, np.nan), np.full((batch, 2, split[1]), np.nan))  # fmt: skip


@contract(cases=_update_cases, writes=("r", "single", "alpha", "rr"), scratch=("work",), rtol=RTOL)
def grid_update(d, fx, fy, fz, wrap, p, rz, pq, rr_old, tol2, r, single, alpha, rr, work):
    """(2), and `single`, the new r in float32; a system that does not go on keeps r and single, and alpha is 0.

    p, single float32 and r float64 (batch, 2, X, Y, H), with zero ghosts, which stay; d, fx, fy, fz with 1 or batch in
    front; rz, pq, rr_old, tol2, alpha, rr (batch,) float64; work (batch, 2, X) float64 has sums of parts of planes.
    """
    for s in range(len(r)):
        stop = verdict(rr_old[s], rz[s], pq[s], tol2[s])
        if stop is not None:
            alpha[s], rr[s] = 0, stop
            continue
        alpha[s] = rz[s] / pq[s]
        D, x, y, z = (None if part is None else part[s % len(part)] for part in (d, fx, fy, fz))
        new = natural(r[s]) - alpha[s] * product(D, x, y, z, wrap, natural(p[s]).astype(float))
        put(r[s], new)
        put(single[s], new.astype(np.float32))
        rr[s] = (new**2).sum()


def _take_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(SHAPES):
        batch = 1 + number % 2
        split = batch, *split_shape(*shape)
        yield (rng.standard_normal((batch, *shape)).astype(dtype), 2.0 ** rng.integers(-3, 4, batch),
               np.full(split, np.nan), np.full(split, np.nan, np.float32))  # fmt: skip


@contract(cases=_take_cases, writes=("r", "single"), rtol=RTOL)
def grid_take(a, factor, r, single):
    """r = factor a, from the natural order to colours, and `single`, the same in float32; pads 0, ghosts kept.

    a (batch, nx, ny, nz), factor (batch,) float64, r float64 and single float32 (batch, 2, X, Y, H).
    """
    put(r, factor[:, None, None, None] * a.astype(float))
    put(single, (factor[:, None, None, None] * a.astype(float)).astype(np.float32))


def _give_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(SHAPES):
        batch = 1 + number % 2
        split = batch, *split_shape(*shape)
        yield (rng.standard_normal(split), rng.standard_normal(split).astype(np.float32), rng.standard_normal(batch),
               2.0 ** rng.integers(-3, 4, batch), np.full((batch, *shape), np.nan, dtype))  # fmt: skip


@contract(cases=_give_cases, writes=("a",), rtol=RTOL)
def grid_give(x, p, alpha, factor, a):
    """a = factor (x + alpha p), back to the natural order: x as it will be when the first pass has caught up.

    x float64 and p float32 (batch, 2, X, Y, H), alpha, factor (batch,) float64, a (batch, nx, ny, nz).
    """
    whole = natural(x) + alpha[:, None, None, None] * natural(p).astype(float)
    a[...] = factor[:, None, None, None] * whole[..., : a.shape[-1]]
