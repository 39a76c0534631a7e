"""Linear programs for the bench and the tests: with an optimum known by construction, from Netlib, and large ones."""

import json

import numpy as np
import scipy.sparse as sp

KINDS = ("plain", "degenerate", "badly scaled", "free variables", "ranges", "all of it")


def with_known_optimum(rng, kind, m, n, density=0.3):
    """(arguments of linprog, optimal value): x, y and reduced costs are chosen first, then what they are optimal for.

    kind is one of KINDS: "degenerate" has basic variables at their bounds and rows that are met without being paid for,
    "badly scaled" rows and columns over six orders of magnitude.
    """
    degenerate, scaled, free, ranges = (kind in (one, "all of it") for one in KINDS[1:5])
    A = sp.random_array((m, n), density=density, rng=rng, data_sampler=rng.standard_normal).toarray()
    A[np.arange(m), rng.integers(0, n, m)] += 1.0  # no empty rows
    # where a variable is: inside its bounds (0), at the lower (1) or the upper one (2)
    place = rng.choice(3, n, p=(0.4, 0.4, 0.2))
    lower, upper = np.round(rng.normal(0, 2, n)), np.zeros(n)
    upper[:] = lower + rng.integers(1, 5, n)
    x = np.where(place == 1, lower, np.where(place == 2, upper, lower + rng.uniform(0.1, 0.9, n) * (upper - lower)))
    z = np.where(place == 1, 1.0, np.where(place == 2, -1.0, 0.0)) * rng.uniform(0.1, 2, n)
    if degenerate:
        z[rng.random(n) < 0.4] = 0
    loose = rng.random(n)
    lower[(loose < 0.2) & (place != 1)] = -np.inf
    upper[(loose > 0.6) & (place != 2)] = np.inf
    if free:
        some = (place == 0) & (rng.random(n) < 0.6)
        lower[some], upper[some] = -np.inf, np.inf
    # a row is not tight (0), at its lower (1) or upper side (2), or an equation (3)
    place = rng.choice(4, m, p=(0.25, 0.25, 0.25, 0.25))
    y = np.select([place == 1, place == 2, place == 3], [1.0, -1.0, np.sign(rng.standard_normal(m))], 0.0)
    y *= rng.uniform(0.1, 2, m)
    if degenerate:
        y[rng.random(m) < 0.4] = 0
    activity, width = A @ x, rng.uniform(0.5, 2, (2, m))
    low = np.where((place == 1) | (place == 3), activity, activity - width[0])
    high = np.where((place == 2) | (place == 3), activity, activity + width[1])
    if not ranges:
        low[(place == 2) | ((place == 0) & (loose[:1] < 0.5))] = -np.inf
        high[(place == 1) | ((place == 0) & (loose[:1] >= 0.5))] = np.inf
    c = A.T @ y + z
    value = c @ x
    if scaled:
        rows, columns = 10 ** rng.uniform(-3, 3, m), 10 ** rng.uniform(-3, 3, n)
        A, low, high = rows[:, None] * A * columns, rows * low, rows * high
        c, lower, upper = c * columns, lower / columns, upper / columns
    bounds = np.column_stack([lower, upper])
    return {"c": c, "bounds": bounds, "constraints": (sp.csr_array(A), low, high)}, float(value)


def netlib(folder):
    """{name: (arguments of linprog, published optimum or None)}, by size."""
    optimum = folder / "optimum.json"
    values = json.loads(optimum.read_text("utf-8")) if optimum.exists() else {}
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as parts:

            def matrix(name, parts=parts):
                data = (parts[f"{name}_data"], parts[f"{name}_indices"], parts[f"{name}_indptr"])
                return sp.csr_array(data, shape=tuple(parts[f"{name}_shape"]))

            found[path.stem] = (
                {
                    "c": parts["c"],
                    "A_ub": matrix("A_ub"),
                    "b_ub": parts["b_ub"],
                    "A_eq": matrix("A_eq"),
                    "b_eq": parts["b_eq"],
                    "bounds": np.column_stack([parts["lower"], parts["upper"]]),
                },
                values.get(path.stem),
            )
    return dict(sorted(found.items(), key=lambda item: item[1][0]["A_eq"].nnz + item[1][0]["A_ub"].nnz))


def random_sparse(m, n, a_column=4, seed=0):
    """min c'x, A x = b, x >= 0 with a few entries a column, feasible and bounded."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, m, (n, a_column)).reshape(-1)
    A = sp.csr_array((rng.standard_normal(n * a_column), (rows, np.repeat(np.arange(n), a_column))), shape=(m, n))
    x = np.where(rng.random(n) < 0.2, rng.random(n), 0.0)
    z = np.where(x > 0, 0.0, rng.random(n))
    return {"c": A.T @ rng.standard_normal(m) + z, "A_eq": A, "b_eq": A @ x}


def pagerank(n, links=3, damping=0.99, seed=0):
    """PageRank as the program of Applegate et al., "Practical large-scale linear programming using primal-dual hybrid
    gradient" (2021): no costs, x >= damping S x + (1 - damping) / n, sum x = 1, on a graph grown by preference."""
    rng = np.random.default_rng(seed)
    ends = [0, 1, 1, 0]  # of all links so far: one drawn from here is a node with a chance as its number of links
    for node in range(2, n):
        for end in {ends[i] for i in rng.integers(0, len(ends), links)}:
            ends += [node, end]
    source, target = np.array(ends).reshape(-1, 2).T
    S = sp.csr_array((np.ones(2 * source.size), (np.r_[target, source], np.r_[source, target])), shape=(n, n))
    S = S @ sp.diags_array(1 / np.asarray(S.sum(0)).reshape(-1))
    A = (damping * S - sp.eye_array(n)).tocsr()
    one = sp.csr_array(np.ones((1, n)))
    return {"c": np.zeros(n), "A_ub": A, "b_ub": np.full(n, -(1 - damping) / n), "A_eq": one, "b_eq": np.ones(1)}
