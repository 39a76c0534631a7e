"""The door: each check by itself, and its error naming the argument."""

import decimal
import fractions

import numpy as np
import pytest
import scipy.sparse as sp

from ntsolve import validate


@pytest.mark.parametrize("value", [0, 3, np.int64(3), np.uint8(3)])
def test_a_count_is_a_whole_number(value):
    got = validate.count("maxiter", value)
    assert got == value
    assert type(got) is int


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (1.0, TypeError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (np.float64(2), TypeError),
    ],
)
def test_other_counts_are_refused(value, error):
    with pytest.raises(error, match="maxiter"):
        validate.count("maxiter", value)


@pytest.mark.parametrize("value", [0, 1e-300, 3, np.float32(0.5), fractions.Fraction(1, 3)])
def test_a_tolerance_is_a_real_number(value):
    got = validate.nonnegative("rtol", value)
    assert got == float(value)
    assert type(got) is float


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1e-300, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        (-np.inf, ValueError),
        (1j, TypeError),
        ("1", TypeError),
        (False, TypeError),
        (None, TypeError),
        (decimal.Decimal(1), TypeError),
        ([1.0], TypeError),
    ],
)
def test_other_tolerances_are_refused(value, error):
    with pytest.raises(error, match="rtol"):
        validate.nonnegative("rtol", value)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0, ValueError, "damp must be positive, not 0"),
        (-1.5, ValueError, "damp must be positive, not -1.5"),
        (-np.inf, ValueError, "damp must be positive"),
        (np.nan, ValueError, "damp must be finite and positive"),
        (np.inf, ValueError, "damp must be finite and positive"),
        (False, TypeError, "damp must be a real number"),
        ("1", TypeError, "damp must be a real number"),
    ],
)
def test_what_is_not_positive_is_refused(value, error, words):
    with pytest.raises(error, match=words):
        validate.positive("damp", value)
    assert validate.positive("damp", 1e-300) == 1e-300
    assert validate.positive("tau_a", np.inf, finite=False) == np.inf


def test_a_time_limit_may_be_infinite():
    assert validate.nonnegative("time_limit", np.inf, finite=False) == np.inf


def test_a_choice_lists_what_there_is():
    assert validate.choice("M", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"M must be 'a' or 'b', not 'c'"):
        validate.choice("M", "c", ("a", "b"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_the_dtypes_that_are_computed_in_pass_as_they_are(dtype):
    array = np.ones(3, dtype)
    assert np.shares_memory(validate.numeric("b", array), array)


@pytest.mark.parametrize(
    ("dtype", "working"), [("int8", "float64"), ("uint64", "float64"), ("bool", "float64"), ("float16", "float32")]
)
def test_other_numbers_become_them(dtype, working):
    assert validate.numeric("b", np.ones(3, dtype)).dtype == working


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3, object),
        np.array(["1"]),
        np.array([b"1"]),
        np.ones(3, np.longdouble),
        np.ones(3, np.clongdouble),
        np.zeros(3, "M8[s]"),
        np.zeros(3, "m8[s]"),
        np.zeros(3, [("a", float)]),
        np.zeros(3, "V4"),
    ],
)
def test_what_is_no_number_is_refused(array):
    with pytest.raises(TypeError, match=r"\bb\b"):
        validate.numeric("b", array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_unless_unchecked(dtype, bad):
    array = np.ones((3, 4), dtype)
    array[1, 2] = bad
    with pytest.raises(ValueError, match="b contains NaN or infinity"):
        validate.numeric("b", array)
    validate.numeric("b", array, check=False)


def test_an_imaginary_part_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        validate.numeric("b", np.array([1 + 1j * np.nan]))


@pytest.mark.parametrize(
    "array", [np.full(10, 1.7e308), np.full(10, np.float32(3e38)), np.array([1e308, -1e308, 1e308, 1e308])]
)
def test_finite_numbers_whose_sum_overflows_are_finite(array):
    assert validate.numeric("b", array) is not None


def test_the_check_does_not_mind_the_users_errstate():
    with np.errstate(all="raise"):
        validate.numeric("b", np.full(10, 1.7e308))


def test_an_empty_array_is_finite():
    assert validate.numeric("b", np.zeros((0, 3))).shape == (0, 3)


def test_random_numbers_are_the_same_each_time_unless_somebody_wants_others():
    first, second, seeded = (validate.generator("rng", seed).random(3) for seed in (None, None, 0))
    assert (first == second).all()
    assert (first == seeded).all()
    ours = np.random.default_rng(5)
    assert validate.generator("rng", ours) is ours


def test_a_generator_of_random_numbers_is_checked():
    common = {"maxiter": 1, "time_limit": None, "callback": None, "verbose": False, "check": True, "on_failure": "warn"}
    for rng in (None, 5, np.random.default_rng(0), np.random.SeedSequence(1)):
        validate.common(**common, rng=rng)
    with pytest.raises((TypeError, ValueError)):
        validate.common(**common, rng="dice")


def matrix():
    return sp.csr_array(np.array([[1.0, 0, 2], [0, 3, 0], [4, 0, 5]]))


def test_a_whole_matrix_passes():
    A = matrix()
    validate.csr_parts("A", A.indptr, A.indices, A.data, A.shape)
    validate.csr_parts("A", np.zeros(1, int), np.zeros(0, int), np.zeros(0), (0, 5))
    validate.csr_parts("A", A.indptr, np.append(A.indices, 99), np.append(A.data, 1.0), A.shape)  # room to spare


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("indptr", [0, 2, 3], "indptr has 3 entries"),
        ("indptr", [], "indptr has 0"),
        ("indptr", [1, 2, 3, 5], "start at 0"),
        ("indptr", [0, 3, 2, 5], "never decrease"),
        ("indptr", [0, 2, 3, 99], "indptr ends at 99"),
        ("indptr", [0, -1, 3, 5], "never decrease"),
        ("indptr", [0.0, 2.0, 3.0, 5.0], "integers"),
        ("indices", [0, 2, 1, 0, 3], "outside 0..2"),
        ("indices", [0, 2, 1, 0, -1], "outside 0..2"),
        ("indices", [0, 2, 1, 0], "4 indices"),
        ("indices", [0.0, 2.0, 1.0, 0.0, 2.0], "integers"),
        ("data", [1.0] * 4, "4 values"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part, value, message):
    A = matrix()
    parts = {"indptr": A.indptr, "indices": A.indices, "data": A.data}
    parts[part] = np.asarray(value) if value else np.zeros(0, int)
    with pytest.raises((TypeError, ValueError), match=rf"^A: .*{message}"):
        validate.csr_parts("A", **parts, shape=(3, 3))


def test_indices_of_unsigned_kind_do_not_wrap():
    A = matrix()
    with pytest.raises(ValueError, match="outside"):
        validate.csr_parts("A", A.indptr.astype("uint64"), (A.indices - 1).astype("uint32"), A.data, A.shape)
