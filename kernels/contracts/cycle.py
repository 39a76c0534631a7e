"""The red-black multigrid cycle on a grid: a level's way down and up, small levels at once.

On a level A = D - L, D the diagonal and L the couplings of neighbouring cells, which join red cells with black ones.
With S one red-black sweep of relaxation w (one weight for each colour) from zero, P constant over the fine cells of a
coarse cell, and Mc the same for the next level, the cycle

    M = S'D(2/w - 1)S + (I - S'A) P Mc P'(I - A S)                                                           (1)

is symmetric, and positive definite for any w in (0, 2) if Mc is. From r, with n(x) = L x and r_r, r_b its colours:

    x_r = w_r D^-1 r_r,  t = r_b + n(x_r),  x_b = w_b D^-1 t                                 way down: S r   (2)
    rc = P' [(1 - w_r) r_r + n(x_b);  (1 - w_b) t]                                           P'(I - A S) r   (3)
    x_r, x_b += P e,  e = Mc rc                                                                way up        (4)
    z_b = (1 - w_b) x_b + w_b D^-1 (r_b + n(x_r)),  z_r = (1 - w_r) x_r + w_r D^-1 (r_r + n(z_b))            (5)

and at last, where asked to `settle`, so that r - A z is 0 on black cells:

    z_b = D^-1 (r_b + n(z_r))                                                                                  (6)

Layout and stencils are those of contracts/split.py.
"""

import numpy as np

from . import contract
from .split import (
    CODES,
    NEVER,
    RTOL,
    SHAPES,
    coarse_shape,
    natural,
    neighbours,
    pairs,
    places,
    put,
    restrict,
    some_stencil,
    split_shape,
)

FIELDS = 12
"""What a row of `levels` holds: X, Y, H, factor, wrap, and where stencil, vectors and weights of the level start."""


def _level(d, fx, fy, fz):
    """(1 / D, faces) as natural float64 arrays."""
    if fx is None:
        return natural(d) / CODES, None
    return natural(d).astype(float), [natural(fx).astype(float), natural(fy).astype(float), pairs(fz).astype(float)]


def _colours(x):
    i, j, k = np.indices(x.shape[-3:])
    red = ((i + 1 + j + k) & 1) == 0
    return red, ~red


def prolong(e, factor, shape):
    """P e for natural arrays."""
    for axis, f in zip((-3, -2, -1), factor, strict=True):
        e = np.repeat(e, f, axis)
    return e[..., : shape[-3], : shape[-2], : shape[-1]]


def _down(r, dinv, faces, red, black, factor, wrap):
    is_red, is_black = _colours(r)
    x_red = np.where(is_red, red * dinv * r, 0)
    t = np.where(is_black & (dinv > 0), r + neighbours(x_red, faces, wrap), 0)
    x_black = black * dinv * t
    left = np.where(is_red & (dinv > 0), (1 - red) * r + neighbours(x_black, faces, wrap), (1 - black) * t)
    return x_black, restrict(left, factor)


def _up(r, dinv, faces, red, black, wrap, x_black, correction, settle=False):
    is_red, is_black = _colours(r)
    correction = np.where(dinv > 0, correction, 0)
    x_red = np.where(is_red, red * dinv * r + correction, 0)
    x_black = np.where(is_black, x_black + correction, 0)
    z_black = np.where(is_black, (1 - black) * x_black + black * dinv * (r + neighbours(x_red, faces, wrap)), 0)
    z_red = np.where(is_red, (1 - red) * x_red + red * dinv * (r + neighbours(z_black, faces, wrap)), 0)
    if settle:
        z_black = np.where(is_black, dinv * (r + neighbours(z_red, faces, wrap)), 0)
    return z_red + z_black


# ---- cases ----------------------------------------------------------------------------------------------------------


def _vector(rng, shape, batch):
    v = np.zeros((batch, *split_shape(*shape)), np.float32)
    put(v, rng.standard_normal((batch, *shape)).astype(np.float32))
    return v


def _levels(rng):
    """Every shape on a mask and with coefficients; one or two systems, of one stencil or of their own."""
    for number, (shape, factor, wrap) in enumerate(SHAPES):
        for mask in (True, False):
            batch = 1 + number % 2
            stencil = some_stencil(rng, shape, wrap, mask, batch if number % 3 else 1)
            weights = tuple(rng.uniform(0.2, 1.8, 2).tolist())
            yield shape, coarse_shape(shape, factor), _vector(rng, shape, batch), stencil, weights, factor, wrap


def _down_cases(rng, dtype):
    for shape, coarse, r, stencil, weights, factor, wrap in _levels(rng):
        xb, rc = (np.full((len(r), *split_shape(*s)), np.nan, np.float32) for s in (shape, coarse))
        yield r, *stencil, *weights, factor, wrap, xb[:, 0].copy(), rc


@contract(cases=_down_cases, writes=("xb", "rc"), rtol=RTOL)
def cycle_down(r, d, fx, fy, fz, red, black, factor, wrap, xb, rc):
    """(2), (3): x_b, and the residual of S r restricted, in one trip through memory.

    r (batch, 2, X, Y, H), xb (batch, X, Y, H), rc (batch, 2, X', Y', H') of the next level, float32; d and faces with
    1 or batch in front; red, black the weights w_r, w_b. Ghost planes of what is written are left alone.
    """
    dinv, faces = _level(d, fx, fy, fz)
    x_black, left = _down(natural(r).astype(float), dinv, faces, red, black, factor, wrap)
    both = np.zeros_like(r)
    put(both, x_black)
    xb[:, 1:-1] = both[:, 1, 1:-1]
    put(rc, _cut(left, rc))


def _cut(a, v):
    """a, natural, without the pads that v has no room for."""
    return a[..., : 2 * v.shape[-1]]


def _up_cases(rng, dtype):
    for number, (shape, coarse, r, stencil, weights, factor, wrap) in enumerate(_levels(rng)):
        xb, ec = _vector(rng, shape, len(r)) * (stencil[0] > 0), _vector(rng, coarse, len(r))
        yield (r, *stencil, *weights, factor, wrap, number % 4 in (1, 2), xb[:, 1].copy(), ec, np.full_like(r, np.nan),
               np.full(len(r), np.nan), np.full((len(r), 2, r.shape[2]), np.nan))  # fmt: skip


@contract(cases=_up_cases, writes=("z", "rz"), scratch=("work",), rtol=RTOL)
def cycle_up(r, d, fx, fy, fz, red, black, factor, wrap, settle, xb, ec, z, rz, work):
    """(4), (5), (6) if `settle`, and rz = r.z: z from x_b, made on the way down, and the coarse correction ec.

    r, z (batch, 2, X, Y, H), xb (batch, X, Y, H), ec (batch, 2, X', Y', H') float32, rz (batch,) float64; work, float64
    (batch, 2, X), has sums of parts of planes. Ghost planes of z are left alone.
    """
    dinv, faces = _level(d, fx, fy, fz)
    both = np.zeros_like(r)
    both[:, 1] = xb
    e = prolong(natural(ec).astype(float), factor, natural(r).shape)
    e = np.concatenate([e, np.zeros((*e.shape[:-1], 2 * r.shape[-1] - e.shape[-1]))], -1)
    new = _up(natural(r).astype(float), dinv, faces, red, black, wrap, natural(both).astype(float), e, settle)
    put(z, new)
    rz[:] = (natural(r).astype(float) * new).sum((1, 2, 3))


# ---- small levels together ------------------------------------------------------------------------------------------


def small_levels(shapes, factors, wrap):
    """(levels, cells, room): what `cycle_small` wants to know of grids `shapes`, of which factors[l] leads to the next.

    `levels` (L, FIELDS) int32, `cells` int32 the places of the bottom's cells, `room` how many float32 it needs for
    scratch, a system. The stencil has d, fx, fy, fz of the levels one after the other, except for that of the bottom.
    """
    rows, stencil, room = [], 0, 0
    for number, (shape, factor) in enumerate(zip(shapes, [*factors, (1, 1, 1)], strict=True)):
        sizes = split_shape(*shape)[1:]
        size = 2 * int(np.prod(sizes))
        rows.append([*sizes, *factor, *wrap, stencil, room, 2 * number])
        stencil, room = stencil + 4 * size, room + 3 * size  # r, z, and x_b in the room of two
    x, y, h = rows[-1][:3]
    c, i, j, m = places(x, y, shapes[-1][2])
    cells = (((c * x + i) * y + j) * h + m)[1:-1]
    return np.array(rows, np.int32), cells.ravel().astype(np.int32), room


def _small_cases(rng, dtype):
    for number, (shape, wrap, axes, depth) in enumerate((
        ((3, 2, 3), NEVER, (2, 2, 2), 0),
        ((6, 5, 7), NEVER, (2, 2, 2), 1),
        ((8, 9, 20), NEVER, (2, 2, 2), 2),
        ((12, 1, 33), NEVER, (2, 1, 2), 2),
        ((8, 4, 16), (1, 1, 0), (2, 1, 2), 1),
    )):  # fmt: skip
        batch = 1 + number % 2
        shapes = [shape]
        for _ in range(depth):
            shapes.append(coarse_shape(shapes[-1], axes))
        levels, cells, room = small_levels(shapes, [axes] * depth, wrap)
        parts = [part.reshape(1, -1) for s in shapes[:-1] for part in some_stencil(rng, s, wrap, False)]
        stencil = np.concatenate([np.zeros((1, 0), np.float32), *parts], 1)
        root = rng.standard_normal((1, len(cells), len(cells)))
        inverse = (root @ root.swapaxes(1, 2) / len(cells)).astype(np.float32)
        r = _vector(rng, shape, batch)
        weights = rng.uniform(0.2, 1.8, (len(shapes), 2)).astype(np.float32)
        yield r, np.full_like(r, np.nan), levels, weights, stencil, inverse, cells, np.zeros((batch, room), np.float32)


@contract(cases=_small_cases, writes=("z",), scratch=("room",), rtol=RTOL)
def cycle_small(r, z, levels, weights, stencil, inverse, cells, room):
    """z = M r (1) for a whole hierarchy, small enough for one call; `inverse` (n, n) is Mc of its bottom.

    r, z (batch, 2, X, Y, H) float32 of its finest level, which has coefficients; `levels`, `cells` and the size of
    room (batch, .) float32, which is zero before the first call, are what `small_levels` says; weights (L, 2); stencil
    (1 or batch, .) float32; inverse (1 or batch, n, n) float32, over the bottom's cells in the natural order. Ghost
    planes of z are left alone.
    """
    for s in range(len(r)):
        inner = _small(r[s].astype(float), levels, weights, stencil[s % len(stencil)],
                       inverse[s % len(inverse)].astype(float), cells)  # fmt: skip
        z[s, :, 1:-1] = inner[:, 1:-1]


def _small(r, levels, weights, stencil, inverse, cells):
    z = np.zeros_like(r)
    if len(levels) == 1:
        z.reshape(-1)[cells] = inverse @ r.reshape(-1)[cells]
        return z
    x, y, h, *fields = levels[0].tolist()
    factor, wrap, start = fields[:3], fields[3:6], fields[6]
    parts = stencil[start : start + 4 * r.size].reshape(4, 2, x, y, h)
    dinv, faces = _level(*parts)
    red, black = weights[0].astype(float)
    x_black, left = _down(natural(r), dinv, faces, red, black, factor, wrap)
    rc = np.zeros((2, *levels[1, :3]))
    put(rc, _cut(left, rc))
    e = prolong(natural(_small(rc, levels[1:], weights[1:], stencil, inverse, cells)), factor, natural(r).shape)
    e = np.concatenate([e, np.zeros((*e.shape[:-1], 2 * h - e.shape[-1]))], -1)
    put(z, _up(natural(r), dinv, faces, red, black, wrap, x_black, e))
    return z
