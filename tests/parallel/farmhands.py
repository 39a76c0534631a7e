"""Solvers and promises of farms, in a module that the workers of any executor can import."""

import dataclasses
import itertools
import os
import threading
import time

import numpy as np
import scipy.sparse as sp

import ntsolve
from ntsolve import Status
from ntsolve.config import BUDGET
from ntsolve.kernels.settings import THREADS


class OddError(Exception):
    """Pickles, and cannot be made from its pickle."""

    def __init__(self, number, why):
        super().__init__(f"{number} is odd: {why}")


def tiny(n):
    return ntsolve.cg(np.eye(2), np.ones(2))


def settings(n):
    return dataclasses.replace(tiny(n), x=np.array([THREADS.get(), BUDGET.get()]), nit=os.getpid())


def refuses_three(n):
    if n == 3:
        raise KeyError("three")
    if n == 5:
        raise OddError(n, "it is five")
    if n == 7:
        raise SystemExit("seven")
    return tiny(n)


def dies_of_five(n):
    if n == 5:
        os._exit(3)
    time.sleep(0.01)
    return tiny(n)


def waits(n):
    """A hundredth of a second, or for a stop that does not come, which it says once the solve is well under way."""
    if n < 3:
        time.sleep(0.01)
        return tiny(n)
    A, products = np.logspace(0, 12, 400), itertools.count()

    def product(v):
        if next(products) == 100:
            os.write(1, b"waits\n")
        return A * v

    return ntsolve.cg(product, np.random.default_rng(n).standard_normal(400), rtol=1e-14, maxiter=10**8)


def systems(sizes=(30, 31, 30, 50, 30)):
    rng = np.random.default_rng(0)
    made = [(sp.diags_array(rng.random(n) + 1, format="csr") if n > 40 else np.diag(rng.random(n) + 1)) for n in sizes]
    return [(A, rng.standard_normal(n)) for A, n in zip(made, sizes, strict=True)]


def keeps_its_promises(executor, pickles):
    """What `solve_batch` says holds with any executor; `pickles`: there is another process, and plain pickles."""
    seen = []
    problems = systems()
    result = ntsolve.solve_batch("cg", problems, executor=executor, rtol=1e-10, progress=lambda *now: seen.append(now))
    for one, (A, b) in zip(result, problems, strict=True):  # of any kind, in their order
        assert np.linalg.norm(b - A @ one.x) <= 1e-9 * np.linalg.norm(b)
        assert one.status is Status.CONVERGED
    assert seen[-1] == (5, 5)
    assert sorted(seen) == seen

    costs = [(np.random.default_rng(i).random((30, 20 + i % 3)),) for i in range(6)]
    result = ntsolve.solve_batch("solve_ot", costs, executor=executor, reg=1e-2)
    assert result.success.all()
    for one, (C,) in zip(result, costs, strict=True):
        assert abs(one.plan.sum(axis=0) - 1 / C.shape[1]).sum() < 1e-8
        if pickles:  # it has stayed where it was
            assert one._solution.problem.cost.C is C

    result = ntsolve.solve_batch(refuses_three, [(n,) for n in range(1, 9)], executor=executor, on_failure="ignore")
    assert list(np.flatnonzero(~result.success)) == [2, 4, 6]
    assert set(result.status[[2, 4, 6]]) == {Status.RAISED}
    assert isinstance(result.errors[2], KeyError)
    assert "5 is odd: it is five" in str(result.errors[4])
    if pickles:
        assert "farmhands.py" in result.errors[2].__notes__[0]  # the traceback of the worker

    result = ntsolve.solve_batch("cg", [*problems, (problems[0][0], threading.Lock())], executor=executor,
                                 on_failure="ignore")  # fmt: skip
    assert list(result.status) == [1] * 5 + [Status.RAISED]
    assert str(result.errors[5]).startswith("b (lock) cannot be sent" if pickles else "b ")

    with ntsolve.config(budget=12345):
        result = ntsolve.solve_batch(settings, [(n,) for n in range(50)], executor=executor, threads=3)
    assert {tuple(x) for x in result.x} == {(3, 12345)}
    assert (os.getpid() in {one.nit for one in result}) is not pickles
