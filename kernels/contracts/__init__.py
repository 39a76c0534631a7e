"""What every kernel means.

A contract is the slow, obvious NumPy body of a kernel (its oracle), the names of the arguments that it writes, the
cases that every twin must pass, and the tolerance to pass them with. Kernels allocate nothing: what they write is
passed in, so that a loop can run without allocation and be captured as a CUDA graph.

Array arguments are C-contiguous. Leading axis first: vectors are (batch, n), one system a row. Sums are in float64
whatever the dtype of the data.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BLOCK = 2048
"""Elements a partial sum covers, on every backend. Fixed, so that results do not depend on the number of threads."""

CONTRACTS: dict[str, "Contract"] = {}
DEFAULT_RTOL = {"float32": 2e-5, "float64": 1e-12}


@dataclass(frozen=True)
class Contract:
    """One kernel: `oracle` is its meaning, `writes` the arguments it changes, `cases(rng, dtype)` what it must pass."""

    name: str
    family: str
    oracle: Callable[..., None]
    cases: Callable[[np.random.Generator, np.dtype], Iterator[tuple]]
    writes: tuple[str, ...]
    scratch: tuple[str, ...] = ()
    within: dict[str, str] = field(default_factory=dict)
    rtol: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_RTOL))

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments, in order."""
        return tuple(inspect.signature(self.oracle).parameters)

    def bind(self, case: tuple) -> dict[str, Any]:
        """The arguments of one case by name."""
        return dict(zip(self.arguments, case, strict=True))


def contract(*, cases, writes, scratch=(), within=None, rtol=None):
    """Declare a kernel: the decorated function is its oracle, its docstring its meaning.

    `writes` names the arguments whose content on return is the result, `scratch` those whose content means nothing.
    `within` maps a result that is mostly rounding to the argument that says what size of it still matters.
    """

    def declare(oracle):
        found = Contract(
            name=oracle.__name__,
            family=oracle.__module__.rpartition(".")[2],
            oracle=oracle,
            cases=cases,
            writes=tuple(writes),
            scratch=tuple(scratch),
            within=within or {},
            rtol=rtol or dict(DEFAULT_RTOL),
        )
        unknown = set(found.writes + found.scratch) - set(found.arguments)
        if unknown:
            raise TypeError(f"{found.name}: no argument is called {', '.join(sorted(unknown))}")
        CONTRACTS[found.name] = found
        return oracle

    return declare


def blocks(n: int) -> int:
    """Partial sums that a vector of n elements has; at least one, so that an empty vector sums to zero."""
    return max(1, -(-n // BLOCK))


def workspace_shape(batch: int, n: int) -> tuple[int, int, int]:
    """Shape of the float64 scratch that a kernel with sums over rows of n elements asks for: two sums a block."""
    return (batch, 2, blocks(n))


def load_all() -> dict[str, "Contract"]:
    """Import every family and return the registry."""
    from . import (  # noqa: F401
        aggregation,
        batched,
        convolution,
        cycle,
        factors,
        fisher,
        gibbs,
        grid,
        gridcg,
        gridot,
        kkt,
        linalg,
        lp,
        lprows,
        manyot,
        proximal,
        scaling,
        sketch,
        softmin,
        split,
        steps,
        triangular,
    )

    return CONTRACTS
