"""The backends that tests run on: "cpu", and "cuda" where CuPy, or the stand-in for it in tests/emu, is importable.

A test that is written for any backend takes one of BACKENDS, moves its arrays there and looks at the answer here.
"""

import numpy as np
import scipy.sparse as sp

try:
    import cupy
    import cupyx.scipy.sparse as device_sparse
except ImportError:
    cupy = None

BACKENDS = ("cpu",) if cupy is None else ("cpu", "cuda")


def to_device(value, backend):
    """An array or sparse matrix on the backend (a sparse one as CSR, on the GPU); anything else as it is."""
    if backend == "cpu":
        return value
    if sp.issparse(value):
        return device_sparse.csr_matrix(value.tocsr())
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def to_host(value):
    """The NumPy array, or SciPy matrix, with the same content."""
    return value.get() if type(value).__module__.partition(".")[0] in ("cupy", "cupyx") else value
