"""Tensors: numbers of the right shape pass unchanged, anything else is refused, and nothing is unpickled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from topwork.errors import DecodeError
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.tensor import TensorPreprocessor
from topwork.models.tensor_spec import TensorSpec

TENSORS = preprocessor_for(TensorSpec((2, 3)))
VALUES = np.array([[0.5, -1, 2], [3, 4, 1e-30]], np.float32)


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        VALUES,
        VALUES.astype(np.float64),
        VALUES.astype(">f4"),
        np.asfortranarray(VALUES),
        VALUES.tolist(),
        npy(VALUES),
        npy(VALUES.astype(">f8")),
        npy(np.asfortranarray(VALUES)),
    ],
    ids=["float32", "float64", "big-endian", "by columns", "list", ".npy", ".npy of float64", ".npy by columns"],
)
def test_numbers_become_float32_and_stay_what_they_are(content: Any) -> None:
    assert isinstance(TENSORS, TensorPreprocessor)
    found = TENSORS.prepare(content)
    np.testing.assert_array_equal(found.array, VALUES)
    assert found.array.dtype == np.float32
    assert found.array.dtype.isnative
    assert (found.length, found.truncated) == (0, False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, bool])
def test_numbers_of_every_kind_are_taken(dtype: Any) -> None:
    np.testing.assert_array_equal(TENSORS.prepare(np.ones((2, 3), dtype)).array, np.ones((2, 3), np.float32))


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), (2, 4), (), (0, 3)], ids=str)
@pytest.mark.parametrize("as_file", [False, True])
def test_another_shape_is_refused(shape: tuple[int, ...], as_file: bool) -> None:
    array = np.zeros(shape, np.float32)
    with pytest.raises(DecodeError) as caught:
        TENSORS.prepare(npy(array) if as_file else array)
    assert str(caught.value) == f"float32 of shape {shape}; expected numbers of shape (2, 3)"


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 3), "1"),
        np.full((2, 3), b"1"),
        np.full((2, 3), 1j),
        np.full((2, 3), None),
        np.full((2, 3), 0, "datetime64[s]"),
        np.zeros((2, 3), [("x", "f4")]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_what_are_no_numbers_is_refused(array: np.ndarray) -> None:
    with pytest.raises(DecodeError, match=r"shape \(2, 3\).*shape \(2, 3\)"):
        TENSORS.prepare(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("as_file", [False, True])
def test_values_that_are_not_finite_in_float32_are_refused(value: float, as_file: bool) -> None:
    array = np.zeros((2, 3))
    array[1, 2] = value
    with pytest.raises(DecodeError, match="values that are not finite"):
        TENSORS.prepare(npy(array) if as_file else array)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_file_is_refused_without_running_it(tmp_path: Path) -> None:
    array = np.empty((2, 3), object)
    array[:] = Trap(tmp_path / "ran")
    content = npy(array, allow_pickle=True)
    with pytest.raises(DecodeError, match=r"\.npy"):
        TENSORS.prepare(content)
    assert not (tmp_path / "ran").exists()
    np.load(io.BytesIO(content), allow_pickle=True)
    assert (tmp_path / "ran").exists()  # the payload is live: refusing it is what kept it from running


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """Return an ``.npy`` without data, whose header says what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        npy(VALUES)[:-1],
        npy(VALUES)[:40],
        npy(VALUES)[:5],
        b"\x93NUMPY\x09\x00" + npy(VALUES)[8:],
        header("(2, 3)"),
        header("(2, -3)"),
        header("'(2, 3)'"),
        header("(2, 3"),
        header("(2, 3)", "'nonsense'"),
        header("(10**15,)"),
        header("(1000000000000000,)"),
        header("(99999999999999999999999999,)"),
    ],
    ids=[
        "empty", "text", "truncated", "header alone", "start alone", "version", "no data", "negative", "text as shape",
        "open bracket", "type", "expression", "petabyte", "more than 64 bits",
    ],
)  # fmt: skip
def test_damaged_file_is_refused_with_a_reason(content: bytes) -> None:
    with pytest.raises(DecodeError, match=r"\w{5}"):
        TENSORS.prepare(content)


@given(st_numpy.arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_file_and_array_are_the_same_item(array: np.ndarray) -> None:
    np.testing.assert_array_equal(TENSORS.prepare(npy(array)).array, array)
    np.testing.assert_array_equal(TENSORS.prepare(array).array, array)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_are_an_array_or_refused(noise: bytes, at: int) -> None:
    content = npy(VALUES)
    try:
        found = TENSORS.prepare(content[:at] + noise + content[at + len(noise) :])
    except DecodeError:
        return
    assert (found.array.shape, found.array.dtype) == ((2, 3), np.float32)
    assert np.isfinite(found.array).all()


def test_batch_stacks_its_items_under_one_name() -> None:
    feed = TENSORS.collate([VALUES, VALUES + 1])
    assert list(feed) == ["input"]
    np.testing.assert_array_equal(feed["input"], np.stack([VALUES, VALUES + 1]))


@pytest.mark.parametrize("batch", [1, 5])
def test_random_batches_are_of_the_shape_and_repeatable(batch: int) -> None:
    (feed,), (again,) = (TENSORS.random_feeds(batch, np.random.default_rng(0)).values() for _ in range(2))
    assert (feed["input"].shape, feed["input"].dtype) == ((batch, 2, 3), np.float32)
    assert feed["input"].std() > 0
    np.testing.assert_array_equal(feed["input"], again["input"])


INTEGERS = preprocessor_for(TensorSpec((2, 3), dtype="int64", n_values=10))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, ">i2"])
def test_integers_of_every_type_become_the_models(dtype: Any) -> None:
    found = INTEGERS.prepare(np.array([[0, 1, 2], [3, 4, 9]], dtype)).array
    np.testing.assert_array_equal(found, [[0, 1, 2], [3, 4, 9]])
    assert found.dtype == np.int64


@pytest.mark.parametrize("value", [-1, 10, 0.5, float("nan"), float("inf"), 1e300])
def test_numbers_outside_the_range_of_integers_are_refused(value: float) -> None:
    content = np.full((2, 3), 1.0)
    content[1, 2] = value
    with pytest.raises(DecodeError, match="0 to 9"):
        INTEGERS.prepare(content)


def test_random_integers_lie_in_the_range() -> None:
    (feed,) = INTEGERS.random_feeds(64, np.random.default_rng(0)).values()
    assert feed["input"].shape == (64, 2, 3)
    assert feed["input"].dtype == np.int64
    assert set(np.unique(feed["input"])) == set(range(10))
