"""Training of the weights of a multigrid cycle: a dozen numbers, by CMA-ES, on true iteration counts.

The measure is what a user pays for: the iterations of the preconditioned conjugate gradient method until the residual
has fallen by `rtol`, made fractional by interpolating the logarithm of the residual between the last two. It has no
gradient worth computing (kinks, and a loop of unknown length), but it is cheap and a dozen numbers are few, which is
what the covariance matrix adaptation evolution strategy is for: N. Hansen, "The CMA Evolution Strategy: A Tutorial",
arXiv:1604.00772, here in its author's package `cma`. The search is over unconstrained t,

    w = 2 / (1 + exp(-t)),   alpha = 0.5 exp(t),   alpha_s = 0.5 exp(t),

so that every point is a positive definite cycle, and t = 0 the untrained one.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from .. import validate
from ..config import config
from ..kernels.settings import threads
from .cg import cg
from .grid import GridOperator
from .multigrid import LearnedMultigrid
from .weights import OVERCORRECTION, RELAXATION, Weights

LEVELS = 3  # with weights of their own; the last is for all below
CAP = 100  # iterations after which a candidate is a bad one
POPULATION = 10
SIGMA = 0.3


@dataclass(frozen=True, eq=False)
class Training:
    """What `train_multigrid` found.

    Attributes
    ----------
    weights : Weights
        To be passed as ``LearnedMultigrid(A, weights=training.weights)``.
    history : array (generations, 3)
        After each generation: seconds since the start, and the mean iterations over the problems drawn for it of the
        best candidate and of the untrained cycle.
    untrained, trained : float
        Mean iterations over all problems, before and after.
    evaluations : int
        Candidates looked at.
    """

    weights: Weights
    history: np.ndarray
    untrained: float
    trained: float
    evaluations: int

    def __repr__(self):
        return f"Training({self.untrained:.2f} -> {self.trained:.2f} iterations, {self.evaluations} evaluations)"

    def save(self, path) -> None:
        """Write the weights to an .npz file, to be passed as ``weights=path``."""
        self.weights.save(path)


def train_multigrid(problems, *, generations=150, time_limit=300.0, sample=5, rtol=1e-6, rng=0,
                    progress=True) -> Training:  # fmt: skip
    """Fit the weights of the multigrid cycle to a family of grid problems.

    Parameters
    ----------
    problems : sequence of GridOperator
        Twenty or more of the kind to be solved later, of a size that is quick to solve: 32^3, 128^2. What is learned
        there holds on larger grids.
    generations : int
        Of ten candidates each, at most.
    time_limit : float or None
        Seconds: no generation begins that is not expected to be over by then, and what was found judged. With the same
        `rng` the result is the same if this does not cut it short.
    sample : int
        Problems that a generation is judged on, drawn anew each time.
    rtol : float
        The fall of the residual that iterations are counted to.
    rng : None, int or numpy.random.Generator
        For the search and the right-hand sides. None: 0, the same each time.
    progress : bool
        Show a bar on standard error, where that is a terminal.

    Returns
    -------
    Training
        `weights`, `history`, `untrained`, `trained`; ``.save(path)``. Never worse on the problems than the untrained
        cycle: where the search finds nothing better, that is what it returns.

    Raises
    ------
    ImportError
        Without the package `cma`: ``pip install "ntsolve[train]"``.
    TypeError, ValueError
        Naming the argument that does not fit.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> problems = [ntsolve.GridOperator.poisson(rng.random((16, 16)) < 0.9) for _ in range(4)]
    >>> training = ntsolve.train_multigrid(problems, generations=1, progress=False)  # doctest: +SKIP
    >>> training.trained <= training.untrained  # doctest: +SKIP
    True
    """
    if not isinstance(problems, Iterable):
        raise TypeError(f"problems must be a sequence of GridOperator, not {type(problems).__name__}")
    began = time.perf_counter()
    problems = [_problem(place, A) for place, A in enumerate(problems)]
    if not problems:
        raise ValueError("problems is empty")
    generations, sample = validate.count("generations", generations, least=1), validate.count("sample", sample, least=1)
    time_limit = np.inf if time_limit is None else validate.nonnegative("time_limit", time_limit, finite=False)
    if not 0 < validate.positive("rtol", rtol) < 1:
        raise ValueError(f"rtol must lie between 0 and 1, not {rtol}")
    cma = _cma()
    rng = validate.generator("rng", rng)
    systems = [(A, _right_hand_side(A, rng)) for A in problems]
    with _Judge(systems, rtol) as judge, _bar(generations, progress) as bar:
        start, everything = np.zeros(4 * LEVELS), range(len(systems))
        untrained = judge(start, everything)
        judging, generation = time.perf_counter() - began, 0.0  # seconds
        # NaN: cma leaves NumPy's global random state alone, and draws from ours
        options = {"seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape), "popsize": POPULATION,
                   "verbose": -9, "maxiter": np.inf}  # fmt: skip
        search = cma.CMAEvolutionStrategy(start, SIGMA, options)
        history: list = []
        evaluations = 0
        for _ in range(generations):
            now = time.perf_counter()
            if now - began + generation + judging >= time_limit:
                break
            drawn = rng.choice(len(systems), min(sample, len(systems)), replace=False)
            candidates = search.ask()
            scores = [judge(t, drawn).mean() for t in candidates]
            search.tell(candidates, scores)
            evaluations += len(candidates)
            history.append((time.perf_counter() - began, min(scores), untrained[drawn].mean()))
            generation = time.perf_counter() - now
            bar.update(1)
            bar.set_postfix_str(f"{min(scores):.2f} iterations, untrained {history[-1][2]:.2f}")
        center = np.asarray(search.result.xfavorite)
        finalists = [(untrained.mean(), start)]
        if evaluations:
            finalists.append((judge(center, everything).mean(), center))
    best, found = min(finalists, key=lambda pair: pair[0])
    curve = np.array(history).reshape(-1, 3)
    (ndim,) = {A.ndim for A in problems} if len({A.ndim for A in problems}) == 1 else (None,)
    return Training(replace(decode(found), ndim=ndim), curve, float(untrained.mean()), float(best), evaluations)


def decode(t):
    """Weights from a point (4 LEVELS,) of the search space."""
    t = np.clip(np.asarray(t, dtype=float), -10, 10)
    relaxation = (2 / (1 + np.exp(-t[: 2 * LEVELS]))).reshape(LEVELS, 2)
    faces, sink = 0.5 * np.exp(t[2 * LEVELS :].reshape(2, LEVELS))
    return Weights(np.clip(relaxation, *RELAXATION), np.clip(faces, *OVERCORRECTION), np.clip(sink, *OVERCORRECTION),
                   "trained")  # fmt: skip


def fractional_iterations(A, b, M, rtol=1e-6, cap=CAP):
    """Iterations of cg until ||r|| <= rtol ||b||, where log ||r|| is linear between two; `cap` where it takes more."""
    result = cg(A, b, M=M, rtol=rtol, maxiter=cap, on_failure="ignore")
    norms = np.asarray(result.history, dtype=float)
    if norms[0] == 0:
        return 0.0
    fallen = np.log10(np.maximum(norms / norms[0], 1e-300))
    reached = np.flatnonzero(fallen <= np.log10(rtol))
    if not reached.size:
        return float(cap)
    last = reached[0]
    before, after = fallen[last - 1], fallen[last]
    return float(last - 1 + (before - np.log10(rtol)) / (before - after))


class _Judge:
    """Iterations of candidates, the problems shared among threads: the kernels run without the GIL."""

    def __init__(self, systems, rtol):
        self.systems, self.rtol = systems, rtol
        self.pool = ThreadPoolExecutor(min(threads(), len(systems)), thread_name_prefix="ntsolve-training")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.pool.shutdown(cancel_futures=True)

    def __call__(self, t, which):
        """(len(which),) iterations of the cycle at t."""
        weights = decode(t)

        def one(index):
            A, b = self.systems[index]
            with config(threads=1):
                return fractional_iterations(A, b, LearnedMultigrid(A, weights=weights, coarsening="blocks"), self.rtol)

        return np.array(list(self.pool.map(one, which)))


def _problem(place, A):
    if not isinstance(A, GridOperator):
        raise TypeError(f"problems[{place}] must be a GridOperator, not {type(A).__name__}")
    if A.batch_shape:
        raise ValueError(f"problems[{place}] is a batch of operators; pass them one by one")
    try:
        LearnedMultigrid(A, weights="untrained", coarsening="blocks")
    except ValueError as error:
        raise ValueError(f"problems[{place}] has no cycle with weights to train: {error}") from error
    return A


def _right_hand_side(A, rng):
    """Normal random numbers in the range of A."""
    b = rng.standard_normal(A.shape[0])
    return b if A.null is None else A.matvec(b)


def _cma():
    try:
        import cma
    except ImportError as error:
        raise ImportError('train_multigrid needs the package cma: pip install "ntsolve[train]"') from error
    return cma


def _bar(total, progress):
    from tqdm import tqdm

    return tqdm(total=total, desc="training", disable=None if progress else True, leave=False)
