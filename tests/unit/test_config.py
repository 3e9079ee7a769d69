"""The configuration of a run: validation, recipes and config.json."""

import json
import math
from dataclasses import fields

import pytest

from resnet_demo.architectures import MODELS, RESNET9_MODELS
from resnet_demo.config import (
    GROUPS,
    TrainConfig,
    chosen_values,
    defaults,
    from_dict,
    help_text,
    make_config,
    parse_field,
    to_json,
)
from resnet_demo.errors import ConfigError, shortened
from resnet_demo.recipes import RECIPE_HELP, RECIPES

SETTINGS = {setting.name: setting for setting in fields(TrainConfig)}
NUMBERS = [setting for setting in SETTINGS.values() if setting.type in (int, float)]
ALLOWING = {  # other settings that a limit needs
    "cutout": {"image_size": 256},
    "warmup_epochs": {"epochs": 1000},
    "image_size": {"model": "resnet20"},
    "views": {"train_layers": "head"},
    "folds": {"train_layers": "head", "val_share": 0.0},
}
THE_ARTICLE = {  # the tutorial's settings
    "recipe": "article",
    "dataset": "cifar10",
    "compile": False,
    "train_images": 0,
    "probe_every": 0,
    "report_last_batch": False,
    "collect_garbage": False,
    "val_share": 0.1,
    "seed": 42,
    "image_size": 224,
    "grow_from": 1.0,
    "ema_decay": 0.0,
    "keep": "best",
    "per_image_std": True,
    "flip": False,
    "crop": 0,
    "cutout": 0,
    "crop_area": 1.0,
    "rotation": 0.0,
    "colour_jitter": 0.0,
    "model": "resnet34-article",
    "stem": "imagenet",
    "batch_norm": True,
    "sync_batch_norm": True,
    "label_smoothing": 0.0,
    "optimizer": "sgd",
    "peak_lr": 0.01,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.001,
    "decay_all": True,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "batch_size": 64,
    "epochs": 10,
    "precision": "auto",
    "validate_in_training_mode": True,
    "weights": "random",
    "train_layers": "all",
    "class_weights": "none",
    "backbone_lr": 1.0,
    "freeze_batch_norm": False,
    "patience": 0,
    "views": 1,
    "stratify": False,
    "folds": 0,
}


def wrong_values(setting):
    """Return values from a form, flag or request that this setting must refuse."""
    if setting.type is bool:
        return [None, 0, 1, "true", 1.0, []]
    if setting.type is str:
        return [
            None,
            "",
            0,
            True,
            ["sgd"],
            b"sgd",
            *(["SGD "] if "choices" in setting.metadata else []),
        ]
    low, high = setting.metadata["low"], setting.metadata["high"]
    step = 1 if setting.type is int else 1e-7
    values = [low - step, high + (1 if setting.type is int else 1e-3), -(10**30), 10**30]
    values += [math.nan, math.inf, -math.inf, None, "", "3", [3], True, False, 1j]
    return values + [2.5, 3.0] * (setting.type is int)


@pytest.mark.parametrize(
    ("name", "value"), [(k.name, value) for k in SETTINGS.values() for value in wrong_values(k)]
)
def test_a_wrong_value_is_refused_naming_setting_rule_and_value(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be ") as refused:
        make_config({name: value})
    assert str(refused.value).endswith(f", got {shortened(value)}")
    assert refused.value.field == name


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_limits_of_a_number_are_allowed(setting, end):
    values = {**ALLOWING.get(setting.name, {}), setting.name: setting.metadata[end]}
    assert getattr(make_config(values), setting.name) == setting.metadata[end]


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_the_message_of_a_refused_number_has_its_limits(setting):
    with pytest.raises(ConfigError) as refused:
        make_config({setting.name: None})
    low, high = f"{setting.metadata['low']:g}", f"{setting.metadata['high']:.10g}"
    assert f"from {low} to {high}" in str(refused.value)
    assert "got nothing" in str(refused.value)


def test_a_whole_number_becomes_a_float():
    assert repr(make_config({"peak_lr": 1}).peak_lr) == "1.0"


@pytest.mark.parametrize(
    ("values", "field", "rule"),
    [
        ({"epochs": 3, "warmup_epochs": 3.5}, "warmup_epochs", r"at most epochs \(3\), got 3.5"),
        ({"image_size": 16, "cutout": 17}, "cutout", r"at most image_size \(16\), got 17"),
        ({"compile": True, "grow_from": 0.5}, "grow_from", r"1 when compile is on .*, got 0.5"),
        ({"model": "vgg16", "image_size": 31}, "image_size", "at least 32 for vgg16 .*, got 31"),
        (
            {"model": "resnet34-article", "image_size": 31},
            "image_size",
            "at least 32 for .*article",
        ),
        (
            {"weights": "imagenet"},
            "model",
            "one of .*resnet50 with weights imagenet, got 'resnet9'",
        ),
        (
            {"weights": "imagenet", "model": "resnet18"},
            "stem",
            "imagenet for resnet18 with weights imagenet, got 'small'",
        ),
        (
            {"train_layers": "head", "probe_every": 1},
            "probe_every",
            "0 when train_layers is head, got 1",
        ),
        ({"views": 2}, "views", "1 when train_layers is all, got 2"),
        ({"folds": 5}, "folds", "0 unless train_layers is head, got 5"),
        (
            {"folds": 1, "train_layers": "head"},
            "folds",
            r"0 \(off\) or at least 2, got 1",
        ),
        (
            {"folds": 5, "train_layers": "head"},
            "val_share",
            r"0 when folds is on .*, got 0.1",
        ),
        (
            {"model": "resnet18", "stem": "imagenet", "image_size": 31},
            "image_size",
            "at least 32 for resnet18 .*, got 31",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, field, rule):
    with pytest.raises(ConfigError, match=f"^{field} must be {rule}") as refused:
        make_config(values)
    assert refused.value.field == field


@pytest.mark.parametrize("model", MODELS)
def test_the_smallest_image_that_a_network_takes_is_allowed(model):
    for stem in ("small", "imagenet"):
        low = 9 if model in RESNET9_MODELS else 8
        if model in ("resnet34-article", "vgg16", "efficientnet-lite0"):
            low = 32
        if stem == "imagenet" and model in ("resnet18", "resnet34", "resnet50"):
            low = 32
        config = make_config({"model": model, "stem": stem, "image_size": low})
        assert config.image_size == low


def test_an_unknown_recipe_is_refused_with_the_list_of_recipes():
    for recipe in ("articel", "", None, ["quick"], {}):
        with pytest.raises(ConfigError, match=r"^recipe must be .*paper, transfer, finetune, art"):
            make_config({"recipe": recipe})
    with pytest.raises(ConfigError, match=r"^recipe must be one of .*, got 'mine'"):
        TrainConfig(recipe="mine")


def test_an_unknown_setting_is_refused_with_the_list_of_settings():
    for name in ("learning_rate", "Epochs", 5, None):
        with pytest.raises(ConfigError, match=r"there is no setting .*batch_norm, batch_size, .*"):
            make_config({name: 1})


def test_a_config_that_is_no_object_is_refused():
    for values in (None, [], "quick", 3):
        with pytest.raises(ConfigError, match="config must be an object of settings"):
            make_config(values)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigError) as refused:
        make_config({"model": "x" * 10_000})
    assert len(str(refused.value)) < 400


def test_the_article_recipe_has_the_values_of_the_tutorial():
    assert make_config({"recipe": "article"}).to_dict() == THE_ARTICLE


def test_the_fixed_article_differs_in_three_faults_only():
    article, repaired = (make_config({"recipe": name}) for name in ("article", "article-fixed"))
    differing = {
        name: getattr(repaired, name)
        for name in SETTINGS
        if getattr(article, name) != getattr(repaired, name)
    }
    assert differing == {
        "recipe": "article-fixed",
        "validate_in_training_mode": False,
        "per_image_std": False,
        "decay_all": False,
    }


def test_given_values_replace_those_of_the_recipe_only():
    values = make_config({"recipe": "article", "epochs": 2, "seed": 7})
    assert values.to_dict() == {**THE_ARTICLE, "epochs": 2, "seed": 7}


def test_the_quick_recipe_is_the_defaults():
    assert make_config({}).to_dict() == defaults()
    assert make_config({"recipe": "quick"}) == TrainConfig()


def test_a_config_file_from_before_a_setting_means_what_was_done_then():
    stored = json.loads(to_json(TrainConfig(), "0.1"))
    del stored["grow_from"], stored["stratify"]
    assert (from_dict(stored).grow_from, from_dict(stored).stratify) == (1.0, False)
    assert from_dict(json.loads(to_json(TrainConfig(), "0.1"))).grow_from == 0.625


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_config_comes_back_from_its_file(recipe):
    config = make_config({"recipe": recipe, "seed": 5})
    text = to_json(config, "1.2.3")
    assert from_dict(json.loads(text)) == config
    assert json.loads(text) == {**config.to_dict(), "version": "1.2.3"}


def test_a_config_file_with_a_wrong_value_or_an_unknown_name_is_refused():
    values = TrainConfig().to_dict()
    with pytest.raises(ConfigError, match="epochs must be"):
        from_dict({**values, "epochs": 0})
    with pytest.raises(ValueError, match="an unknown name"):
        from_dict({**values, "momemtum": 0.9})
    for other in (None, [], "quick", 3):
        with pytest.raises(ValueError, match="not an object"):
            from_dict(other)


def test_every_setting_has_a_group_and_one_short_line_of_help_and_every_number_a_range():
    for setting in SETTINGS.values():
        assert setting.metadata["group"] in GROUPS, setting.name
        assert 10 < len(setting.metadata["help"]) <= 60, setting.name
        assert (setting.type in (int, float)) == ("low" in setting.metadata), setting.name
    assert RECIPE_HELP.keys() == RECIPES.keys()


def test_four_or_five_settings_are_always_in_sight():
    main = [name for name, setting in SETTINGS.items() if setting.metadata["group"] == "main"]
    assert main == ["recipe", "dataset", "model", "epochs", "peak_lr"]


def test_the_full_help_has_the_meaning_of_each_choice():
    assert help_text(SETTINGS["epochs"]) == SETTINGS["epochs"].metadata["help"]
    text = help_text(SETTINGS["schedule"])
    assert text.startswith("how the learning rate changes: constant = stays at the peak; linear =")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "12", 12),
        ("epochs", "2.5", "2.5"),
        ("epochs", "many", "many"),
        ("peak_lr", "3e-4", 3e-4),
        ("peak_lr", "", ""),
        ("flip", "True", True),
        ("flip", "0", False),
        ("flip", "yes", "yes"),
        ("dataset", "shapes10", "shapes10"),
    ],
)
def test_a_flag_is_parsed_in_its_settings_type_or_stays_text(name, text, value):
    read = parse_field(name, text)
    assert read == value
    assert type(read) is type(value)


def test_the_chosen_values_of_a_form_are_those_that_are_not_of_its_recipe():
    form = {**make_config({"recipe": "good"}).to_dict(), "dataset": "pets", "epochs": 3}
    assert chosen_values(form) == {"recipe": "good", "dataset": "pets", "epochs": 3}
    assert chosen_values({"recipe": "good", "flip": 1})["flip"] == 1  # refused, not taken for True
