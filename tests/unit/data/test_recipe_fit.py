"""Recipes fitted to a dataset, and configs checked against one."""

import shutil

import numpy as np
import pytest

from resnet_demo.config import make_config
from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.data.recipe_fit import check_data, fit_recipe, proposed_recipe
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.recipes import EXACT_RECIPES, RECIPES


@pytest.fixture
def check(colours):
    """Check settings against `colours`: 150 training images of 12 pixels, 135 after the split."""
    base = {"dataset": "colours", "batch_size": 16}
    return lambda **settings: check_data(make_config({**base, **settings}), Datasets(colours))


def test_check_data_returns_the_dataset_of_a_valid_config(check):
    assert check(batch_size=135, crop=11, cutout=12).name == "colours"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 136}, "batch_size must be at most the 135 images of colours's .* got 136"),
        ({"crop": 12}, "crop must be less than 12, .* got 12"),
        ({"cutout": 13}, "cutout must be at most 12, .* got 13"),
        ({"dataset": "nope"}, "dataset must be one of .*colours.* got 'nope'"),
    ],
)
def test_check_data_names_field_rule_and_value(check, settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(**settings)
    assert error.value.field in settings


@pytest.fixture
def few(tmp_path):
    """Return a function that makes a dataset of so many training images a class."""

    def make(images: int | tuple[int, ...], classes: int = 3) -> Datasets:
        shutil.rmtree(tmp_path / "few", ignore_errors=True)
        labels = np.repeat(np.arange(classes), images)
        pixels = np.zeros((len(labels), 8, 8, 3), np.uint8)
        with new_dataset(tmp_path, "few") as folder:
            statistics = {
                split: write_split(folder, split, [pixels], labels, 8)
                for split in ("train", "test")
            }
            names = tuple("abcdefghij"[:classes])
            write_info(folder, describe("few", names, 8, statistics, "a test"))
        return Datasets(tmp_path)

    return make


@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {*EXACT_RECIPES}))
@pytest.mark.parametrize("images", [1, 2, 3, 10, 25])
def test_every_recipe_fits_few_images_of_each_class(few, recipe: str, images: int):
    datasets, plain = few(images), make_config({"recipe": recipe})
    config, adapted = fit_recipe({"recipe": recipe, "dataset": "few"}, datasets)
    check_data(config, datasets)
    train, val = datasets.split_sizes(config)
    assert steps_per_epoch(train, config.batch_size) >= 1
    assert val >= 1
    is_head = config.train_layers == "head"
    assert adapted == "" or adapted.startswith(f"adapted to {train} training images: ")
    for name, value in config.to_dict().items():
        if value != getattr(plain, name) and name != "dataset":
            text = value if isinstance(value, str) else f"{value:g}"
            assert f"{name} {text} instead of " in adapted
    assert config.keep == ("last-or-head" if recipe == "finetune" else "last")
    assert (config.val_share == 0) == (images == 1 or is_head)
    assert config.folds == (min(5, images) if is_head and images > 1 else 0)
    steps = config.epochs * steps_per_epoch(train, config.batch_size)
    assert config.weights == "imagenet" or steps >= 180 or config.epochs == 100


def test_quick_is_one_epoch_on_as_many_images_as_cifar10_has(few):
    config, adapted = fit_recipe({"recipe": "quick", "dataset": "few"}, few(5000, 10))
    assert (config.epochs, adapted) == (1, "")


def test_without_held_out_images_validation_uses_those_trained_on(few):
    datasets = few(1)
    config, adapted = fit_recipe({"dataset": "few"}, datasets)
    assert "val_share 0 instead of 0.1" in adapted
    positions = [datasets.load_split(config, split)[2].tolist() for split in ("train", "val")]
    assert positions[0] == positions[1]
    assert sorted(positions[0]) == [0, 1, 2]


def test_a_recipe_that_fits_the_dataset_and_the_article_are_not_adapted(few):
    for values in (
        {"recipe": "paper", "dataset": "shapes10"},
        {"recipe": "article", "dataset": "few"},
    ):
        assert fit_recipe(values, few(2)) == (make_config(values), "")


def test_a_value_that_was_chosen_is_refused_and_not_adapted(few):
    datasets = few(10)
    chosen = {"batch_size": 200, "epochs": 2, "keep": "best"}
    config, adapted = fit_recipe({"dataset": "few", **chosen}, datasets)
    assert (config, adapted) == (make_config({"dataset": "few", **chosen}), "")
    with pytest.raises(ConfigError, match="batch_size must be at most the 27 images"):
        check_data(config, datasets)
    config, _ = fit_recipe({"dataset": "few", "val_share": 0.5}, few(1))
    assert config.val_share == 0.5


def test_the_average_of_weights_is_off_where_the_batch_size_is_adapted(few):
    assert RECIPES["good"]["ema_decay"] > 0
    config, adapted = fit_recipe({"recipe": "good", "dataset": "few"}, few(20))
    assert (config.ema_decay, "ema_decay 0 instead of" in adapted) == (0.0, True)


def test_classes_that_differ_by_more_than_twice_are_balanced(few):
    config, adapted = fit_recipe({"dataset": "few"}, few((40, 20, 19)))
    assert config.class_weights == "balanced"
    assert "class_weights balanced instead of none (classes of 19 to 40 images)" in adapted
    assert fit_recipe({"dataset": "few"}, few((40, 20, 20)))[0].class_weights == "none"
    chosen = {"dataset": "few", "class_weights": "none"}
    assert fit_recipe(chosen, few((40, 20, 19)))[0].class_weights == "none"


def test_a_chosen_number_of_images_stays_a_quick_trial(few):
    config, _ = fit_recipe({"dataset": "few", "train_images": 30}, few(50))
    assert (config.epochs, config.batch_size) == (1, 4)


def test_a_head_is_cross_validated_on_few_images_only(few):
    chosen = {"recipe": "transfer", "dataset": "few"}
    config, adapted = fit_recipe(chosen, few(30))
    assert (config.folds, config.val_share) == (5, 0.0)
    assert "folds 5 instead of 0, val_share 0 instead of 0.1 (every image is held out" in adapted
    assert fit_recipe(chosen, few(400)) == (make_config(chosen), "")
    assert fit_recipe({**chosen, "val_share": 0.2}, few(30))[0].folds == 0


def test_a_head_with_the_settings_of_another_recipe_gets_those_of_a_head(few):
    chosen = {"model": "efficientnet-lite0", "weights": "imagenet", "train_layers": "head"}
    config, _ = fit_recipe({"dataset": "few", **chosen}, few(400))
    transfer, _ = fit_recipe({"recipe": "transfer", "dataset": "few"}, few(400))
    for name in ("image_size", "epochs", "weight_decay", "label_smoothing", "keep", "val_share"):
        assert getattr(config, name) == getattr(transfer, name)


def test_a_resnet_with_weights_of_imagenet_gets_their_stem(few):
    chosen = {"dataset": "few", "model": "resnet18", "weights": "imagenet"}
    config, adapted = fit_recipe(chosen, few(30))
    assert config.stem == "imagenet"
    assert "stem imagenet instead of small (ImageNet's weights have it)" in adapted
    assert fit_recipe({"recipe": "transfer", **chosen}, few(30))[0].stem == "imagenet"
    assert fit_recipe({**chosen, "weights": "random"}, few(30))[0].stem == "small"
    with pytest.raises(ConfigError, match="stem must be imagenet for resnet18"):
        fit_recipe({**chosen, "stem": "small"}, few(30))


def test_transfer_is_proposed_for_few_pictures_of_ones_own(few):
    datasets = few(20)
    assert proposed_recipe(datasets, "shapes10")[0] == "quick"
    recipe, reason = proposed_recipe(datasets, "few")
    assert (recipe, reason.split(":")[0]) == ("transfer", "20 pictures a class")
    assert proposed_recipe(few(1), "few")[1].startswith("1 picture a class")
    assert proposed_recipe(few((40, 5, 20)), "few")[1].startswith("5 to 40 pictures a class")
    assert proposed_recipe(few(1000), "few")[0] == "quick"


def test_fine_tuning_of_few_pictures_keeps_the_head_unless_it_gains(few):
    for images in (20, 400):
        config, adapted = fit_recipe({"recipe": "finetune", "dataset": "few"}, few(images))
        assert (config.keep, "keep" in adapted) == ("last-or-head", False)
    for layers in ("all", "head"):  # nothing to choose from
        values = {"recipe": "finetune", "dataset": "few", "train_layers": layers}
        assert fit_recipe(values, few(20))[0].keep == "last"
