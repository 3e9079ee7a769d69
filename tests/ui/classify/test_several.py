import csv
import io
from pathlib import Path

import pytest

from resnet_demo.data.pictures import decode_picture
from resnet_demo.ui.classify import several
from resnet_demo.ui.classify.several import LabelledFile, Pictures, classify_files, results_csv
from tests.ui.fake_evaluations import CLASSES


def csv_rows(shown):
    """Return the rows of the CSV file that the page offers."""
    path = Path(shown["csv"]["value"])
    assert path.name == "labels-mine.csv"
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_each_picture_gets_the_label_that_it_gets_alone(services, upload, last):
    names = ["a.png", "bb.png", "ccc.png"]
    files = [(upload(name), name) for name in names]
    shown = last(classify_files(services, files, "mine", "pad", None))
    rows, pictures = csv_rows(shown), shown["several"]["value"]
    assert [row["file"] for row in rows] == names
    for row, (path, _), (picture, caption) in zip(rows, files, pictures, strict=True):
        answer = services.classifier("mine").classify(decode_picture(path), 1, "pad")
        top = answer.labels[0]
        assert (row["label"], row["confidence"]) == (top["label"], f"{top['confidence']:.4f}")
        assert caption == f"{top['label']} {100 * top['confidence']:.1f} %"
        assert picture.shape == (128, 128, 3)
    assert shown["several_message"].startswith("3 pictures by **mine** (pad): ")


def test_an_unreadable_file_is_named_and_the_others_are_classified(services, upload, last):
    files = [
        (upload("good.png"), "good.png"),
        (upload("bad.png", b"no picture"), "bad.png"),
        ("/etc/passwd", "passwd"),
        (upload("empty.jpg", b""), "=1+1.jpg"),
    ]
    shown = last(classify_files(services, files, "mine", "crop", None))
    assert len(shown["several"]["value"]) == 1
    lines = shown["several_message"].split("\n\n")
    assert lines[0].startswith("1 picture by **mine** (centre crop): 1 ")
    assert lines[1:] == [
        "⚠ 'bad.png' is not a PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, PPM or PGM image.",
        "⚠ 'passwd': a file must come through an upload, got a path of this machine.",
        "⚠ '=1+1.jpg' is empty.",
    ]
    rows = csv_rows(shown)
    assert [bool(row["problem"]) for row in rows] == [False, True, True, True]
    assert [row["label"] in CLASSES for row in rows] == [True, False, False, False]
    assert rows[3]["file"] == "'=1+1.jpg"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(first):
    result = LabelledFile(f"{first}1.png", label=f"{first}x", problem=f"{first}p")
    [row] = list(csv.reader(io.StringIO(results_csv([result]), newline="")))[1:]
    assert [cell[:2] for cell in (row[0], row[1], row[4])] == [f"'{first}"] * 3


def test_too_many_files_are_refused_and_many_problems_are_counted(
    services, upload, last, monkeypatch
):
    files = [(upload(f"{n}.png", b"x"), f"{n}.png") for n in range(8)]
    message = last(classify_files(services, files, "mine", "crop", None))["several_message"]
    assert message.count("is not a PNG") == several.MAX_PROBLEMS
    assert message.endswith("⚠ 3 more could not be read: see the CSV file.")
    monkeypatch.setattr(several, "MAX_FILES", 7)
    message = last(classify_files(services, files, "mine", "crop", None))["several_message"]
    assert message == "⚠ pictures must be at most 7 files at once, got 8."


def test_nothing_is_computed_again_unless_an_input_changed(services, upload, last):
    files = [(upload(), "red.png")]
    done = last(classify_files(services, files, "mine", "crop", None))["done"]
    assert list(classify_files(services, files, "mine", "crop", done)) == []
    assert list(classify_files(services, files, "mine", "pad", done)) != []
    assert list(classify_files(services, files, "yours", "crop", done)) != []
    shown = last(classify_files(services, [], "mine", "crop", done))
    assert shown["several_message"] == several.READY


def test_a_damaged_run_is_reported_once(services, upload, last):
    (services.paths.runs / "mine" / "model.safetensors").write_bytes(b"x")
    files = [(upload(), "red.png")] * 3
    message = last(classify_files(services, files, "mine", "crop", None))["several_message"]
    assert message.startswith("⚠ ")
    assert message.count("damaged") == 1


def test_files_keep_their_names_on_the_users_machine():
    part = Pictures(file_count="multiple")
    files = [{"path": "/up/1.png", "orig_name": "=ä b.png"}, {"path": "/up/2.png"}]
    payload = part.data_model(root=files)
    assert part.preprocess(payload) == [("/up/1.png", "=ä b.png"), ("/up/2.png", "2.png")]
    assert part.preprocess(None) == []
