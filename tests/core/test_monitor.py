"""The loop guard by itself, driven by hand."""

import io
import logging
import time

import numpy as np
import pytest

from ntsolve import Status, progress
from ntsolve.monitor import LONGEST_BLOCK, Monitor


def monitor(**options):
    return Monitor("test", **{"maxiter": 100, "start": np.array([8.0]), "target": np.array([1e-3]), **options})


def test_the_history_starts_with_the_start_and_has_a_row_an_iteration():
    with monitor() as watch:
        assert watch.history.tolist() == [8.0]
        watch.did(np.array([[4.0]]), 1)
        watch.did(np.array([[2.0], [1.0]]), 2)
    assert watch.history.tolist() == [8.0, 4.0, 2.0, 1.0]
    assert watch.nit == 3


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1)])
def test_the_history_has_the_axes_of_the_batch(shape):
    with monitor(start=np.array([1.0, 2.0]), target=np.zeros(2), shape=shape) as watch:
        watch.did(np.array([[0.5, 0.25]]), 1)
    assert watch.history.shape == (2, *shape)


def test_an_empty_batch_has_an_empty_history():
    with monitor(start=np.zeros(0), target=np.zeros(0), shape=(0, 3)) as watch:
        pass
    assert watch.history.shape == (1, 0, 3)


def test_it_ends_at_maxiter():
    with monitor(maxiter=2) as watch:
        assert watch.going()
        watch.did(np.array([[4.0], [2.0]]), 2)
        assert not watch.going()
    assert watch.status == Status.MAXITER


def test_no_block_goes_beyond_maxiter():
    with monitor(maxiter=5) as watch:
        for _ in range(3):
            steps = watch.block()
            assert 1 <= steps <= 5 - watch.nit
            watch.did(np.ones((steps, 1)), steps)
            if not watch.going():
                break
        assert watch.block(exact=True) <= max(1, 5 - watch.nit)


def test_blocks_grow_as_iterations_prove_quick_and_stay_bounded():
    with monitor(maxiter=10**6) as watch:
        sizes = []
        while watch.nit < 2000:
            sizes.append(watch.block())
            watch.did(np.ones((sizes[-1], 1)), sizes[-1])
    assert sizes[0] == 1
    assert max(sizes) == LONGEST_BLOCK
    assert all(size & (size - 1) == 0 for size in sizes)


def test_slow_iterations_come_one_at_a_time():
    with monitor() as watch:
        for _ in range(3):
            assert watch.block() == 1
            time.sleep(0.02)
            watch.did(np.ones((1, 1)), 1)


def test_a_callback_is_called_for_every_iteration():
    with monitor(callback=lambda state: None) as watch:
        assert watch.block() == 1
        assert watch.block(exact=True) == 1


def test_the_time_limit_counts_the_next_iteration_in():
    with monitor(time_limit=0.1) as watch:
        assert watch.going()
        time.sleep(0.06)
        watch.did(np.ones((1, 1)), 1)
        assert not watch.going()  # as another would end at 0.12
    assert watch.status == Status.TIME_LIMIT


def test_a_status_once_given_stays():
    with monitor(maxiter=0, time_limit=0) as watch:
        assert not watch.going()
        first = watch.status
        time.sleep(0.001)
        assert not watch.going()
        assert watch.status == first


def test_residuals_that_are_not_finite_are_noted_and_shown():
    seen = []
    with monitor(callback=lambda state: seen.append(state.residual)) as watch:
        watch.did(np.array([[np.nan]]), 1)
    assert np.isnan(seen[0])
    assert np.isnan(watch.history[-1])


def test_the_state_is_lazy_about_x():
    made = []
    with monitor(callback=lambda state: None, solution=lambda: made.append(1)) as watch:
        watch.did(np.ones((1, 1)), 1)
        assert not made
        watch.callback = lambda state: state.x
        watch.did(np.ones((1, 1)), 1)
    assert made == [1]


def test_the_callback_sees_start_and_target():
    seen = []
    with monitor(callback=seen.append) as watch:
        watch.did(np.array([[2.0]]), 1)
    assert (seen[0].nit, seen[0].residual, seen[0].start, seen[0].target) == (1, 2.0, 8.0, 1e-3)


@pytest.mark.parametrize(("verbose", "level"), [(True, logging.INFO), (False, logging.DEBUG)])
def test_it_reports_to_the_log(verbose, level, caplog):
    with caplog.at_level(logging.DEBUG, "ntsolve"), monitor(verbose=verbose) as watch:
        watch.did(np.array([[2.5]]), 1)
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage() == "test: iteration 1, residual 2.500e+00"


# ---- progress -------------------------------------------------------------------------------------------------------


def bar(*residuals, **options):
    """What a progress bar shows after each residual."""
    file = io.StringIO()
    shown = progress(file=file, mininterval=0, miniters=0, **options)
    with monitor(callback=shown) as watch:
        for residual in residuals:
            watch.did(np.array([[residual]]), 1)
            file.write(f"<{shown._bar.n}>")
    return file.getvalue()


def percentages(text):
    return [float(part.partition(">")[0]) for part in text.split("<")[1:]]


def test_the_bar_counts_decades():
    start, target = np.log10(8.0), -3.0
    for residual, shown in zip((1.0, 1e-1, 1e-2), percentages(bar(1.0, 1e-1, 1e-2)), strict=True):
        assert shown == pytest.approx(100 * (start - np.log10(residual)) / (start - target), abs=0.06)


def test_the_bar_never_goes_back_nor_beyond_its_end():
    shown = percentages(bar(1.0, 4.0, 100.0, np.nan, np.inf, 1e-9, 1.0))
    assert shown == sorted(shown)
    assert shown[-1] == 100.0


def test_the_bar_says_iteration_and_residual():
    assert "iteration 2, residual 1.0e-01" in bar(1.0, 1e-1)


def test_the_bar_takes_options_of_tqdm():
    assert "heat" in bar(1.0, desc="heat")


def test_the_bar_closes_with_the_solve_and_opens_with_the_next():
    shown = progress(file=io.StringIO())
    for _ in range(2):
        with monitor(callback=shown) as watch:
            watch.did(np.array([[1.0]]), 1)
            assert shown._bar is not None
        assert shown._bar is None


def test_the_bar_closes_with_an_error():
    shown = progress(file=io.StringIO())

    def fail():
        with monitor(callback=shown) as watch:
            watch.did(np.array([[1.0]]), 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert shown._bar is None


def test_the_bar_stands_a_target_of_zero():
    file = io.StringIO()
    with monitor(callback=progress(file=file), target=np.array([0.0])) as watch:
        watch.did(np.array([[1.0]]), 1)
        watch.did(np.array([[0.0]]), 1)
    assert "iteration 1" in file.getvalue()
