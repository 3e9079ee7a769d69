"""The files of an evaluation."""

import csv
import json
from dataclasses import replace

import pytest
from PIL import Image

from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.report import write_report

ROBUSTNESS = {
    "top1": 0.9,
    "strengths": [1, 2, 3, 4, 5],
    "n": 30,
    "kinds": {"blur": [0.9, 0.8, 0.7, 0.6, 0.5], "noise": [0.9, 0.7, 0.5, 0.3, 0.1]},
}
FIGURES = ("confusion.png", "reliability.png", "confidence.png")


@pytest.fixture(scope="module")
def evaluated(finished, colours):
    return evaluate_run(finished, Datasets(colours))


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [*csv.reader(file)]


def test_numbers_are_written_as_json_and_csv(evaluated, tmp_path):
    files = write_report(evaluated, tmp_path / "new" / "report")
    names = [path.name for path in files]
    assert names == ["result.json", "per-class.csv", "confusion.csv", *FIGURES]
    assert json.loads(files[0].read_text()) == evaluated.result
    head, *body = rows(files[1])
    assert head == ["label", "precision", "recall", "f1", "support"]
    for line, row in zip(body, evaluated.result["per_class"], strict=True):
        assert line[0] == row["label"]
        assert [float(value) for value in line[1:]] == [row[name] for name in head[1:]]
    head, *body = rows(files[2])
    assert head == ["truth", "blue", "green", "red"]
    assert [line[0] for line in body] == head[1:]
    assert [[int(value) for value in line[1:]] for line in body] == evaluated.result["confusion"]


def test_figures_are_png_on_white(evaluated, tmp_path):
    files = write_report(evaluated, tmp_path, ROBUSTNESS)
    assert [path.name for path in files[3:]] == [*FIGURES, "robustness.png"]
    for path in files[3:]:
        with Image.open(path) as picture:
            assert picture.width >= 800
            assert picture.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)
    assert json.loads(files[0].read_text())["robustness"] == ROBUSTNESS


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_class_name_becomes_a_formula(start, evaluated, tmp_path):
    name = f'{start}HYPERLINK("http://evil")'
    per_class = [{**row, "label": name} for row in evaluated.result["per_class"]]
    odd = replace(evaluated, result={**evaluated.result, "per_class": per_class})
    files = write_report(odd, tmp_path)
    assert [line[0] for line in rows(files[1])[1:]] == [f"'{name}"] * 3
    assert rows(files[2])[0] == ["truth", *[f"'{name}"] * 3]
    assert rows(files[2])[1][0] == f"'{name}"


def test_a_report_replaces_the_previous_one_and_leaves_other_files(evaluated, tmp_path):
    (tmp_path / "result.json").write_text("older")
    (tmp_path / "mine.txt").write_text("dear")
    write_report(evaluated, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == evaluated.result
    assert (tmp_path / "mine.txt").read_text() == "dear"
