import csv
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch

from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import per_class
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, write_result
from resnet_demo.ui.evaluate.evaluation_status import Selection, changed_states
from resnet_demo.ui.evaluate.result import (
    class_table,
    compare_runs,
    curve_updates,
    figure_updates,
    write_csv,
    write_to_cache,
    write_zip,
)
from tests.ui.fake_evaluations import save_evaluation

MINE = Selection("mine")
PAIR = Selection("mine", other="yours")


def comparison(statuses, selection):
    return compare_runs(changed_states(statuses, selection, True, False, None)["comparison"])


def test_two_runs_are_compared(statuses):
    save_evaluation(statuses, MINE)
    assert comparison(statuses, PAIR) == ""
    save_evaluation(statuses, PAIR, other=True, seed=1)
    html = comparison(statuses, PAIR)
    assert ">mine</th>" in html
    assert ">yours</th>" in html
    assert "McNemar" in html


def test_results_on_different_images_are_not_compared(statuses):
    pair = replace(PAIR, split="val")
    save_evaluation(statuses, replace(MINE, split="val"))
    evaluated = save_evaluation(statuses, pair, other=True)
    swapped = RunEvaluation(evaluated.result, evaluated.logits, evaluated.labels.flip(0))
    swapped.save(statuses.folder(pair, other=True))
    html = comparison(statuses, pair)
    assert html.startswith("<p>⚠ against must be a run with the same images")


def test_the_table_holds_numbers_and_displays_counts_of_few_images(statuses):
    result = save_evaluation(statuses, MINE).result
    table = class_table(result["per_class"], result["confusion"])
    [row] = [row for row in result["per_class"] if row["label"] == "red"]
    right = result["confusion"][2][2]
    answered = sum(counts[2] for counts in result["confusion"])
    recall, precision, f1 = (100 * row[key] for key in ("recall", "precision", "f1"))
    low, high = (100 * end for end in wilson_interval(right, 10))
    assert table["data"][2] == ["red", 10, *map(pytest.approx, (recall, low, precision, f1))]
    assert table["metadata"]["display_value"][2] == [
        "red",
        "10",
        f"{right} of 10",
        f"{low:.1f} to {high:.1f}",
        f"{right} of {answered}",
        f"{f1:.1f}",
    ]


def test_a_class_without_test_images_has_dashes_and_one_of_many_has_no_counts():
    confusion = [[900, 100, 0], [10, 40, 0], [0, 0, 0]]
    rows = per_class(torch.tensor(confusion), ("cat", "dog", "wasp"))
    table = class_table(rows, confusion)
    cat, dog, wasp = table["metadata"]["display_value"]
    assert cat == ["cat", "1,000", "90.0", "88.0 to 91.7", "98.9", "94.2"]
    assert dog == ["dog", "50", "40 of 50", "67.0 to 88.8", "28.6", "42.1"]
    assert wasp == ["wasp", "0", "–", "–", "–", "–"]
    assert table["data"][2] == ["wasp", 0, None, None, None, None]


def test_the_diagrams_are_drawn_and_few_classes_need_no_figure_of_the_matrix(statuses):
    save_evaluation(statuses, MINE)
    state = [str(statuses.folder(MINE)), False]
    reliability, confidence, matrix, _ = figure_updates(state)
    assert reliability.axes
    assert confidence.axes
    assert not matrix["visible"]


def test_measured_robustness_is_shown_as_curves_and_text(statuses):
    folder = statuses.robustness_folder(MINE)
    folder.mkdir(parents=True)
    result = dict.fromkeys(ROBUSTNESS_KEYS, "") | {
        "n": 30,
        "top1": 0.9,
        "strengths": [1, 2, 3, 4, 5],
        "kinds": {"noise": [0.9, 0.7, 0.5, 0.3, 0.1], "jpeg": [0.9, 0.9, 0.8, 0.8, 0.7]},
    }
    write_result(folder, result)
    figure, text = curve_updates([str(folder), False])
    assert figure["visible"]
    assert "**jpeg**" in text["value"]
    assert not curve_updates([None, False])[0]["visible"]


MINE = Selection("mine")


def test_the_csv_holds_the_per_class_numbers(statuses, tmp_path):
    result = save_evaluation(statuses, MINE).result
    text = write_csv(statuses.folder(MINE), None, tmp_path).read_text()
    _, *rows = csv.reader(io.StringIO(text))
    keys = ("precision", "recall", "f1", "support")
    assert rows == [[row["label"], *(str(row[key]) for key in keys)] for row in result["per_class"]]


def test_the_zip_holds_numbers_and_figures_where_gradio_serves_it(statuses, tmp_path, monkeypatch):
    result = save_evaluation(statuses, MINE).result
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with gr.Blocks(analytics_enabled=False):
        download = gr.DownloadButton()
    file = Path(write_to_cache(download, write_zip, statuses.folder(MINE), None))
    assert file.name == "mine-test-colours.zip"
    assert file.is_relative_to(tmp_path / "gradio")
    with zipfile.ZipFile(file) as archive:
        names = {name.removeprefix("mine-test-colours/") for name in archive.namelist()}
        assert {"result.json", "per-class.csv", "confusion.csv", "confusion.png"} <= names
        assert json.loads(archive.read("mine-test-colours/result.json"))["top1"] == result["top1"]
