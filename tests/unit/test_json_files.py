"""Checked reading of JSON files."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from resnet_demo import json_files
from resnet_demo.errors import DamagedError
from resnet_demo.json_files import (
    MAX_DEPTH,
    build,
    convert,
    is_number,
    parse_json,
    read_json,
    read_object,
)


@dataclass(frozen=True)
class Example:
    name: str
    share: float
    sizes: tuple[tuple[int, int], ...] = ()
    pid: int | None = None
    labels: list[str] = field(default_factory=list)


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "some-run"
    folder.mkdir()
    return folder / "example.json"


def test_a_file_comes_back_as_the_dataclass(file):
    file.write_text(json.dumps({"name": "é", "share": 1, "sizes": [[1, 2], [3, 4]], "new": 3}))
    assert read_object(file, Example) == Example("é", 1, ((1, 2), (3, 4)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"null",
        b"[]",
        b"3",
        b"{}",
        b'{"name": 3, "share": 1}',
        b'{"name": "a", "share": "1"}',
        b'{"name": "a", "share": NaN}',
        b'{"name": "a", "share": 1, "sizes": [[1, 2, 3]]}',
        b'{"name": "a", "share": true}',
        b'{"name": "a", "share": 1, "pid": 1.5}',
        b'{"name": "a", "share": 1, "labels": [1]}',
        b'{"name": "a", "share": 1' + b"0" * 5000 + b"}",
    ],
    ids=range(17),
)
def test_a_damaged_file_is_one_sentence_without_a_path(file, content):
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=r"^example\.json of some-run is damaged$"):
        read_object(file, Example)


def test_a_missing_file_counts_as_damaged(file):
    with pytest.raises(DamagedError, match=r"^example\.json of some-run is damaged$"):
        read_json(file)


def test_a_file_above_the_size_limit_is_refused(file, monkeypatch):
    file.write_text("[1, 2, 3]")
    assert read_json(file) == [1, 2, 3]
    monkeypatch.setattr(json_files, "MAX_BYTES", 8)
    with pytest.raises(DamagedError):
        read_json(file)


def test_nesting_is_limited_before_the_recursion_limit_is_near():
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deepest)
    for levels in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(ValueError, match=r"levels|nested"):
            parse_json("[" * levels + "]" * levels)


def test_missing_and_unknown_names_are_refused_on_request():
    values = {"name": "a", "share": 0.5}
    assert build(Example, values) == Example("a", 0.5)
    assert build(Example, {**values, "new": 1}) == Example("a", 0.5)
    with pytest.raises(ValueError, match="with unknown new"):
        build(Example, {**values, "new": 1}, exact=True)
    with pytest.raises(ValueError, match="without labels, pid, sizes"):
        build(Example, values, complete=True)
    with pytest.raises(ValueError, match="incomplete"):
        build(Example, {"name": "a"})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, float),
        (1.5, float),
        (-3, int),
        ("", str),
        (False, bool),
        ({}, dict),
        ([], list),
        (None, int | None),
        (4, int | None),
        ({"a": 1}, dict[str, int]),
        ([1], list[int]),
        ([{}], Any),
    ],
)
def test_a_value_of_the_type_is_kept(value, kind):
    assert convert(value, kind) is value or convert(value, kind) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (1.0, int),
        ("1", int),
        (None, str),
        ([], dict),
        ("x", int | None),
        (True, int | None),
        ({"a": "b"}, dict[str, int]),
        (["a"], list[int]),
        (3, tuple[int, ...]),
        ([1], tuple[int, int]),
    ],
)
def test_a_value_of_another_type_is_refused(value, kind):
    with pytest.raises(ValueError, match="instead of"):
        convert(value, kind)


@pytest.mark.parametrize(
    "value", [True, None, "1", float("nan"), float("inf"), -float("inf"), 1e300, 10**400]
)
def test_nan_infinity_booleans_and_text_are_no_finite_numbers(value):
    assert not is_number(value)
