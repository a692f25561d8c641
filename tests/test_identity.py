"""Digests are canonical, and a mismatch names the field that differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from topwork.errors import IdentityError
from topwork.identity import digest, digest_of_file, require_same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
IDENTITY = {"architecture": "net", "weights": "ab", "input": {"size": [8, 8], "mean": [0.5]}}


def test_digest_is_the_sha256_of_canonical_json() -> None:
    assert digest({"b": (1, 2), "a": 1}) == digest({"a": 1, "b": [1, 2]})
    assert digest("abc") == "6cc43f858fbb763301637b5af970e2a46b46f461f27e5a0f41e009c59b827b25"


@given(JSON)
def test_digest_survives_a_trip_through_a_file(value: Any) -> None:
    assert digest(json.loads(json.dumps(value))) == digest(value)


@given(JSON, JSON)
def test_digest_tells_values_apart(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest(first) == digest(second)) == same


def test_equal_identities_pass() -> None:
    require_same(json.loads(json.dumps(IDENTITY)), IDENTITY, "store")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "cd"}, 'store: weights is "cd", expected "ab"'),
        ({"input": {"size": [9, 8], "mean": [0.5]}}, r"store, input: size is \[9, 8\], expected \[8, 8\]"),
        ({"input": {"size": [8, 8]}}, r"store, input: mean is null, expected \[0.5\]"),
        ({"new": 1}, "store: new is 1, expected null"),
        ({"weights": "c" * 200}, 'store: weights is "c{76}…, expected "ab"'),
    ],
)
def test_first_field_that_differs_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        require_same({**IDENTITY, **change}, IDENTITY, "store")


def test_digest_of_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_file(tmp_path / "file") == expected
