"""Transport problems of the bench: random assignment, images of digits, points in the plane. The largest cost is 1.

Digits are those of MNIST where the environment variable NTSOLVE_DATA names a folder with a file mnist60.npz (`images`,
an array (60, 28, 28)), else scikit-learn's, of 8 x 8 pixels, enlarged to 28 x 28.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntsolve.demo import need

PAIR = (0, 1)  # the images that the tasks are made of
UNIFORM = 0.05  # part of each image that is spread evenly, so that no pixel is without mass


@dataclass(frozen=True, eq=False)
class Task:
    """A cost matrix, weights, and the family of tasks that a claim is about: "random", "digits" or "points"."""

    name: str
    family: str
    C: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def size(self):
        return self.a.size


def random_assignment(n, seed=0):
    """Independent uniform costs, uniform weights."""
    weights = np.full(n, 1 / n)
    return Task(f"random assignment, n = {n}", "random", np.random.default_rng(seed).random((n, n)), weights, weights)


def digit_images(side=28):
    """(images (count, side * side) of sum 1 each, where they are from)"""
    folder = os.environ.get("NTSOLVE_DATA")
    path = None if folder is None else Path(folder) / "mnist60.npz"
    if path is not None and path.exists() and side == 28:
        images, source = np.load(path)["images"].astype(float), "MNIST"
    else:
        (datasets,) = need("sklearn.datasets")
        from scipy.ndimage import zoom

        images, source = datasets.load_digits().images[:60], "scikit-learn's digits"
        if side != 8:
            images, source = np.maximum(zoom(images, (1, side / 8, side / 8), order=1), 0), f"{source}, enlarged"
    images = images.reshape(len(images), -1)
    images = images / images.sum(1, keepdims=True)
    return (images + UNIFORM / side**2) / (1 + UNIFORM), source


def grid_cost(side, power):
    """Squared Euclidean (power 2) or Manhattan (power 1) distances between the pixels of an image."""
    pixels = np.stack(np.meshgrid(*[np.arange(side, dtype=float)] * 2, indexing="ij"), -1).reshape(-1, 2)
    cost = (abs(pixels[:, None] - pixels) ** power).sum(-1)
    return cost / cost.max()


def digits(power, side=28):
    """The transport of one digit to another."""
    images, source = digit_images(side)
    ground = "squared L2" if power == 2 else "L1"
    a, b = (images[number] for number in PAIR)
    return Task(f"digits ({source}), {side**2} pixels, {ground}", "digits", grid_cost(side, power), a, b)


def clouds(n, seed=1):
    """Two point clouds in the plane, a round one and one of three clusters, with weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    centres = np.array([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    Y = centres[rng.integers(0, 3, n)] + 0.5 * rng.standard_normal((n, 2))
    a, b = rng.random(n) + 0.5, rng.random(n) + 0.5
    return X, Y, a / a.sum(), b / b.sum()


def points(n):
    """Squared distances between the points of two clouds."""
    X, Y, a, b = clouds(n)
    C = ((X[:, None, :] - Y[None]) ** 2).sum(-1)
    return Task(f"{n:,} points in the plane, squared L2", "points", C / C.max(), a, b)


def marginal_error(task, P):
    """|P 1 - a|_1 + |P'1 - b|_1, for everybody; infinite where P is not a matrix of non-negative numbers."""
    P = np.asarray(P)
    if P.shape != task.C.shape or not np.isfinite(P).all() or P.min(initial=0) < 0:
        return np.inf
    return float(abs(P.sum(1) - task.a).sum() + abs(P.sum(0) - task.b).sum())
