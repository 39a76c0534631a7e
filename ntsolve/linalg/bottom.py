"""The inverse of the coarsest level of a multigrid cycle.

A level is a graph: `weights` >= 0 are the entries of A off the diagonal with their signs turned, `slack` >= 0 is by how
much the diagonal exceeds their sum. Where it is singular is read off the graph: on sets of unknowns that hang together
and have no slack, which no rounding of a diagonal can hide.
"""

import contextlib

import numpy as np

FLOOR = 1e-11  # eigenvalues of the matrix scaled to a diagonal of 1 below this are taken for 0
TAME = 1e6  # a norm of the inverse of that matrix, below which nothing is near to singular


def inverse(weights, slack):
    """B with A B A = A (up to modes that are all but null), symmetric positive semidefinite, float64.

    Parameters
    ----------
    weights : array (n, n), symmetric, its diagonal 0
    slack : array (n,)

    Returns
    -------
    array (n, n)
    """
    weights, slack = np.asarray(weights, dtype="float64"), np.asarray(slack, dtype="float64")
    diag = weights.sum(axis=1) + slack
    half = np.divide(1, np.sqrt(diag), out=np.zeros_like(diag), where=diag > 0)
    with contextlib.suppress(np.linalg.LinAlgError):  # LU is on one thread for matrices of this size
        B = np.linalg.inv(np.eye(diag.size) - half[:, None] * weights * half)
        if abs(B).sum(axis=1).max(initial=0) < TAME:
            return half[:, None] * (0.5 * (B + B.T)) * half
    from scipy.sparse.csgraph import connected_components

    count, sets = connected_components(weights > 0, directed=False)
    grounded = np.bincount(sets, slack, minlength=count) > 0
    B = np.zeros_like(weights)
    for members in (np.flatnonzero(sets == one) for one in range(count)):
        if not grounded[sets[members[0]]] and members.size == 1:
            continue
        scale = half[members]
        A = np.eye(members.size) - scale[:, None] * weights[np.ix_(members, members)] * scale
        values, vectors = np.linalg.eigh(A)
        if not grounded[sets[members[0]]]:
            values, vectors = values[1:], vectors[:, 1:]  # the first is that of the constant
        kept = values > FLOOR
        vectors = scale[:, None] * vectors[:, kept]
        B[np.ix_(members, members)] = (vectors / values[kept]) @ vectors.T
    return B
