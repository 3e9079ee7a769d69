"""Splits and classes from paths."""

import pytest

from resnet_demo.data.importer.layout import PictureLocation, assign_splits
from resnet_demo.data.importer.locate import read_layout
from resnet_demo.errors import DemoError


def locate_pictures(paths):
    layout = read_layout(paths)
    return [layout.locate(path) for path in paths]


def assign(*names: str):
    return assign_splits(locate_pictures([tuple(name.split("/")) for name in names]))


SPLIT = ("test/b/1", "train/b/2", "train/a/9", "test/a/1", "train/b/1")


@pytest.mark.parametrize("top", ["", "pets/", "my/pets/"])
def test_splits_and_classes_follow_from_the_folders(top: str):
    result = assign(*(top + name for name in SPLIT))
    assert result.classes == ("a", "b")
    assert [part.tolist() for part in result.train] == [[2, 4, 1], [0, 1, 1]]
    assert [part.tolist() for part in result.test] == [[3, 0], [0, 1]]


@pytest.mark.parametrize("top", ["", "pets/", "train/"])
def test_without_splits_a_fifth_of_each_class_becomes_the_test(top: str):
    names = [f"{top}{label}/{n:02}" for label in ("a", "b") for n in range(20)]
    result = assign(*names)
    assert result.train[1].tolist() == [0] * 16 + [1] * 16
    assert result.test[1].tolist() == [0] * 4 + [1] * 4
    rows = result.train[0].tolist() + result.test[0].tolist()
    assert sorted(rows) == list(range(40))
    assert sorted(result.test[0][:4]) == result.test[0][:4].tolist()


@pytest.mark.parametrize(
    ("counts", "held_out"),
    [
        ((4, 4), 0),
        ((1, 1), 0),
        ((2, 2, 2), 0),
        ((3, 6), 0),
        ((5, 5), 2),
        ((4, 6), 2),
        ((2, 50), 11),
    ],
)
def test_with_fewer_than_five_pictures_a_class_none_are_held_out(counts, held_out):
    names = [f"{'abc'[label]}/{n}" for label, count in enumerate(counts) for n in range(count)]
    result = assign(*names)
    assert len(result.test[0]) == held_out
    assert len(result.train[0]) == sum(counts) - held_out
    assert list(result.splits) == (["train", "test"] if held_out else ["train"])


def test_the_order_does_not_depend_on_that_of_the_archive():
    names = [f"{label}/{n}" for label in ("b", "a") for n in range(10)]
    forward, backward = assign(*names), assign(*reversed(names))
    for split in ("train", "test"):
        first = [names[row] for row in getattr(forward, split)[0]]
        second = [names[::-1][row] for row in getattr(backward, split)[0]]
        assert first == second == sorted(first)


def test_pictures_in_deeper_folders_belong_to_the_class_above():
    found = locate_pictures([("train", "a", "day", "1"), ("train", "b", "2"), ("test", "a", "3")])
    assert found == [
        PictureLocation("train", "a", "day/1"),
        PictureLocation("train", "b", "2"),
        PictureLocation("test", "a", "3"),
    ]


def test_a_file_outside_the_class_folders_is_passed_over():
    assert locate_pictures([("top", "readme"), ("top", "a", "1"), ("top", "b", "1")])[0] is None


def test_a_class_may_be_called_train():
    assert assign("train/1", "train/2", "plane/1", "plane/2").classes == ("plane", "train")


def test_a_class_may_be_missing_from_the_test():
    assert assign("train/a/1", "train/b/1", "test/a/2").test[1].tolist() == [0]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "at least two class folders with pictures, found 0"),
        (("a/1", "a/2"), "at least two class folders with pictures, found 1"),
        (("top/a/1", "top/a/2"), "found 1"),
        (("train/a/1", "train/b/1", "test/c/1"), "the class 'c' is in test but not in train"),
        (("a/1", "b/1", "b/1"), "'b/1' occurs twice"),
        (("a/1", "b\x1b[31m/1"), r"no control characters, got 'b\\x1b\[31m'"),
        (("a/1", "b\n/1"), r"no control characters, got 'b\\n'"),
        (("a/1", "b\0c/1"), r"no control characters, got 'b\\x00c'"),
        (("a/1", "b\u202egnp/1"), "no control characters, got "),  # reverses the text after it
        (("a/1", "b\udcff/1"), r"the class folder 'b\\udcff' is not UTF-8 text: rename it"),
        (("a/1", "b" * 256 + "/1"), r"no control characters, got 'bbb.*…?"),
    ],
)
def test_files_that_make_no_dataset_are_refused_with_one_sentence(
    names: tuple[str, ...], reason: str
):
    with pytest.raises(DemoError, match=reason):
        assign(*names)


def test_one_name_in_two_encodings_is_one_class():
    one, two = "caf\xe9", "cafe\u0301"  # é as one character, and as e with an accent
    result = assign(f"train/{one}/1", f"train/{two}/1", "train/b/1", f"test/{two}/2")
    assert result.classes == ("b", one)
    assert [part.tolist() for part in result.train] == [[2, 1, 0], [0, 1, 1]]
    assert [part.tolist() for part in result.test] == [[3], [1]]
    assert result.merged == ((two, one),)
    with pytest.raises(
        DemoError, match=r"found 1 .folders whose names differ in encoding only are"
    ):
        assign(f"{one}/1", f"{two}/1")
    alone = assign(*(f"{label}/{n}" for label in (two, "b") for n in range(2)))
    assert (alone.classes, alone.merged) == (("b", two), ())


def test_class_names_of_any_script_are_kept_unchanged():
    labels = ["ein Hund", "🐕‍🦺 👨‍👩‍👧", 'it\'s "quoted"', "日本語　犬", "می‌خواهم", "né", "x" * 255]
    names = [f"{label}/{n}" for label in labels for n in range(2)]
    assert assign(*names).classes == tuple(sorted(labels))
