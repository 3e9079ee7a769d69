import csv
import io
import json
import zipfile
from pathlib import Path

import gradio as gr

from resnet_demo.ui.evaluate.evaluation_status import Selection
from resnet_demo.ui.evaluate.files import write_csv, write_to_cache, write_zip
from tests.ui.fake_evaluations import save_evaluation

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
