"""A dataset that is deleted and imported again, between the training of a run and its later use."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.tiny import stopped_run
from tests.unit.cli.conftest import CommandLine

EACH = 30  # pictures a class


def write_zip(path, each):
    """Write so many pictures of hens and of pigs; those of a smaller number are among them."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, label in enumerate(("hen", "pig")):
            random = np.random.default_rng(number)
            for picture in range(each):
                pixels = random.integers(0, 200, (12, 12, 3), np.uint8) + np.uint8(50 * number)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                archive.writestr(f"{label}/{picture:02}.png", file.getvalue())
    return path


@pytest.fixture
def farm(tmp_path):
    """Return a command line with the dataset `farm`, and a run on it that was stopped."""
    demo = CommandLine(tmp_path / "runs", tmp_path / "data")
    demo("data", "import", "farm", write_zip(tmp_path / "farm.zip", EACH), "--size", "12")
    stopped_run(tmp_path, tmp_path / "data", dataset="farm")
    return demo


def import_again(demo, path):
    """Replace the dataset by the pictures of another archive."""
    for args in (["delete", "farm"], ["import", "farm", path, "--size", "12"]):
        answer = demo("data", *args)
        assert answer.code == 0, answer.err


def test_a_run_is_bound_to_the_pictures_that_it_was_trained_on(farm, tmp_path):
    picture = tmp_path / "one.png"
    Image.new("RGB", (12, 12), "pink").save(picture)
    import_again(farm, write_zip(tmp_path / "more.zip", EACH + 20))
    refused = farm("train", "--resume", "mine", "--json")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.count("\n") == 1
    assert "the dataset farm has changed since training (it had 48 training, 12 test" in refused.err
    (result,) = farm("evaluate", "mine", "--robustness", "--json").objects
    count = result["trained_on_pictures"]
    assert 0 < count < result["n"] == 20
    for score in (result, result["robustness"]):
        assert (score["dataset_changed"], score["trained_on_pictures"]) == (True, count)
    note = f"note: the dataset has changed since training; {count} of the 20 test images were"
    assert farm("evaluate", "mine", "--robustness").out.count(note) == 2
    (answer,) = farm("classify", "mine", picture, "--similar", "--json").objects
    assert answer["dataset_changed"] is True
    assert (
        "(the dataset has changed since training)"
        in farm("classify", "mine", picture, "--similar").out
    )

    import_again(farm, tmp_path / "farm.zip")
    (result,) = farm("evaluate", "mine", "--json").objects
    assert (result["dataset_changed"], result["trained_on_pictures"]) == (False, 0)
    (answer,) = farm("classify", "mine", picture, "--similar", "--json").objects
    assert answer["dataset_changed"] is False
    resumed = farm("train", "--resume", "mine", "--json")
    assert resumed.code == 0, resumed.err
    (shown,) = farm("runs", "show", "mine", "--json").objects
    assert shown["fingerprint"]["images"] == {"train": 48, "test": 12}
