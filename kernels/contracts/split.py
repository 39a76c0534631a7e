"""The colour-split layout of grids, and how stencils get into it and to the next level.

A grid (nx, ny, nz) is stored colour by colour as (2, X, Y, H): X = nx + 2 planes, of which the first and last are
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

The coarse stencil is alpha times the sum of the faces that a coarse face covers, and alpha_s times the sum of what
couples to fixed values (`sink` s = D - sum of faces); along an axis that is not coarsened alpha is 1.
"""

import numpy as np

from . import contract

LANES = 8
CODES = 60.0
"""Common multiple of the diagonals of a mask."""

RTOL = {"float32": 2e-5, "float64": 2e-5}  # vectors are float32 whatever the stencil was made of
NEVER = (0, 0, 0)


def split_shape(nx, ny, nz):
    """(2, X, Y, H) of a grid."""
    return 2, nx + 2, ny, -(-((nz + 1) // 2) // LANES) * LANES


def coarse_shape(shape, factor):
    """Cells along each axis of the next level."""
    return tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))


# ---- in NumPy, in the natural order ---------------------------------------------------------------------------------


def places(planes, ny, nz):
    """(colour, plane, row, place) of each cell of an array of so many planes, ghosts included."""
    i, j, k = np.indices((planes, ny, nz))
    return (i + j + k) & 1, i, j, k >> 1


def natural(v):
    """(..., 2, X, Y, H) as (..., X - 2, Y, 2 H)."""
    planes, ny, h = v.shape[-3:]
    return v[(..., *places(planes, ny, 2 * h))][..., 1:-1, :, :]


def put(v, a):
    """Write what `natural` would return."""
    a = np.pad(a, [(0, 0)] * (a.ndim - 3) + [(1, 1), (0, 0), (0, 2 * v.shape[-1] - a.shape[-1])])
    kept = v[..., [0, -1], :, :].copy()
    planes, ny, nz = a.shape[-3:]
    v[(..., *places(planes, ny, nz))] = a
    v[..., [0, -1], :, :] = kept  # the ghosts


def pairs(fz):
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


def restrict(x, factor):
    """P'x for natural arrays."""
    for axis, f in zip((-3, -2, -1), factor, strict=True):
        if f == 2:
            x = np.moveaxis(x, axis, 0)
            x = np.concatenate([x, np.zeros((len(x) % 2, *x.shape[1:]))])
            x = np.moveaxis(x[::2] + x[1::2], 0, axis)
    return x


# ---- cases ----------------------------------------------------------------------------------------------------------

SHAPES = (  # shape, factor, wrap
    ((1, 1, 1), (1, 1, 1), NEVER),
    ((5, 3, 6), (2, 2, 2), NEVER),
    ((4, 4, 16), (2, 2, 2), NEVER),
    ((3, 5, 35), (1, 2, 2), NEVER),
    ((6, 4, 18), (2, 1, 1), NEVER),
    ((5, 1, 34), (2, 1, 2), NEVER),
    ((4, 1, 16), (1, 1, 2), (1, 0, 0)),
    ((2, 4, 16), (2, 2, 2), (1, 1, 1)),
    ((6, 6, 16), (1, 2, 1), (0, 1, 1)),
    ((4, 6, 32), (1, 1, 1), (0, 1, 1)),
    ((34, 2, 3), (2, 2, 2), NEVER),  # of so many planes that slabs begin anywhere
)


_KINDS = {"float32": ("float32",), "float64": ("float32", "float64")}  # what numbers of the one kind are split to


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


# ---- stencils -------------------------------------------------------------------------------------------------------


def _split_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(SHAPES):
        batch = 1 + number % 2
        a = rng.standard_normal((batch, *shape)).astype(dtype)
        for kind in _KINDS[dtype.name]:
            yield a, np.full((batch, *split_shape(*shape)), np.nan, kind)
    codes = rng.integers(0, 60, (1, 4, 3, 5)).astype(np.uint8)
    yield codes, np.full((1, *split_shape(4, 3, 5)), 1, np.uint8)


@contract(cases=_split_cases, writes=("v",), rtol=RTOL)
def grid_split(a, v):
    """v = a from the natural order to colours: a (batch, nx, ny, nz), v (batch, 2, X, Y, H); pads 0, ghosts kept."""
    put(v, a.astype(v.dtype))


def _codes_cases(rng, dtype):
    for number, (shape, _, wrap) in enumerate(SHAPES):
        batch = 1 + number % 2
        active = rng.random((batch, *shape)) < 0.8
        counts = open_faces(active, wrap, rng.integers(1, 7, active.shape))
        yield counts, np.full((batch, *split_shape(*shape)), 9, np.uint8)


@contract(cases=_codes_cases, writes=("v",))
def codes_split(open_faces, v):
    """v = round(CODES / D) from the natural order to colours, of D (batch, nx, ny, nz) uint8, up to 6; 0 where D is.

    v (batch, 2, X, Y, H) uint8; pads 0, ghosts kept.
    """
    put(v, np.array([0, *(round(CODES / d) for d in range(1, 7))], np.uint8)[open_faces])


def _join_cases(rng, dtype):
    for number, (shape, _, _) in enumerate(SHAPES):
        batch = 1 + number % 2
        v = rng.standard_normal((batch, *split_shape(*shape))).astype(np.float32)
        yield v, np.full((batch, *shape), np.nan, dtype)


@contract(cases=_join_cases, writes=("a",), rtol=RTOL)
def grid_join(v, a):
    """a = v, float32, back to the natural order, float32 or float64."""
    a[...] = natural(v)[..., : a.shape[-1]]


def _coarsen_cases(rng, dtype):
    for number, (shape, factor, wrap) in enumerate(SHAPES):
        batch = 1 + number % 2
        coarse = (batch, *coarse_shape(shape, factor))
        alphas = tuple(rng.uniform(0.3, 1.0, 2).tolist())
        for mask in (True, False):
            if mask:
                active = rng.random((batch, *shape)) < 0.8
                stencil = open_faces(active, wrap), None, None, None, None
            else:
                faces, s = some_faces(rng, (batch, *shape), wrap)
                stencil = None, *(part.astype(np.float32) for part in (*faces, s))
            yield *stencil, *alphas, factor, wrap, *(np.full(coarse, np.nan, np.float32) for _ in range(4))


@contract(cases=_coarsen_cases, writes=("cx", "cy", "cz", "cs"), rtol=RTOL)
def stencil_coarsen(d, fx, fy, fz, s, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    """The stencil of the next level, all in the natural order.

    Of a mask d (batch, nx, ny, nz) uint8 has D, 0 outside, and the others are None; else d is None and fx, fy, fz have
    the faces towards i + 1, j + 1, k + 1, 0 at the last if that does not wrap, s the sink, all of that shape and
    float32, as are cx, cy, cz, cs, (batch, ceil(nx / factor[0]), ...).
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


def _pairs_cases(rng, dtype):
    for number, (shape, factor, wrap) in enumerate(SHAPES):
        batch = 1 + number % 2
        faces, s = some_faces(rng, (batch, *shape), wrap)
        faces = [face * (rng.random(face.shape) < 0.7) for face in faces]
        s = s * rng.choice([1.0, 8.0], s.shape)  # beside faces that are little and faces that are more
        yield (*(part.astype(np.float32) for part in (*faces, s)), factor, np.full((batch, shape[0], 2), np.nan))


@contract(cases=_pairs_cases, writes=("counts",))
def parted_pairs(fx, fy, fz, s, factor, counts):
    """Of the pairs of cells that a coarsening joins, those in use and, of these, those that something parts.

    That is where there is no face in between, and one of the two is not held by its sink: its faces are more than that.
    A stencil as `stencil_coarsen` has it; counts (batch, nx, 2) float64, by the plane of the first cell of a pair.
    """
    faces, used = [face > 0 for face in (fx, fy, fz)], s > 0
    for axis, face in zip((1, 2, 3), faces, strict=True):
        used = used | face | np.roll(face, 1, axis)
    loose = diagonal([face.astype(float) for face in (fx, fy, fz)], -s.astype(float)) > 0
    counts[...] = 0
    for axis, face, f in zip((1, 2, 3), faces, factor, strict=True):
        if f == 2:
            here, there = ((slice(None),) * axis + (slice(a, b, 2),) for a, b in ((0, -1), (1, None)))
            both = used[here] & used[there]
            planes = slice(0, 2 * both.shape[1], 2) if axis == 1 else slice(None)
            counts[:, planes, 0] += both.sum(axis=(2, 3))
            counts[:, planes, 1] += (both & ~face[here] & (loose[here] | loose[there])).sum(axis=(2, 3))


def _stencil_cases(rng, dtype):
    for number, (shape, _, wrap) in enumerate(SHAPES):
        batch = 1 + number % 2
        faces, s = some_faces(rng, (batch, *shape), wrap)
        split = (batch, *split_shape(*shape))
        for kind in _KINDS[dtype.name]:
            outs = [np.full(split, np.nan, kind) for _ in range(3 + number % 3)][:4]
            yield (*(part.astype(dtype) for part in (*faces, s)), wrap, np.full(split, np.nan, np.float32), *outs,
                   *[None] * (4 - len(outs)))  # fmt: skip


@contract(cases=_stencil_cases, writes=("d", "sx", "sy", "sz", "ss"), rtol=RTOL)
def stencil_split(fx, fy, fz, s, wrap, d, sx, sy, sz, ss):
    """A stencil from the natural order (batch, nx, ny, nz) to colours: sx, sy, sz, ss = fx, fy, fz, s.

    And d = 1 / D in float32, 0 where D is. Pads and ghost planes become 0. ss may be None.
    """
    whole = diagonal([f.astype(float) for f in (fx, fy, fz)], s.astype(float))
    with np.errstate(divide="ignore"):
        inverse = np.where(whole > 0, 1 / whole, 0)
    for out, a in ((d, inverse), (sx, fx), (sy, fy), (ss, s)):
        if out is not None:
            out[...] = 0
            put(out, a.astype(out.dtype))
    padded = np.pad(fz, [(0, 0)] * 3 + [(0, 2 * sz.shape[-1] - fz.shape[-1])])
    sz[...] = 0
    sz[:, 0, 1:-1] = padded[..., ::2]
    sz[:, 1, 1:-1] = np.roll(padded[..., 1::2], 1, -1)
