"""Whether forbidden pairs leave a plan: a maximal flow, asked for when a solve with such pairs does not converge."""

import numpy as np

UNITS = 1 << 30  # that the mass is cut into


def obstruction(allowed, a, b):
    """Why there is no plan between a and b (of sum 1) along the allowed pairs, in words; None if there is one.

    By Hall's theorem (in the form of Gale, 1957) there is none just when some rows have more mass than all the columns
    that they can reach. Such rows are on the side of the source in a minimal cut.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    (n, m), source, sink = allowed.shape, allowed.shape[0] + allowed.shape[1], sum(allowed.shape) + 1
    supply, demand = (np.floor(UNITS * weights).astype("int32") for weights in (a, b))
    i, j = allowed.nonzero()
    tails = np.concatenate([np.full(n, source), i, n + np.arange(m)])
    heads = np.concatenate([np.arange(n), n + j, np.full(m, sink)])
    room = np.concatenate([supply, np.minimum(supply[i], demand[j]), demand])
    graph = csr_array((room.astype("int32"), (tails, heads)), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, source, sink)
    if UNITS - int(flow.flow_value) <= 4 * (n + m):  # what rounding to units explains
        return None
    left = graph - flow.flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = np.zeros(sink + 1, dtype=bool)
    reached[breadth_first_order(left, source, return_predecessors=False)] = True
    rows = reached[:n].nonzero()[0]
    columns = allowed[rows].any(axis=0)
    few = ", ".join(map(str, rows[:5])) + (", ..." if rows.size > 5 else "")
    return (
        f"{rows.size} rows ({few}) have {a[rows].sum():.6g} of the mass, and the {int(columns.sum())} columns that "
        f"they may go to take {b[columns].sum():.6g} of it"
    )
