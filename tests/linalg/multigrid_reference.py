"""The matrix of a multigrid cycle, written down from its formula with dense matrices: what the kernels are held to."""

import itertools

import numpy as np


def operator(faces, sink):
    """Dense A of the cells of a box: faces[d] couples a cell with the next along axis d, at the end with the first."""
    n = sink.size
    number = np.arange(n).reshape(sink.shape)
    A = np.diag(sink.ravel())
    for axis, face in enumerate(faces):
        for i, j, c in zip(number.ravel(), np.roll(number, -1, axis).ravel(), face.ravel(), strict=True):
            A[i, i] += c
            A[j, j] += c
            A[i, j] -= c
            A[j, i] -= c
    return A


def sweep(A, red, w_red, w_black):
    """(D / w + lower part)^-1 with the red cells first; inactive cells, whose diagonal is 0, stay 0."""
    d = np.diag(A)
    active = d > 0
    lower = np.where(np.outer(~red, red), A, 0.0)
    with np.errstate(divide="ignore"):
        S = np.diag(np.where(active, d / np.where(red, w_red, w_black), 1.0)) + lower
    return np.where(np.outer(active, active), np.linalg.inv(S), 0.0)


def blocks(shape, factor):
    """P (cells, coarse cells), constant on blocks, and the coarse shape."""
    coarse = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
    P = np.zeros((int(np.prod(shape)), int(np.prod(coarse))))
    for row, cell in enumerate(itertools.product(*map(range, shape))):
        P[row, np.ravel_multi_index([c // f for c, f in zip(cell, factor, strict=True)], coarse)] = 1
    return P, coarse


def coarse_stencil(faces, sink, P, coarse, factor, alpha, alpha_s):
    """Sums of the faces between different blocks: alpha times these along coarsened axes, and these along others."""
    block = P.argmax(1)
    place = np.unravel_index(np.arange(sink.size), sink.shape)
    found = []
    for axis, (face, f) in enumerate(zip(faces, factor, strict=True)):
        total = np.zeros(coarse)
        for cell, c in enumerate(face.ravel()):
            if f == 2 and place[axis][cell] % 2 == 0 and place[axis][cell] + 1 < sink.shape[axis]:
                continue  # inside a block
            total.ravel()[block[cell]] += c
        found.append(alpha * total if f == 2 else total)
    return found, alpha_s * (P.T @ sink.ravel()).reshape(coarse)


def cycle(faces, sink, factors, weights, level=0):
    """M = S'D(2/w - 1)S + (I - S'A) P Mc P'(I - A S), down to the (pseudo)inverse of the last level."""
    A = operator(faces, sink)
    if not factors:  # where A is singular, the inverse of its nonsingular part, after scaling by the diagonal
        d = np.sqrt(np.diag(A))
        scale = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
        return scale[:, None] * np.linalg.pinv(scale[:, None] * A * scale, hermitian=True, rtol=1e-7) * scale
    red_w, black_w, alpha, alpha_s = weights.at(level)
    i = np.indices(sink.shape).sum(0).ravel()
    red = (i + 1) % 2 == 0
    S = sweep(A, red, red_w, black_w)
    P, coarse = blocks(sink.shape, factors[0])
    coarser = coarse_stencil(faces, sink, P, coarse, factors[0], alpha, alpha_s)
    P = np.where(np.diag(A)[:, None] > 0, P, 0)
    Mc = cycle(*coarser, factors[1:], weights, level + 1)
    one = np.eye(len(A))
    middle = np.diag(np.diag(A) * (2 / np.where(red, red_w, black_w) - 1))
    return S.T @ middle @ S + (one - S.T @ A) @ P @ Mc @ P.T @ (one - A @ S)
