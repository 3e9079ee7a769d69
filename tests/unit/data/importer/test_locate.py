"""The folders of common data sets: which are splits, which are classes, which are refused."""

from collections import Counter

import pytest

from resnet_demo.data.importer.layout import assign_splits
from resnet_demo.data.importer.locate import FolderLayout, read_layout
from resnet_demo.data.importer.split_names import named_splits, split_of
from resnet_demo.errors import DemoError


def paths(*folders: str, each: int = 3) -> list[tuple[str, ...]]:
    """Return the paths of three pictures in each folder."""
    return [(*folder.split("/"), f"{n}.png") for folder in folders for n in range(each)]


def count(layout: FolderLayout, pictures: list[tuple[str, ...]]) -> dict[str, int]:
    """Return split/class -> pictures, `-` for those left out."""
    located = [layout.locate(path) for path in pictures]
    assign_splits(located)  # they make a dataset
    return Counter(f"{at.split}/{at.label}" if at else "-" for at in located)


def read(*folders: str) -> tuple[dict[str, int], tuple[str, ...]]:
    pictures = paths(*folders)
    layout = read_layout(pictures)
    return count(layout, pictures), layout.notes


BOTH = {"train/oak": 3, "train/elm": 3, "test/oak": 3, "test/elm": 3}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("TRAINING", "Test"),
        ("trees/Train", "trees/Testing"),
        ("train_set", "test_set"),
        ("trainset", "testset"),
        ("train-images", "test-images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("images/train", "images/test"),
        ("letters_train/letters_train", "letters_test/letters_test"),
        ("training data", "val"),
        ("Train", "Valid"),
        ("a/b/training_set", "a/b/validation_set"),
        ("TreesTrain", "TreesTest"),
        ("Train 70", "TEST 30"),
        ("Entrai\u0302nement", "essais"),
        ("data_latih", "data_uji"),
        ("Trainingsbilder", "Testbilder"),
        ("训练数据集", "测试集"),
        ("обучение", "тест"),
    ],
)
def test_split_folders_are_known_by_many_names(train: str, test: str):
    found, _ = read(f"{train}/oak", f"{train}/elm", f"{test}/oak", f"{test}/elm")
    assert found == BOTH


def test_val_alone_becomes_the_test_split_and_beside_both_the_validation_split():
    classes = ("oak", "elm")
    found, notes = read(*(f"t/{split}/{c}" for split in ("train", "valid") for c in classes))
    assert found == BOTH
    assert notes == ("the folder 'valid' is the test split, since there is no other",)
    splits = ("train", "Validation", "test")
    found, notes = read(*(f"{split}/{c}" for split in splits for c in classes))
    assert found == {**BOTH, "val/oak": 3, "val/elm": 3}
    assert notes == ("the folder 'Validation' is the validation split",)


def test_splits_inside_class_folders_are_understood():
    found, _ = read(*(f"{c}/{split}" for c in ("oak", "elm") for split in ("Train", "test")))
    assert found == BOTH


@pytest.mark.parametrize(
    "unlabelled", ["test", "seg_pred/seg_pred", "test/unknown", "val/images", "test-many-trees"]
)
def test_a_split_without_labels_is_left_out_and_named(unlabelled: str):
    found, notes = read("seg_train/oak", "seg_train/elm", unlabelled)
    assert found == {"/oak": 3, "/elm": 3, "-": 3}
    top = unlabelled.split("/")[0]
    assert notes == (f"the folder {top!r} has no labelled class folders: 3 pictures are left out",)


def test_a_flat_test_folder_beside_class_folders_is_left_out():
    found, notes = read("oak", "elm", "Test")
    assert (found, len(notes)) == ({"/oak": 3, "/elm": 3, "-": 3}, 1)


@pytest.mark.parametrize(
    "classes",
    [
        ("train", "plane"),
        ("test tube", "flask"),
        ("bullet_train", "tram", "bus"),
        ("valid", "invalid"),
        ("0", "1"),
        ("images", "masks"),
    ],
)
def test_classes_may_have_the_names_of_splits(classes: tuple[str, ...]):
    assert read(*classes) == ({f"/{name}": 3 for name in classes}, ())


def test_subfolders_of_a_class_belong_to_it_and_a_note_says_so():
    found, notes = read("air/plane", "air/kite", "rail/train", "rail/tram")
    assert found == {"/air": 6, "/rail": 6}
    assert notes == ("the folders 'air' and 'rail' are classes, and the folders in them are not",)
    inner = ("air/plane", "rail/tram")
    assert read(*(f"{split}/{path}" for split in ("train", "test") for path in inner))[1] == notes
    assert read("air/plane", "rail")[1] == (
        "the folder 'air' is a class, and the folders in it are not",
    )


def test_a_folder_with_the_names_of_other_classes_in_it_is_named():
    found, notes = read("oak", "elm", "old/oak", "old/elm")
    assert found == {"/oak": 3, "/elm": 3, "/old": 6}
    assert notes[1] == (
        "the folder 'old' holds folders with the names of other classes, 'elm' and 'oak': it seems "
        "to be a dataset inside the dataset, and no class"
    )


def test_many_classes_may_have_folders_of_the_same_names():
    folders = [f"{tree}/{side}" for tree in "abcdefghijk" for side in ("leaf", "bark")]
    assert len(read(*folders)[0]) == 11


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (("train/a", "train/b", "val/a", "valid/a"), "'val' and 'valid' both look like the val"),
        (("train/a", "train/b", "old/a"), "another folder with folders in it, 'old': name the"),
        (("val/a", "val/b", "test/a"), "'test' and 'val' hold class folders, and no folder for"),
        (("a", "b", "test/a"), "the folder 'test' holds class folders, and no folder for training"),
        (("Train", "Test"), "'Test' and 'Train' hold pictures but no class folders: .* labels.csv"),
        (("oak", "test"), "'oak' and 'test' may be two classes, or one class and pictures to test"),
        (("train", "test/a", "test/b"), "no folder for training"),
        (("v1/train/a", "v1/train/b", "v2/train/a"), "'v1' holds folders for training"),
        (("x/y/train/a", "x/y/test/a", "z"), "the folder 'x' holds folders for training"),
        (("train/a", "train/b", "test/c"), "the class 'c' is in test but not in train$"),
        (("train/Elm", "train/b", "test/elm"), "not in train, where it is 'Elm': give both one"),
        (("p/a", "p/b", "q/a", "q/b"), "'p' and 'q' hold folders of the same names, 'a' and 'b'"),
        (("1/x/a", "1/x/b", "1/x/c", "2/x/a", "2/x/b", "d"), "'1' and '2' hold folders of the"),
        (("train/p/a", "train/p/b", "train/q/a", "train/q/b"), "'p' and 'q' hold folders of the"),
        (("train/a", "train/b", "val/c", "test/a"), "the class 'c' is in val but not in train"),
    ],
)
def test_folders_with_two_readings_are_refused_with_their_names(folders, reason: str):
    pictures = paths(*folders)
    with pytest.raises(DemoError, match=reason):
        count(read_layout(pictures), pictures)


def test_a_name_means_a_split_only_as_a_whole_or_beside_its_sibling():
    assert split_of("Seg_Train 2") == ("train", "")
    assert split_of("train_test") is None
    assert named_splits(["bullet_train", "test tube", "tram"]) == {}
    assert named_splits(["asl train", "asl test"]) == {"asl train": "train", "asl test": "test"}
