"""The programs of the gallery run, with the results that their pages speak of."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from .mpi.launch import missing, run
from .mpi.test_checks import PROMISED

GALLERY = Path(__file__).resolve().parent.parent / "docs" / "gallery"
ranks = pytest.mark.skipif(missing() is not None and not PROMISED, reason=str(missing()))
SMALL = ("--cells", "48", "16", "--steps", "8")


@pytest.fixture(scope="module")
def fluid():
    return runpy.run_path(str(GALLERY / "fluid.py"))


@pytest.fixture
def sweep():
    pytest.importorskip("distributed")
    return runpy.run_path(str(GALLERY / "ot_sweep.py"))


def energy(said):
    return float(re.search(r"energy along the channel ([\d.]+)", said)[1])


def test_the_flow_has_no_divergence_and_warm_starts_save_iterations(fluid, tmp_path, monkeypatch):
    monkeypatch.setitem(fluid["main"].__globals__, "world", fluid["Alone"])
    warm, fewer = fluid["main"]([*SMALL, "--plot", str(tmp_path / "flow.png")])
    cold, more = fluid["main"]([*SMALL, "--cold"])
    assert sum(fewer) < sum(more)
    assert abs(warm.divergence()).max() < 1e-3
    np.testing.assert_allclose(warm.picture, cold.picture, atol=1e-3)
    assert (tmp_path / "flow.png").stat().st_size > 200


@ranks
def test_the_flow_is_the_same_on_two_ranks(fluid, capsys):
    fluid["simulate"](fluid["Alone"](), 48, 16, 8, M="multigrid", rtol=1e-5)
    alone = energy(capsys.readouterr().out)
    done = run(2, GALLERY / "fluid.py", *SMALL, timeout=300)
    assert done.code == 0, done.output
    assert "on 2 ranks" in done.output
    assert energy(done.output) == pytest.approx(alone, rel=1e-4)


def test_a_recycler_saves_iterations_where_the_preconditioner_leaves_slow_modes(fluid):
    simulate, alone, counts = fluid["simulate"], fluid["Alone"](), []
    for options in ({}, {"recycle": fluid["ntsolve"].Recycler(k=8)}):
        counts.append(sum(simulate(alone, 48, 16, 8, M="jacobi", rtol=1e-5, say=str, **options)[1]))
    assert counts[1] < 0.8 * counts[0]


def test_the_sweep_on_dask(sweep):
    same, missing_part = sweep["main"](["--count", "40", "--points", "30", "--workers", "1"])
    assert same[2].success.all()
    assert missing_part[2].success.all()
    assert missing_part[1] < same[1]


@pytest.mark.slow
def test_the_sweep_of_a_thousand(sweep):
    same, missing_part = sweep["main"]([])
    assert same[2].success.all()
    assert (same[1], missing_part[1]) == pytest.approx((0.938, 0.037), abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "most"), [((), 5.5), (("--cold",), 8), (("--M", "jacobi", "--recycle"), 120)])
def test_the_iterations_that_the_page_says(fluid, options, most, monkeypatch):
    monkeypatch.setitem(fluid["main"].__globals__, "world", fluid["Alone"])
    _, iterations = fluid["main"](["--cells", "192", "64", "--steps", "100", *options])
    assert np.mean(iterations) < most
