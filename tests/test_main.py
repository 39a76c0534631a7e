"""`python -m ntsolve`: info says what is there, warmup leaves nothing to compile, the demo's figures are true."""

import functools
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg

import ntsolve
from ntsolve import __main__ as command
from ntsolve import demo
from ntsolve.demo import _contest
from ntsolve.kernels import contracts

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = contracts.load_all()


def run(*arguments, **environment):
    """`python -m ntsolve ...` in a process of its own, in the root of the checkout."""
    return subprocess.run([sys.executable, "-m", "ntsolve", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ | environment)  # fmt: skip


def test_info_names_versions_threads_and_cache():
    done = run("info", NTSOLVE_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["ntsolve"] == ntsolve.__version__
    assert rows["numpy"] == np.__version__
    assert rows["threads"].startswith("3 ")
    assert rows["backends"].startswith("cpu")
    assert {"python", "scipy", "numba", "CPU", "Numba"} <= set(rows)


def test_without_a_command_it_says_what_there_is():
    done = run()
    assert done.returncode == 2
    assert "info | warmup | demo | solve" in done.stderr


# ---- warmup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_warmup_has_a_case_for_each_dtype_and_index_type(name):
    contract = REGISTRY[name]
    bound = [contract.bind(case) for case in command.smallest_cases(contract)]
    dtypes = {v.dtype.name for arguments in bound for v in arguments.values() if isinstance(v, np.ndarray)}
    floats = [np.dtype("f4"), np.dtype("f8")]
    declared = [v for dtype in floats for case in contract.cases(np.random.default_rng(0), dtype) for v in case]
    assert {v.dtype.name for v in declared if isinstance(v, np.ndarray)} <= dtypes  # some kernels are float64 only
    if "indices" in contract.arguments and "indices" not in contract.writes:
        place = contract.arguments.index("indices")
        both = (contract.cases(np.random.default_rng(0), dtype) for dtype in floats)
        wanted = {case[place].dtype.name for cases in both for case in cases}
        assert {arguments["indices"].dtype.name for arguments in bound} == wanted
    for argument in contract.arguments:
        wanted = {
            type(contract.bind(case)[argument]) for case in contract.cases(np.random.default_rng(0), np.dtype("f8"))
        }
        assert {type(arguments[argument]) for arguments in bound} == wanted


@pytest.fixture
def compiled(monkeypatch):
    """A function that counts what Numba has compiled or loaded so far in this process."""
    monkeypatch.setattr(command._environment, "gpus", lambda: ([], "not looked for"))
    kernels = command._environment.compiled_kernels()
    return lambda: {name: len(kernel.signatures) for name, kernel in kernels.items()}


def test_after_warmup_a_solve_compiles_nothing(compiled, capsys):
    assert command.warmup(io.StringIO()) == 0
    assert capsys.readouterr().out.startswith(f"{len(REGISTRY)} kernels ready on cpu")
    before = compiled()
    A = scipy.sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(40, 40), format="csr")
    for dtype in ("float32", "float64"):
        for M in (None, "jacobi"):
            ntsolve.cg(A.astype(dtype), np.ones((2, 40), dtype), M=M)
            ntsolve.cg(A.toarray().astype(dtype), np.ones(40, dtype), M=M)
            ntsolve.cg(A.toarray().astype(dtype), np.ones((3, 40), dtype), M=M, x0=np.ones(40, dtype))
            ntsolve.cg(np.stack([A.toarray().astype(dtype)] * 3), np.ones(40, dtype), M=M)
    assert compiled() == before


# ---- demo -----------------------------------------------------------------------------------------------------------


def test_every_scene_has_the_same_interface():
    assert demo.scenes()[0] == demo.FIRST
    for name in demo.scenes():
        scene = demo.load(name)
        assert scene.__doc__
        assert callable(scene.run)


@pytest.fixture(scope="module")
def inpainting():
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    return demo.load("inpainting")


def test_the_table_of_the_demo_is_true(inpainting):
    """Its solution is SuperLU's, and iterations, residual and ratio are those of the methods it names."""
    said = []
    table = inpainting.run(demo.Options(quick=True, say=said.append))
    photo = inpainting.load_photo(quick=True)
    hole = inpainting.damage(photo.shape[:2])
    A, b = inpainting.system(photo, hole)
    exact = scipy.sparse.linalg.spsolve(A.tocsc(), b.T).T
    assert abs(inpainting.grid(hole).tocsr() - A).max() == 0
    result = ntsolve.cg(A, b, rtol=inpainting.RTOL)
    assert abs(result.x - exact).max() < 1e-3
    assert 0 <= exact.min() <= exact.max() <= 1  # harmonic: between the values at the edge

    multigrid, ours, plain, jacobi = table.entries
    assert ours.iterations == result.nit.max()
    assert 0 < multigrid.iterations < ours.iterations / 3
    assert [entry.peer for entry in table.entries] == [False, False, True, True]
    for entry in table.entries:
        assert 0 < entry.error <= 1.01 * inpainting.RTOL
        assert entry.median > 0
    assert ours.error == pytest.approx(
        max(np.linalg.norm(A @ x - c) / np.linalg.norm(c) for x, c in zip(result.x, b, strict=True))
    )
    assert table.ratio(ours.method) == pytest.approx(ours.median / min(plain.median, jacobi.median))
    assert [row[0] for row in table.rows()] == [entry.method for entry in table.entries]
    assert any("run 1 of 1" in line for line in said)


def test_the_system_of_the_demo_is_the_mean_of_the_neighbours(inpainting):
    """One lost pixel in the middle, one in a corner, two side by side; the rest of the photo is given."""
    photo = np.random.default_rng(0).random((5, 6, 3))
    hole = np.zeros((5, 6), dtype=bool)
    hole[2, 2] = hole[0, 0] = True
    A, b = inpainting.system(photo, hole)
    x = scipy.sparse.linalg.spsolve(A.tocsc(), b.T)
    np.testing.assert_allclose(x[0], (photo[0, 1] + photo[1, 0]) / 2)
    np.testing.assert_allclose(x[1], (photo[1, 2] + photo[3, 2] + photo[2, 1] + photo[2, 3]) / 4)


def test_the_demo_prints_its_table_and_writes_a_picture(inpainting, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    assert command.main(["demo", "--quick", "--threads", "1", "--plot", str(picture)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # not a terminal: no bars
    assert printed.out.count("colour by colour") >= 2
    assert "ntsolve has 1 thread." in printed.out
    assert f"scipy {scipy.__version__}" in printed.out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(params=["colours", "digits"])
def transport(request):
    for package in ("sklearn", "PIL", "ot"):
        pytest.importorskip(package)
    return demo.load(request.param)


def test_the_tables_of_the_transport_scenes_are_true(transport):
    """The plans are POT's, and as accurate as the table says."""
    import ot

    table = transport.run(demo.Options(quick=True))
    ours, peer = table.entries
    assert (ours.peer, peer.peer) == (False, True)
    assert 0 < ours.error <= transport.TOL
    assert 0 < peer.error <= transport.TOL
    if transport.__name__.endswith("colours"):
        X, Y = (transport.sample(photo, 60, 0) for photo in transport.load_photos(quick=True))
        C, weights = transport.costs(X, Y), [(np.full(60, 1 / 60),) * 2]
        plans = [transport.transport(C)[0]]
    else:
        C, images = transport.costs(), transport.load_digits(3)
        weights = list(itertools.pairwise(images))
        plans = transport.transport(C, weights)[0]
    for plan, (a, b) in zip(plans, weights, strict=True):
        with np.errstate(divide="ignore"):
            theirs = ot.sinkhorn(a, b, C, transport.REG, method="sinkhorn_log", stopThr=1e-12, numItermax=100_000)
        np.testing.assert_allclose(plan, theirs, atol=1e-7)


def test_the_transport_scenes_draw(transport, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    name = transport.__name__.rpartition(".")[2]
    assert command.main(["demo", "--scene", name, "--quick", "--plot", str(picture)]) == 0
    assert "ntsolve.solve_ot" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_colours_go_where_the_plan_sends_them():
    colours = demo.load("colours")
    X, Y = np.eye(3), np.array([[0.2, 0.2, 0.2], [0.8, 0.8, 0.8], [0.0, 0.5, 1.0]])
    exchange = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) / 3
    rng = np.random.default_rng(0)
    near = np.repeat(X, 20, axis=0) + 1e-3 * rng.standard_normal((60, 3))  # samples around three colours
    plan = np.kron(exchange, np.ones((20, 1)) / 20)
    np.testing.assert_allclose(colours.recolour(X, near, Y, plan), Y[[1, 2, 0]], atol=0.01)


def test_frames_begin_and_end_as_the_digits():
    digits = demo.load("digits")
    a, b = np.zeros(64), np.zeros(64)
    a[[10, 11, 18]], b[[42, 53]] = 1 / 3, 1 / 2
    film = digits.frames(np.outer(a, b))
    for frame, image in ((film[0], a), (film[-1], b)):
        coarse = frame.reshape(8, digits.FINE, 8, digits.FINE).sum((1, 3))
        assert set(np.argsort(coarse.ravel())[-(image > 0).sum() :]) == set(np.flatnonzero(image))
    assert film.shape == (digits.FRAMES, 32, 32)
    np.testing.assert_allclose(film.sum((1, 2)), film[0].sum(), rtol=1e-2)  # ink is neither made nor lost


def test_the_demo_says_which_extra_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert command.main(["demo", "--quick"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert 'pip install ".[demo]"' in printed.err


# ---- contests -------------------------------------------------------------------------------------------------------


def methods(log, answers):
    """Methods that note when they run, the first one ntsolve, the others peers."""

    def run_one(name, answer):
        log.append(name)
        return answer, 3

    return [
        _contest.Method(
            name, functools.partial(run_one, name, answer), functools.partial(log.append, f"({name})"), name != "a"
        )
        for name, answer in answers.items()
    ]


def test_a_contest_runs_in_turn_and_takes_medians(monkeypatch):
    clock = iter(np.cumsum([0, 1, 0, 4, 0, 9, 0, 5, 0, 2, 0, 6]).tolist())  # a: 1, 9, 2; b: 4, 5, 6
    monkeypatch.setattr(_contest.time, "perf_counter", lambda: next(clock))
    log = []
    table = _contest.contest("title", methods(log, {"a": 0.5, "b": 0.1}), lambda answer: answer, limit=1, repeats=3)
    assert log == ["(a)", "(b)", "a", "b", "a", "b", "a", "b"]
    assert [entry.median for entry in table.entries] == [2, 5]
    assert table.ratio("a") == 0.4
    assert table.fastest_peer.method == "b"
    assert table.entry("a").error == 0.5
    assert str(table).startswith("title\n")
    assert table.record()["entries"][0]["ratio"] == 0.4


@pytest.mark.parametrize("error", [1.5, float("nan"), float("inf")])
def test_a_contest_refuses_an_answer_that_is_less_accurate(error):
    with pytest.raises(_contest.UnequalAccuracy, match="b has a residual"):
        _contest.contest("title", methods([], {"a": 0.5, "b": error}), lambda answer: answer, limit=1, repeats=1)


def test_a_contest_of_a_fixed_number_of_steps_refuses_answers_that_differ():
    def attempt(second):
        field = methods([], {"a": 0.5, "b": second})
        return _contest.contest("title", field, lambda answer: answer, limit=1, agree=0.1, repeats=1)

    attempt(0.54)
    with pytest.raises(_contest.UnequalAccuracy, match="between"):
        attempt(0.56)


def test_the_smoke_scene_solves_for_the_pressure():
    """The pressure is that of a direct solver, and the table is true."""
    smoke = demo.load("smoke")
    box = smoke.Box((16, 12, 12))
    for _ in range(2):
        box.step()
    p = scipy.sparse.linalg.spsolve(box.pressure.tocsr().tocsc(), box.right_hand_side)
    np.testing.assert_allclose(smoke.multigrid(box.pressure, box.right_hand_side)[0], p, atol=1e-5 * abs(p).max())
    assert abs(box.velocity[:, box.solid]).max() == 0
    assert box.smoke.max() <= 1 + 1e-12

    table = smoke.run(demo.Options(quick=True))
    grid, matrix, peer = table.entries
    assert abs(grid.iterations - matrix.iterations) <= 1
    assert 5 * grid.iterations < peer.iterations
    assert all(0 < entry.error <= 1.01 * smoke.RTOL for entry in table.entries)
