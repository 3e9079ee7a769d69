"""Notes on contradicting labels, look-alike class names, classes without tests, and deep grey."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data.importer.content_notes import name_skeleton
from resnet_demo.data.importer.scan import scan_source


def png(seed: int, kind: str = "PNG") -> bytes:
    pixels = np.random.RandomState(seed).randint(0, 256, (10, 10, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def classes(*labels: str, count: int = 25) -> dict[str, bytes]:
    """Return pictures that all differ."""
    return {
        f"{label}/{n}.png": png(1000 * number + n)
        for number, label in enumerate(labels)
        for n in range(count)
    }


def test_the_same_pixels_under_two_labels_are_named_even_in_another_format(zip_of):
    files = classes("oak", "elm")
    files["elm/copy.bmp"] = png(3, "BMP")  # the pixels of oak/3.png
    (note,) = (note for note in scan_source(zip_of(files)).warnings(8) if "label" in note)
    assert note.startswith("one picture has copies under different labels")
    assert "'elm/copy.bmp' = 'oak/3.png'" in note


def test_copies_within_a_class_do_not_contradict(zip_of):
    files = classes("oak", "elm")
    files["oak/copy.png"] = files["oak/3.png"]
    assert not [note for note in scan_source(zip_of(files)).warnings(8) if "labels" in note]


def test_a_dataset_inside_itself_is_named(folder_of):
    files = classes("oak", "elm", "ash")
    files |= {f"trees/{name}": data for name, data in files.items()}
    notes = scan_source(folder_of(files)).warnings(8)
    assert any("75 pictures have copies under different labels" in note for note in notes)
    assert any("the class 'trees' holds copies of 3 other classes" in note for note in notes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Oak", "oak"),
        ("red oak", "redoak"),
        ("oak", "oak\u200b"),
        ("oak", "o\u00adak"),
        ("oak", "o\u0430k"),  # Cyrillic
        ("red oak", "red\u00a0oak"),
        ("oak", "\uff4f\uff41\uff4b"),  # full width
        ("oak", "oak\ufe0f"),
        ("nine", "ni\u0578e".replace("\u0578", "n\u2060")),
        ("straße", "STRASSE"),
    ],
)
def test_class_names_that_look_alike_are_named(first: str, second: str, zip_of):
    assert first != second
    notes = scan_source(zip_of(classes(first, second, "elm"))).warnings(8)
    (note,) = (note for note in notes if "class names" in note)
    assert ascii(first) in note
    assert ascii(second) in note


def test_folders_that_are_one_name_in_two_encodings_are_read_as_one_class(zip_of):
    found = scan_source(zip_of(classes("caf\xe9", "cafe\u0301", "elm")))
    assert [name for name, _, _ in found.classes] == ["caf\xe9", "elm"]
    note = "the folders 'cafe\\u0301' and 'caf\\xe9' are one name in two encodings, and are read as"
    assert any(text.startswith(note) for text in found.warnings(8))


def test_names_that_windows_or_people_write_in_two_ways_look_alike():
    assert name_skeleton("big cat") == name_skeleton("big_cat.") == name_skeleton("Big  Cat")


def test_class_names_that_differ_for_a_person_do_not_look_alike():
    names = ["oak", "oaks", "o-ak", "0ak", "bär", "bar", "кот", "кит", "猫", "犬", "1", "2"]
    assert len({name_skeleton(name) for name in names}) == len(names)


def test_a_class_without_test_pictures_is_named(zip_of):
    files = {f"train/{name}": data for name, data in classes("oak", "elm", "ash").items()}
    files |= {f"test/{label}/x.png": png(seed) for label, seed in (("oak", 91), ("elm", 92))}
    notes = scan_source(zip_of(files)).warnings(8)
    assert any("one class has no test pictures: 'ash'" in note for note in notes)


def test_the_depth_of_deep_grey_is_named(zip_of):
    files = classes("oak", "elm")
    for number, largest in enumerate((3000, 4000, 60000)):
        file = io.BytesIO()
        Image.fromarray(np.full((9, 9), largest, np.uint16)).save(file, "PNG")
        files[f"oak/deep{number}.png"] = file.getvalue()
    notes = scan_source(zip_of(files)).warnings(8)
    assert any(note.endswith("by its depth in bits: 2 from 12, 1 from 16") for note in notes)
