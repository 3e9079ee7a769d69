import re
import tomllib

import gradio as gr
import pytest
from PIL import Image

from resnet_demo.data.cifar10.original_batches import CLASSES as CIFAR10_CLASSES
from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.errors import ConfigError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.ui.classify.examples import (
    FOOLED,
    PHOTOS_HINT,
    PHOTOS_OF_OTHERS,
    PICTURES,
    SHIPPED,
    example_updates,
    photos_text,
    pick,
    shipped_picture,
    thumbnails,
)
from resnet_demo.ui.services import Services
from tests.conftest import REPOSITORY
from tests.ui.fake_evaluations import CLASSES


def test_examples_are_sent_again_only_for_another_run_or_when_images_arrive(services, tmp_path):
    classes, hint, own, shipped, photos, shown, fit = example_updates(services, "mine", None)
    assert "*blue* *green* *red*" in classes
    assert "test image of colours" in hint["value"]
    assert [label for _, label in own["value"]] == sorted(CLASSES)
    assert [label for _, label in shipped["value"]] == [*SHIPPED]
    assert fit == "crop"
    assert photos["value"] == PHOTOS_HINT
    assert example_updates(services, "mine", shown) == (gr.skip(),) * 7
    away = Services(Paths(services.paths.runs, tmp_path / "no-data", tmp_path / "none"))
    _, hint, own, _, _, before, _ = example_updates(away, "mine", shown)
    assert (hint["visible"], own["visible"]) == (False, False)
    assert example_updates(services, "mine", before)[2]["visible"]


def test_without_test_images_training_images_are_the_examples(services, tmp_path):
    images, labels = services.datasets.load("colours", "train")
    classes = services.datasets.get("colours").classes
    with new_dataset(tmp_path / "data", "colours") as folder:
        statistics = {"train": write_split(folder, "train", [images], labels, 12)}
        write_info(folder, describe("colours", classes, 12, statistics, "a test"))
    tiny = Services(Paths(services.paths.runs, tmp_path / "data", tmp_path / "none"))
    _, hint, own, *_ = example_updates(tiny, "mine", None)
    assert hint["value"] == "Or click a training image of colours:"
    assert [label for _, label in own["value"]] == sorted(CLASSES)


def test_the_fit_of_a_run_is_that_of_its_training_images(services):
    squash_pictures_of(services.runs.get("mine").path)
    assert example_updates(services, "mine", None)[-1] == "squash"
    assert example_updates(services, None, ["mine", None])[-1] == gr.skip()


def squash_pictures_of(folder):
    """Save the network again as if its training images had been squashed."""
    saved = load_model(folder)
    kept = ("network", "classes", "metrics", "fingerprint")
    preprocessing = {**saved.preprocessing, "fit": "squash"}
    values = {name: getattr(saved, name) for name in kept}
    save_model(folder, saved.model, preprocessing=preprocessing, **values)


def test_coffee_and_rocket_fool_the_shipped_network_and_its_warning_as_the_page_says(services):
    text = photos_text(Services(Paths.from_environment()), "cifar10-shipped")
    assert text == FOOLED
    classifier = Classifier.load(Run(REPOSITORY / "checkpoints" / "cifar10-shipped", shipped=True))
    for photo, label in (("coffee", "cat"), ("rocket", "ship")):
        answer = classifier.classify(shipped_picture(photo), 1)
        assert answer.labels[0]["label"] == label
        assert (
            f"the {photo} for a {label} ({100 * answer.labels[0]['confidence']:.0f} %)"
            in " ".join(text.replace("it takes ", "").split())
        )
        assert not answer.ood.is_ood


def test_photographs_of_other_things_are_named_for_other_networks_of_the_classes(
    services, describe_again
):
    assert photos_text(services, "mine") == PHOTOS_HINT
    network = {"name": "resnet20", "num_classes": 10, "stem": "small", "batch_norm": True}
    run = services.paths.runs / "mine"
    describe_again(run, network=network, classes=[*CIFAR10_CLASSES])
    assert photos_text(services, "mine") == PHOTOS_OF_OTHERS
    assert photos_text(services, "no-such-run") == PHOTOS_HINT


@pytest.mark.parametrize("index", [-1, 3, None, "0", True, [0, 1], 0.0])
def test_an_index_that_was_not_offered_is_refused(index):
    with pytest.raises(ConfigError):
        pick(("a", "b", "c"), index)


def test_the_shipped_pictures_are_small_photographs_with_a_free_licence():
    files = sorted(PICTURES.glob("*.jpg"))
    assert {file.stem for file in files} == {*SHIPPED}
    rows = re.findall(r"^\| `(\w+)\.jpg` \|(.+)\|$", (PICTURES / "README.md").read_text(), re.M)
    assert {name for name, _ in rows} == {*SHIPPED}
    assert all(re.search("CC0|public domain", text.split("|")[-1]) for _, text in rows)
    for file in files:
        with Image.open(file) as image:
            assert image.format == "JPEG"
            assert 256 < max(image.size) <= 512  # not from CIFAR-10, whose images have 32
        assert file.stat().st_size <= 60_000
    assert all(picture.shape == (128, 128, 3) for picture, _ in thumbnails())


def test_the_shipped_pictures_are_part_of_the_package():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["resnet_demo"]
    package = REPOSITORY / "resnet_demo"
    packaged = {file for pattern in patterns for file in package.glob(pattern)}
    assert packaged >= {*PICTURES.iterdir()}
