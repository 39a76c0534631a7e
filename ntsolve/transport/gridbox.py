"""The part of a grid in which two images have their masses, and what a solution there says of the whole.

No mass has a reason to leave the smallest box around all of it: its moves go along a column of the first image and a
row of the second, which are both in there. So the problem is solved in the box, widened by empty lines (beyond the
image, if need be) until it can be halved often enough. Potentials of pixels outside follow by c-transforms, which keep
them feasible and lower no potential inside.
"""

import numpy as np

from . import gridbounds

COARSEST = 16  # pixels of the shorter side of the first grid


class Box:
    """Around the masses of a and b, (m, n) each on the host.

    Attributes
    ----------
    shape : (int, int)
        Of the widened box.
    """

    def __init__(self, a, b):
        filled = (a > 0) | (b > 0)
        ends = [np.flatnonzero(filled.any(axis))[[0, -1]] + (0, 1) for axis in (1, 0)]
        sizes = [int(last - first) for first, last in ends]
        halvings = max(0, (min(sizes) // COARSEST).bit_length() - 1)
        self.shape = tuple(-(-size // 2**halvings) * 2**halvings for size in sizes)
        there = []
        for (first, _), size, of in zip(ends, self.shape, a.shape, strict=True):
            begin = int(max(0, min(first, of - size)))  # so that it ends within the image, if it can
            there.append(slice(begin, min(begin + size, of)))
        self._of, self._there = a.shape, tuple(there)  # where the box is in the image, and that part in the box:
        self._here = tuple(slice(0, part.stop - part.start) for part in there)

    @property
    def whole(self):
        """Whether it is the whole image and no more."""
        return self.shape == self._of

    def cut(self, image):
        """The image in the box."""
        part = np.zeros(self.shape)
        part[self._here] = image[self._there]
        return part

    def put(self, part):
        """That in the box, and zero outside."""
        image = np.zeros(self._of)
        image[self._there] = part[self._here]
        return image

    def potentials(self, problem, v):
        """(value, u, v) of the whole `problem`, from the potential of the second image in the box."""
        rows, columns = self._there
        inside = np.ascontiguousarray(v[self._here])
        u = gridbounds.transform(problem.k, inside, problem.C.T[rows], problem.D.T[columns])
        v = gridbounds.transform(problem.k, u, problem.C, problem.D)
        return gridbounds.value(problem, u, v), u, v
