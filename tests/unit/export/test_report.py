"""The report of a run, read as HTML. In a real browser: tests/browser/test_report.py."""

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, StoppedError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.export.formats import export_run
from resnet_demo.export.model_card import train_command
from resnet_demo.export.report_run import changed_settings, shell_lines
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import PRETRAINED, Run


class Page(HTMLParser):
    """The elements, headings and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open = [tag]

    def handle_endtag(self, tag):
        self.open = []

    def handle_data(self, data):
        if self.open != ["style"]:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def report(run, data, folder, **options):
    """Return the page and what the export says of it."""
    exported = export_run(run, folder, "report", Paths(folder, data, folder), **options)
    (name,) = exported.files
    assert exported.parity is None
    return Page((folder / name).read_text("utf-8")), exported.notes


@pytest.fixture(scope="module")
def described(finished, tmp_path_factory):
    """Return a copy of the run with a title and notes."""
    run = Run(tmp_path_factory.mktemp("described") / "mine")
    shutil.copytree(finished.path, run.path)
    run.describe("Colours <3", 'Group 7: "A" & B')
    return run


def test_a_report_has_the_results_of_the_run_and_needs_no_other_file(described, colours, tmp_path):
    steps = []
    page, notes = report(
        described, colours, tmp_path / "out", on_progress=lambda *step: steps.append(step)
    )
    assert (notes, steps[-1]) == ([], ("evaluating", 30, 30))
    result = evaluate_run(described, Datasets(colours)).result
    low, high = result["interval"]
    right = sum(result["confusion"][number][number] for number in range(3))
    for text in (
        "Colours <3",
        'Group 7: "A" & B',
        f"{right} of 30",
        f"95 % interval {100 * low:.0f} % to {100 * high:.0f} %",
        "135 training images, 15 for validation, 30 test images",
        "Settings that differ from the recipe quick",
        "cpu (1 thread)",
        "python -m resnet_demo train --recipe quick --dataset colours",
        result["weights"],
    ):
        assert text in page.text
    # The browser is not to run, load or send anything.
    assert not {"script", "link", "iframe", "form", "a", "b"} & {tag for tag, _ in page.elements}
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'; img-src data:")


def test_a_report_can_be_read_without_seeing_it(described, colours, tmp_path):
    page, _ = report(described, colours, tmp_path / "out")
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_without_the_images_stored_predictions_serve_and_what_is_missing_is_named(packed, tmp_path):
    run, summary = packed
    page, notes = report(run, tmp_path / "nothing", tmp_path / "out")
    assert "predictions stored with the weights" in page.text
    assert f"{round(summary['top1'] * 30)} of 30" in page.text
    assert [note.split("(")[0] for note in notes] == [
        "The report leaves out: the dataset ",
        "The report leaves out: pictures and class maps ",
    ]
    assert "Left out" in page.text
    assert len(page.all("img")) == 3  # curves, confusion matrix, calibration


def test_a_report_needs_weights_that_were_trained_here(tmp_path, colours):
    with pytest.raises(ConfigError, match="cannot be reported on"):
        report(Run(REPOSITORY / "checkpoints" / PRETRAINED, True), colours, tmp_path / "out")
    lesson = REPOSITORY / "checkpoints" / "lessons" / "learn-plain20"
    with pytest.raises(NotFoundError):
        report(Run(lesson, True), colours, tmp_path / "out")


def test_a_report_can_be_stopped(finished, colours, tmp_path):
    def stop(what, done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        report(finished, colours, tmp_path / "out", on_progress=stop)
    assert not (tmp_path / "out").exists()


def test_settings_that_differ_from_the_recipe_are_named_with_both_values():
    config = make_config({"recipe": "paper", "dataset": "shapes10", "flip": False, "epochs": 3})
    rows = {row["name"]: (row["value"], row["recipe"]) for row in changed_settings(config)}
    assert rows == {"epochs": ("3", "20"), "flip": ("false", "true")}


def test_the_command_has_lines_that_a_shell_joins():
    config = make_config({"recipe": "paper", "dataset": "shapes10", "epochs": 3, "cutout": 8})
    config = make_config({**config.to_dict(), "rotation": 10.0, "stratify": False})
    text = shell_lines(train_command(config))
    assert max(map(len, text.splitlines())) < 76
    assert text.replace("\\\n    ", "") == train_command(config)
