"""Grid problems of the linear bench, and of the training of the shipped weights: masks, coefficients, walls, mazes.

Each function takes a generator (or nothing random at all) and a grid shape of two or three axes, and gives a
GridOperator; `right_hand_side` a b that it can be solved for.
"""

import numpy as np
import scipy.ndimage

from ntsolve import GridOperator

DECADES = 5.0
"""Of contrast, at most, in the coefficients."""


def noise(rng, shape, exponent):
    """A random field of mean 0 and variance 1 whose Fourier amplitudes fall like |k|**-exponent."""
    waves = np.meshgrid(*(np.fft.fftfreq(n) * n for n in shape), indexing="ij", sparse=True)
    size = np.sqrt(sum(k * k for k in waves))
    size.flat[0] = 1.0
    field = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * size**-exponent).real
    return (field - field.mean()) / field.std()


def _positions(shape):
    """Coordinates of the cells' centres in the unit box, one array an axis, to be broadcast."""
    return np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij", sparse=True)


def _ball(shape, centre, radius):
    return sum((x - c) ** 2 for x, c in zip(_positions(shape), centre, strict=True)) < radius**2


def _side(shape, axis, last):
    cells = np.zeros(shape, dtype=bool)
    np.moveaxis(cells, axis, 0)[-1 if last else 0] = True
    return cells


# ---- masks: a fluid among obstacles, and air ------------------------------------------------------------------------


def obstacles(rng, shape):
    """Balls, boxes and rubble."""
    solid = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(0, 6)):
        centre = rng.random(len(shape))
        if rng.random() < 0.5:
            solid |= _ball(shape, centre, rng.uniform(0.04, 0.2))
        else:
            widths = rng.uniform(0.02, 0.25, len(shape))
            inside = (abs(x - c) < w for x, c, w in zip(_positions(shape), centre, widths, strict=True))
            solid |= np.logical_and.reduce(np.broadcast_arrays(*inside))
    if rng.random() < 0.3:
        solid |= noise(rng, shape, rng.uniform(2, 3)) > rng.uniform(0.8, 1.8)
    return solid


def air(rng, shape):
    """Where the pressure is given: above a rough surface, in bubbles, on one side, or on all."""
    kind = rng.integers(4)
    if kind == 0:
        return _positions(shape)[-1] > rng.uniform(0.3, 0.9) + 0.08 * noise(rng, shape, 3.0)
    if kind == 1:
        return noise(rng, shape, rng.uniform(2, 3.5)) > rng.uniform(0.2, 1.2)
    if kind == 2:
        return _side(shape, rng.integers(len(shape)), bool(rng.integers(2)))
    return np.logical_or.reduce([_side(shape, axis, last) for axis in range(len(shape)) for last in (False, True)])


def pressure(rng, shape):
    """The Poisson equation for the pressure in a box with walls, with obstacles and air in it."""
    while True:
        solid = obstacles(rng, shape)
        open_air = air(rng, shape) & ~solid
        fluid = _reached(~(open_air | solid), open_air)
        if fluid.mean() > 0.1:
            return GridOperator.poisson(fluid, solid=~(fluid | open_air), outside="neumann")


def _reached(fluid, open_air):
    """The fluid without pockets that touch no air, where the pressure would be anybody's guess."""
    label, count = scipy.ndimage.label(fluid)
    touching = label[scipy.ndimage.binary_dilation(open_air) & fluid]
    known = np.zeros(count + 1, dtype=bool)
    known[touching] = True
    known[0] = False
    return known[label]


# ---- coefficients ---------------------------------------------------------------------------------------------------


def _diffusion(rng, kappa):
    """Value 0 beyond both ends of the first axis and, by chance, beyond those of others; walls elsewhere."""
    ends = [("dirichlet", "dirichlet")]
    for _ in kappa.shape[1:]:
        ends.append(tuple("dirichlet" if rng.random() < 0.6 else "neumann" for _ in range(2)))
    return GridOperator.diffusion(kappa / np.exp(np.log(kappa).mean()), outside=ends)


def general(rng, shape, decades=None):
    """Smooth, of two materials, or smooth within two materials."""
    decades = rng.uniform(1, DECADES) if decades is None else decades
    kind = rng.integers(3)
    if kind == 0:
        field = noise(rng, shape, rng.uniform(1.0, 2.5))
        logarithm = decades * (field - field.min()) / np.ptp(field)
    elif kind == 1:
        logarithm = decades * (noise(rng, shape, rng.uniform(1.5, 3)) > rng.uniform(-0.5, 0.8))
    else:
        field = noise(rng, shape, 2.0)
        logarithm = 0.4 * decades * (field - field.min()) / np.ptp(field)
        logarithm = logarithm + 0.6 * decades * (noise(rng, shape, 2.5) > 0.5)
    return _diffusion(rng, 10.0**logarithm)


def layered(rng, shape, decades=None):
    """Layers one cell thick, across a random axis."""
    decades = rng.uniform(1, DECADES) if decades is None else decades
    axis = rng.integers(len(shape))
    along = [1] * len(shape)
    along[axis] = shape[axis]
    kappa = 10.0 ** (decades * rng.random(shape[axis])).reshape(along)
    return _diffusion(rng, np.broadcast_to(kappa, shape).copy())


def inclusions(rng, shape, decades=None):
    """Balls that conduct far better, or far worse, than what is around them."""
    decades = rng.uniform(1, DECADES) if decades is None else decades
    kappa = np.ones(shape)
    for _ in range(25):
        ball = _ball(shape, rng.random(len(shape)), rng.uniform(0.03, 0.15))
        kappa[ball] = 10.0 ** (decades * rng.choice((-1, 1)))
    return _diffusion(rng, kappa)


def white(rng, shape, decades=None):
    """Another coefficient in every cell."""
    decades = rng.uniform(1, DECADES) if decades is None else decades
    return _diffusion(rng, 10.0 ** (decades * rng.random(shape)))


COEFFICIENTS = {"general": general, "layered": layered, "inclusions": inclusions, "white": white}


# ---- particular shapes ----------------------------------------------------------------------------------------------


def box(shape, **options):
    """Nothing but a box."""
    return GridOperator.poisson(np.ones(shape, dtype=bool), **options)


def thin_walls(shape, hole=2):
    """A box parted by a wall one cell thick across each of the first two axes, each with one small hole."""
    solid = np.zeros(shape, dtype=bool)
    for axis in (0, 1):
        place = shape[axis] // 2 - 1 + axis
        wall = np.moveaxis(solid, axis, 0)[place]
        wall[...] = True
        at = [slice(n // 4, n // 4 + hole) for n in wall.shape]
        wall[tuple(at)] = False
    return GridOperator.poisson(~solid, solid=solid, outside="dirichlet")


def maze(shape, corridor=5):
    """Walls one cell thick with a slit at one end, then at the other: a single way, from the open end to the last."""
    solid = np.zeros(shape, dtype=bool)
    for number, place in enumerate(range(corridor, shape[0] - 1, corridor + 1)):
        solid[place] = True
        solid[place, 0 if number % 2 else -1] = False
    outside = [("dirichlet", "neumann"), *(["neumann"] * (len(shape) - 1))]
    return GridOperator.poisson(~solid, solid=solid, outside=outside)


def labyrinth(rng, shape):
    """A maze with one way between any two of its cells: corridors and walls one cell thick, a random spanning tree."""
    rooms = tuple((n + 1) // 2 for n in shape)
    open_cells = np.zeros(shape, dtype=bool)
    start = (0,) * len(shape)
    open_cells[start] = True
    path = [start]
    steps = [tuple(sign * (axis == a) for a in range(len(shape))) for axis in range(len(shape)) for sign in (-1, 1)]
    while path:
        room = path[-1]
        ahead = []
        for step in steps:
            there = tuple(r + d for r, d in zip(room, step, strict=True))
            inside = all(0 <= t < n for t, n in zip(there, rooms, strict=True))
            if inside and not open_cells[tuple(2 * t for t in there)]:
                ahead.append((there, step))
        if not ahead:
            path.pop()
            continue
        there, step = ahead[rng.integers(len(ahead))]
        open_cells[tuple(2 * r + d for r, d in zip(room, step, strict=True))] = True
        open_cells[tuple(2 * t for t in there)] = True
        path.append(there)
    outside = [("dirichlet", "neumann"), *(["neumann"] * (len(shape) - 1))]
    return GridOperator.poisson(open_cells, solid=~open_cells, outside=outside)


def chambers(rng, shape, count=3):
    """A box of plates at random places, each one cell thick and with a few holes: rooms joined by doors."""
    solid, doors = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for axis in [axis for axis in range(len(shape)) for _ in range(count)]:
        place = rng.integers(2, shape[axis] - 2)
        np.moveaxis(solid, axis, 0)[place] = True
        door = np.moveaxis(doors, axis, 0)[place]
        for _ in range(4 ** (len(shape) - 1)):
            door[tuple(slice(a, a + 2) for a in rng.integers(0, np.array(door.shape) - 1))] = True
    solid &= ~doors
    fluid = _reached(~solid, _side(shape, 0, False) & ~solid)
    return GridOperator.poisson(fluid, solid=~fluid, outside="dirichlet")


# ---- right-hand sides -----------------------------------------------------------------------------------------------


def right_hand_side(A, rng):
    """Normal random numbers; where A is singular, A times such."""
    b = rng.standard_normal(A.shape[0])
    return b if A.null is None else A.matvec(b)
