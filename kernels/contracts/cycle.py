"""The red-black multigrid cycle on a grid: one level's way down and up, small levels at once, and their stencils.

On a level A = D - L, D the diagonal and L the couplings of neighbouring cells, which join red cells with black ones.
With S one red-black sweep of relaxation w (one weight for each colour) from zero, P constant over the fine cells of a
coarse cell, and Mc the same for the next level, the cycle

    M = S'D(2/w - 1)S + (I - S'A) P Mc P'(I - A S)                                                           (1)

is symmetric, and positive definite for any w in (0, 2) if Mc is. From r, with n(x) = L x and r_r, r_b its colours:

    x_r = w_r D^-1 r_r,  t = r_b + n(x_r),  x_b = w_b D^-1 t                                 way down: S r   (2)
    rc = P' [(1 - w_r) r_r + n(x_b);  (1 - w_b) t]                                           P'(I - A S) r   (3)
    x_r, x_b += P e,  e = Mc rc                                                                way up        (4)
    z_b = (1 - w_b) x_b + w_b D^-1 (r_b + n(x_r)),  z_r = (1 - w_r) x_r + w_r D^-1 (r_r + n(z_b))            (5)

The coarse stencil is alpha times the sum of the faces that a coarse face covers, and alpha_s times the sum of what
couples to fixed values (`sink` s = D - sum of faces); along an axis that is not coarsened alpha is 1.

Layout. A grid (nx, ny, nz) is stored colour by colour as (2, X, Y, H): X = nx + 2 planes, of which the first and last are
ghosts and 0, Y = ny, and H = ceil(nz / 2) up to a multiple of LANES. Cell (i, j, k), counted from 0, has colour
c = (i + 1 + j + k) & 1, red is 0, and lies at [c, i + 1, j, k >> 1]. So x and y neighbours lie at the same place in
rows of the other colour, and the z neighbours at the same place and the one before or after it: every loop runs
over memory. A grid of two dimensions is (n0, 1, n1).

A level is given by d and fx, fy, fz. On a mask all faces are 1 and d is the code round(CODES / D) in uint8, exact for
D = 1, ..., 6, with fx = fy = fz = None. Otherwise d = 1 / D in float32, fx and fy hold the face towards i + 1 and j + 1
at the cell's own place, fz[0] the face between k = 2m and 2m + 1, fz[1] that between k = 2m - 1 and 2m (which for
m = 0 is the one that wraps round). d is 0 at a cell that takes no part; faces are 0 there, too. Where Y = 1, fy may
be any array of its shape. The leading axis is that of systems; a stencil may have 1 for all of them.

`factor`: how many cells are joined along each axis, 1 or 2. `wrap`: 1 for each periodic axis, whose extent is even, and
for the last one 2 H.
"""

import numpy as np

from . import contract

LANES = 8
CODES = 60.0
"""Common multiple of the diagonals of a mask."""

FIELDS = 12
"""What a row of `levels` holds: X, Y, H, factor, wrap, and where stencil, vectors and weights of the level start."""

RTOL = {"float32": 2e-5, "float64": 2e-5}  # vectors are float32 whatever the stencil was made of
_NEVER = (0, 0, 0)


def split_shape(nx, ny, nz):
    """(2, X, Y, H) of a grid."""
    return 2, nx + 2, ny, -(-((nz + 1) // 2) // LANES) * LANES


def coarse_shape(shape, factor):
    """Cells along each axis of the next level."""
    return tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))


# ---- in NumPy, in the natural order ---------------------------------------------------------------------------------


def _places(planes, ny, nz):
    i, j, k = np.indices((planes, ny, nz))
    return (i + j + k) & 1, i, j, k >> 1


def natural(v):
    """(..., 2, X, Y, H) as (..., X - 2, Y, 2 H)."""
    return v[(..., *_places(*v.shape[-3:-1], 2 * v.shape[-1]))][..., 1:-1, :, :]


def put(v, a):
    """Write what `natural` would return."""
    a = np.pad(a, [(0, 0)] * (a.ndim - 3) + [(1, 1), (0, 0), (0, 2 * v.shape[-1] - a.shape[-1])])
    kept = v[..., [0, -1], :, :].copy()
    v[(..., *_places(*a.shape[-3:]))] = a
    v[..., [0, -1], :, :] = kept  # the ghosts


def _pairs(fz):
    """fz as the face towards k + 1, (..., nx, Y, 2 H)."""
    even, odd = fz[..., 0, 1:-1, :, :], fz[..., 1, 1:-1, :, :]
    return np.stack([even, np.roll(odd, -1, -1)], -1).reshape(*even.shape[:-1], -1)


def neighbours(x, faces, wrap):
    """n(x) for natural arrays; faces None where all are 1."""
    total = np.zeros_like(x)
    for d, axis in enumerate((-3, -2, -1)):
        face = np.ones_like(x) if faces is None else faces[d]
        ahead, behind = np.roll(x, -1, axis), np.roll(x, 1, axis)
        if not wrap[d]:
            np.moveaxis(ahead, axis, 0)[-1] = 0
            np.moveaxis(behind, axis, 0)[0] = 0
        total += face * ahead + np.roll(face, 1, axis) * behind
    return total


def _level(d, fx, fy, fz):
    """(1 / D, faces) as natural float64 arrays."""
    if fx is None:
        return natural(d) / CODES, None
    return natural(d).astype(float), [natural(fx).astype(float), natural(fy).astype(float), _pairs(fz).astype(float)]


def _colours(x):
    i, j, k = np.indices(x.shape[-3:])
    red = ((i + 1 + j + k) & 1) == 0
    return red, ~red


def restrict(x, factor):
    """P'x for natural arrays."""
    for axis, f in zip((-3, -2, -1), factor, strict=True):
        if f == 2:
            x = np.moveaxis(x, axis, 0)
            x = np.concatenate([x, np.zeros((len(x) % 2, *x.shape[1:]))])
            x = np.moveaxis(x[::2] + x[1::2], 0, axis)
    return x


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


def _up(r, dinv, faces, red, black, wrap, x_black, correction):
    is_red, is_black = _colours(r)
    correction = np.where(dinv > 0, correction, 0)
    x_red = np.where(is_red, red * dinv * r + correction, 0)
    x_black = np.where(is_black, x_black + correction, 0)
    z_black = np.where(is_black, (1 - black) * x_black + black * dinv * (r + neighbours(x_red, faces, wrap)), 0)
    z_red = np.where(is_red, (1 - red) * x_red + red * dinv * (r + neighbours(z_black, faces, wrap)), 0)
    return z_red + z_black


# ---- cases ----------------------------------------------------------------------------------------------------------

_SHAPES = (  # shape, factor, wrap
    ((1, 1, 1), (1, 1, 1), _NEVER),
    ((5, 3, 6), (2, 2, 2), _NEVER),
    ((4, 4, 16), (2, 2, 2), _NEVER),
    ((3, 5, 35), (1, 2, 2), _NEVER),
    ((6, 4, 18), (2, 1, 1), _NEVER),
    ((5, 1, 34), (2, 1, 2), _NEVER),
    ((4, 1, 16), (1, 1, 2), (1, 0, 0)),
    ((2, 4, 16), (2, 2, 2), (1, 1, 1)),
    ((6, 6, 16), (1, 2, 1), (0, 1, 1)),
)


def some_faces(rng, shape, wrap, active=None):
    """([fx, fy, fz], s) of a random stencil in the natural order, on the active cells."""
    if active is None:
        active = rng.random(shape) < 0.8
    faces = []
    for d, axis in enumerate((-3, -2, -1)):
        face = rng.uniform(0.1, 2.0, shape) * active * np.roll(active, -1, axis)
        if not wrap[d]:
            np.moveaxis(face, axis, 0)[-1] = 0
        faces.append(face)
    return faces, active * rng.uniform(0.01, 1.0, shape) * (rng.random(shape) < 0.3)


def diagonal(faces, s):
    """D of a stencil in the natural order."""
    return s + sum(face + np.roll(face, 1, axis) for face, axis in zip(faces, (-3, -2, -1), strict=True))


def open_faces(active, wrap, walls=None):
    """D of a mask: all faces of a cell count, but those that `walls` says are none."""
    return np.where(active, 6 if walls is None else walls, 0).astype(np.uint8)


def some_stencil(rng, shape, wrap, mask, batch=1, dtype=np.float32):
    """(d, fx, fy, fz) of a random level."""
    split = (batch, *split_shape(*shape))
    if mask:
        d = np.zeros(split, np.uint8)
        active = rng.random((batch, *shape)) < 0.8
        put(d, np.where(active, np.round(CODES / rng.integers(1, 7, active.shape)), 0).astype(np.uint8))
        return d, None, None, None
    faces, s = some_faces(rng, (batch, *shape), wrap)
    parts = [np.zeros(split, np.float32), *(np.zeros(split, dtype) for _ in range(4))]
    stencil_split(*faces, s, wrap, *parts)
    return tuple(parts[:4])


def _vector(rng, shape, batch):
    v = np.zeros((batch, *split_shape(*shape)), np.float32)
    put(v, rng.standard_normal((batch, *shape)).astype(np.float32))
    return v


def _levels(rng):
    """Every shape on a mask and with coefficients; one or two systems, of one stencil or of their own."""
    for number, (shape, factor, wrap) in enumerate(_SHAPES):
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
    for shape, coarse, r, stencil, weights, factor, wrap in _levels(rng):
        xb, ec = _vector(rng, shape, len(r)) * (stencil[0] > 0), _vector(rng, coarse, len(r))
        yield (r, *stencil, *weights, factor, wrap, xb[:, 1].copy(), ec, np.full_like(r, np.nan),
               np.full(len(r), np.nan), np.full((len(r), 2, r.shape[2]), np.nan))  # fmt: skip


@contract(cases=_up_cases, writes=("z", "rz"), scratch=("work",), rtol=RTOL)
def cycle_up(r, d, fx, fy, fz, red, black, factor, wrap, xb, ec, z, rz, work):
    """(4), (5), and rz = r.z: z from x_b, made on the way down, and the coarse correction ec, in one trip.

    r, z (batch, 2, X, Y, H), xb (batch, X, Y, H), ec (batch, 2, X', Y', H') float32, rz (batch,) float64; work, float64
    (batch, 2, X), has a sum a plane. Ghost planes of z are left alone.
    """
    dinv, faces = _level(d, fx, fy, fz)
    both = np.zeros_like(r)
    both[:, 1] = xb
    e = prolong(natural(ec).astype(float), factor, natural(r).shape)
    e = np.concatenate([e, np.zeros((*e.shape[:-1], 2 * r.shape[-1] - e.shape[-1]))], -1)
    new = _up(natural(r).astype(float), dinv, faces, red, black, wrap, natural(both).astype(float), e)
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
    c, i, j, m = _places(*rows[-1][:2], shapes[-1][2])
    x, y, h = rows[-1][:3]
    cells = (((c * x + i) * y + j) * h + m)[1:-1]
    return np.array(rows, np.int32), cells.ravel().astype(np.int32), room


def _small_cases(rng, dtype):
    for number, (shape, wrap, axes, depth) in enumerate((
        ((3, 2, 3), _NEVER, (2, 2, 2), 0),
        ((6, 5, 7), _NEVER, (2, 2, 2), 1),
        ((8, 9, 20), _NEVER, (2, 2, 2), 2),
        ((12, 1, 33), _NEVER, (2, 1, 2), 2),
        ((8, 4, 16), (1, 1, 0), (2, 1, 2), 1),
    )):  # fmt: skip
        batch = 1 + number % 2
        shapes = [shape]
        for _ in range(depth):
            shapes.append(coarse_shape(shapes[-1], axes))
        levels, cells, room = small_levels(shapes, [axes] * depth, wrap)
        stencil = [part.reshape(1, -1) for s in shapes[:-1] for part in some_stencil(rng, s, wrap, False)]
        stencil = np.concatenate([np.zeros((1, 0), np.float32), *stencil], 1)
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


# ---- stencils -------------------------------------------------------------------------------------------------------


def _split_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(_SHAPES):
        batch = 1 + number % 2
        a = rng.standard_normal((batch, *shape)).astype(dtype)
        for kind in (np.float32, np.float64):
            yield a, np.full((batch, *split_shape(*shape)), np.nan, kind)
    codes = rng.integers(0, 60, (1, 4, 3, 5)).astype(np.uint8)
    yield codes, np.full((1, *split_shape(4, 3, 5)), 1, np.uint8)


@contract(cases=_split_cases, writes=("v",), rtol=RTOL)
def grid_split(a, v):
    """v = a, from the natural order to colours: a (batch, nx, ny, nz), v (batch, 2, X, Y, H); pads become 0, ghosts stay."""
    put(v, a.astype(v.dtype))


def _join_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(_SHAPES):
        batch = 1 + number % 2
        for kind in (np.float32, np.float64):
            v = rng.standard_normal((batch, *split_shape(*shape))).astype(kind)
            yield v, np.full((batch, *shape), np.nan, dtype)


@contract(cases=_join_cases, writes=("a",), rtol=RTOL)
def grid_join(v, a):
    """a = v, back to the natural order."""
    a[...] = natural(v)[..., : a.shape[-1]]


def _coarsen_cases(rng, dtype):
    for number, (shape, factor, wrap) in enumerate(_SHAPES):
        batch = 1 + number % 2
        coarse = (batch, *coarse_shape(shape, factor))
        alphas = tuple(rng.uniform(0.3, 1.0, 2).tolist())
        for mask in (True, False):
            if mask:
                active = rng.random((batch, *shape)) < 0.8
                stencil = open_faces(active, wrap), None, None, None, None
            else:
                faces, s = some_faces(rng, (batch, *shape), wrap)
                stencil = None, *(part.astype(dtype) for part in (*faces, s))
            yield *stencil, *alphas, factor, wrap, *(np.full(coarse, np.nan, np.float32) for _ in range(4))


@contract(cases=_coarsen_cases, writes=("cx", "cy", "cz", "cs"), rtol=RTOL)
def stencil_coarsen(d, fx, fy, fz, s, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    """The stencil of the next level, all in the natural order.

    Of a mask d (batch, nx, ny, nz) uint8 has D, 0 outside, and the others are None; else d is None and fx, fy, fz (face
    towards i + 1, j + 1, k + 1; 0 at the last, if that does not wrap), s have that shape. cx, cy, cz, cs float32, (batch, ceil(nx / factor[0]), ...).
    """
    if d is not None:
        active = (d > 0).astype(float)
        faces = []
        for w, axis in zip(wrap, (-3, -2, -1), strict=True):
            faces.append(active * np.roll(active, -1, axis))
            if not w:
                np.moveaxis(faces[-1], axis, 0)[-1] = 0
        s = d - (diagonal(faces, 0))
    else:
        faces = [face.astype(float) for face in (fx, fy, fz)]
    for axis, f, face, out in zip((-3, -2, -1), factor, faces, (cx, cy, cz), strict=True):
        across = [g if other != axis else 1 for g, other in zip(factor, (-3, -2, -1), strict=True)]
        total = np.moveaxis(restrict(face, across), axis, 0)
        if f == 2:
            total = alpha * np.concatenate([total[1::2], np.zeros((len(total) % 2, *total.shape[1:]))])
        out[...] = np.moveaxis(total, 0, axis)
    cs[...] = alpha_s * restrict(s.astype(float), factor)


def _stencil_cases(rng, dtype):
    for number, (shape, _, wrap) in enumerate(_SHAPES):
        batch = 1 + number % 2
        faces, s = some_faces(rng, (batch, *shape), wrap)
        split = (batch, *split_shape(*shape))
        for kind in (np.float32, np.float64):
            yield (*(part.astype(dtype) for part in (*faces, s)), wrap, np.full(split, np.nan, np.float32),
                   *(np.full(split, np.nan, kind) for _ in range(4)))  # fmt: skip


@contract(cases=_stencil_cases, writes=("d", "sx", "sy", "sz", "ss"), rtol=RTOL)
def stencil_split(fx, fy, fz, s, wrap, d, sx, sy, sz, ss):
    """A stencil from the natural order (batch, nx, ny, nz) to colours: d = 1 / D or 0 in float32, sx, sy, sz, ss = fx, ...

    Pads and ghost planes are 0 in d and ss, and 0 in the others.
    """
    whole = diagonal([f.astype(float) for f in (fx, fy, fz)], s.astype(float))
    with np.errstate(divide="ignore"):
        inverse = np.where(whole > 0, 1 / whole, 0)
    for out, a in ((d, inverse), (sx, fx), (sy, fy), (ss, s)):
        out[...] = 0
        put(out, a.astype(out.dtype))
    padded = np.pad(fz, [(0, 0)] * 3 + [(0, 2 * sz.shape[-1] - fz.shape[-1])])
    sz[...] = 0
    sz[:, 0, 1:-1] = padded[..., ::2]
    sz[:, 1, 1:-1] = np.roll(padded[..., 1::2], 1, -1)
