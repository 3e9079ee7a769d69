"""The survey of a source: its warnings, and its files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_demo.data.importer.survey import Survey, read_survey, write_survey
from resnet_demo.errors import DamagedError

FOUND = Survey(
    kind="images",
    own_split=True,
    classes=(("cat", 30, 10), ("dog", 25, 8)),
    sizes=((32, 32), (40, 50), (900, 800)),
    unreadable=0,
    unreadable_names=(),
    duplicates=0,
    duplicate_pairs=(),
    repeated=0,
    passed_over=0,
    bytes=12345,
)


def changed(**values) -> Survey:
    return replace(FOUND, **values)


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({}, []),
        (
            {"classes": (("a", 15, 4), ("b", 19, 1))},
            ["one class has fewer than 20 pictures: 'a' (19)"],
        ),
        (
            {"classes": tuple((name, 9, 1) for name in "abcd")},
            ["4 classes have fewer than 20 pictures, such as 'a' (10), 'b' (10), 'c' (10)"],
        ),
        ({"classes": (("a", 30, 0), ("b", 200, 100))}, []),
        (
            {"classes": (("a", 30, 0), ("b", 2000, 1))},
            ["the classes are uneven: 'b' has 2,001 pictures, 'a' 30"],
        ),
        (
            {"duplicates": 1},
            ["one test picture is also in train: the test accuracy will be too high"],
        ),
        (
            {"val": 9, "val_classes": (4, 5), "val_duplicates": 2},
            ["2 validation pictures are also in train: the validation accuracy will be too high"],
        ),
        (
            {"unreadable": 1, "unreadable_names": ("a/x\n",)},
            ["1 of 74 pictures cannot be read and is left out: 'a/x\\n'"],
        ),
        (
            {"unreadable": 8, "unreadable_names": ("a",) * 8},
            ["8 of 81 pictures cannot be read and are left out, such as 'a', 'a', 'a'"],
        ),
        (
            {"unreadable": 9, "unreadable_names": ("a",) * 9},
            [
                "9 of 82 pictures cannot be read, more than a tenth, so the import will fail, "
                "such as 'a', 'a', 'a'"
            ],
        ),
        (
            {"unopened": 4, "unopened_files": (("a/x", "a link to nothing"),) * 4},
            [
                "4 files are left out, such as 'a/x' (a link to nothing), "
                "'a/x' (a link to nothing), 'a/x' (a link to nothing)"
            ],
        ),
        (
            {"passed_over": 1, "passed_over_names": ("a/x.xml",)},
            ["one file is left out, being no picture or outside the class folders: 'a/x.xml'"],
        ),
        (
            {"notes": ("the folder 'val' is the test split",)},
            ["the folder 'val' is the test split"],
        ),
        (
            {"sizes": ((90, 31), (90, 31), (90, 31))},
            ["pictures smaller than 32 pixels will be enlarged: the smallest is 90 × 31"],
        ),
    ],
)
def test_warnings_are_given_only_where_they_apply(values, sentences):
    assert changed(**values).warnings(32) == sentences


def test_pictures_are_small_relative_to_the_import_size():
    assert FOUND.warnings(64) == [
        "pictures smaller than 64 pixels will be enlarged: the smallest is 32 × 32"
    ]


@pytest.mark.parametrize(
    ("median", "side"), [((40, 50), 40), ((500, 300), 224), ((224, 224), 224), ((3, 90), 8)]
)
def test_the_default_side_is_the_median_short_side_within_limits(median, side):
    survey = changed(sizes=((2, 2), median, (900, 800)))
    assert survey.default_size == side
    assert survey.warnings() == survey.warnings(side)
    assert survey.warnings(2) == []


def test_pictures_of_all_splits_are_counted():
    assert changed(val=7).pictures == 30 + 10 + 25 + 8 + 7


def test_a_survey_is_read_back_unchanged(tmp_path: Path):
    random = np.random.default_rng(0)
    samples = {
        name: random.integers(0, 256, (count, 64, 64, 3), np.uint8)
        for name, count in (("cat", 4), ("dog", 3))
    }
    survey = replace(FOUND, samples=samples)
    write_survey(tmp_path, FOUND)
    write_survey(tmp_path, survey)
    again = read_survey(tmp_path)
    assert again == survey
    assert list(again.samples) == list(samples)
    for name, images in samples.items():
        np.testing.assert_array_equal(again.samples[name], images)
    assert Survey.from_dict(json.loads(json.dumps(survey.to_dict()))) == survey
    assert sorted(os.listdir(tmp_path)) == ["samples.npz", "survey.json"]


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "other"},
        {"own_split": 1},
        {"classes": [["a", 1, 2]]},
        {"classes": 3},
        {"classes": [["a", 1, 2], ["b", 1]]},
        {"classes": [["a", 1, 2], ["b", 1, -2]]},
        {"classes": [["a", 1, 2], [3, 1, 2]]},
        {"sizes": [[1, 2], [3, 4]]},
        {"sizes": [[1, 2], [3, 4], [5, 0]]},
        {"sizes": [[1, 2], [3, 4], [5, 6, 7]]},
        {"unreadable": "1"},
        {"unreadable_names": [1]},
        {"duplicate_pairs": [["a", 1]]},
        {"bytes": 1.5},
    ],
)
def test_a_survey_with_invalid_values_is_refused(values):
    with pytest.raises(DamagedError, match=r"^the survey (is incomplete|has invalid values)$"):
        Survey.from_dict(json.loads(json.dumps({**FOUND.to_dict(), **values})))


@pytest.mark.parametrize("name", ["survey.json", "samples.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"junk", b"[" * 100_000])
def test_a_damaged_survey_is_refused(tmp_path: Path, name: str, content: bytes | None):
    write_survey(tmp_path, FOUND)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedError, match="the survey is"):
        read_survey(tmp_path)


def test_samples_with_a_wrong_class_or_shape_are_refused(tmp_path: Path):
    for pictures, labels in (((1, 64, 64, 3), [2]), ((1, 32, 32, 3), [0]), ((2, 64, 64, 3), [0])):
        write_survey(tmp_path, FOUND)
        np.savez(tmp_path / "samples.npz", pictures=np.zeros(pictures, np.uint8), labels=labels)
        with pytest.raises(DamagedError, match="the survey is damaged"):
            read_survey(tmp_path)
