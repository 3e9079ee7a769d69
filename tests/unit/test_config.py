import json
import math
from dataclasses import fields

import pytest

from resnet_demo.architectures import MODELS, RESNET9_MODELS
from resnet_demo.config import (
    RECIPE_HELP,
    RECIPES,
    TrainConfig,
    defaults,
    from_dict,
    make_config,
    parse,
    to_json,
)
from resnet_demo.errors import ConfigError, shortened

KNOBS = {knob.name: knob for knob in fields(TrainConfig)}
NUMBERS = [knob for knob in KNOBS.values() if knob.type in (int, float)]
ALLOWING = {  # for their limits
    "cutout": {"image_size": 256},
    "warmup_epochs": {"epochs": 1000},
    "image_size": {"model": "resnet20"},
}
THE_ARTICLE = {  # the table of the design, line by line
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
}


def wrong_values(knob):
    """What a form, a flag or a request can hand over that is not this knob's."""
    if knob.type is bool:
        return [None, 0, 1, "true", 1.0, []]
    if knob.type is str:
        return [
            None,
            "",
            0,
            True,
            ["sgd"],
            b"sgd",
            *(["SGD "] if "choices" in knob.metadata else []),
        ]
    low, high = knob.metadata["low"], knob.metadata["high"]
    step = 1 if knob.type is int else 1e-7
    values = [low - step, high + (1 if knob.type is int else 1e-3), -(10**30), 10**30]
    values += [math.nan, math.inf, -math.inf, None, "", "3", [3], True, False, 1j]
    return values + [2.5, 3.0] * (knob.type is int)


@pytest.mark.parametrize(
    ("name", "value"), [(k.name, value) for k in KNOBS.values() for value in wrong_values(k)]
)
def test_a_wrong_value_is_refused_naming_knob_rule_and_value(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be ") as refused:
        make_config({name: value})
    assert str(refused.value).endswith(f", got {shortened(value)}")
    assert refused.value.field == name


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_limits_of_a_number_are_allowed(knob, end):
    asked = {**ALLOWING.get(knob.name, {}), knob.name: knob.metadata[end]}
    assert getattr(make_config(asked), knob.name) == knob.metadata[end]


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
def test_a_refused_number_is_told_its_limits(knob):
    with pytest.raises(ConfigError) as refused:
        make_config({knob.name: None})
    low, high = f"{knob.metadata['low']:g}", f"{knob.metadata['high']:.10g}"
    assert f"from {low} to {high}" in str(refused.value)
    assert "got nothing" in str(refused.value)


def test_a_whole_number_will_do_for_a_fraction_and_becomes_one():
    assert repr(make_config({"peak_lr": 1}).peak_lr) == "1.0"


@pytest.mark.parametrize(
    ("asked", "field", "rule"),
    [
        ({"epochs": 3, "warmup_epochs": 3.5}, "warmup_epochs", r"at most epochs \(3\), got 3.5"),
        ({"image_size": 16, "cutout": 17}, "cutout", r"at most image_size \(16\), got 17"),
        ({"compile": True, "grow_from": 0.5}, "grow_from", r"1 where compile is on .*, got 0.5"),
        ({"model": "vgg16", "image_size": 31}, "image_size", "at least 32 for vgg16 .*, got 31"),
        (
            {"model": "resnet34-article", "image_size": 31},
            "image_size",
            "at least 32 for .*article",
        ),
        (
            {"model": "resnet18", "stem": "imagenet", "image_size": 31},
            "image_size",
            "at least 32 for resnet18 .*, got 31",
        ),
    ],
)
def test_knobs_that_do_not_fit_together_are_refused(asked, field, rule):
    with pytest.raises(ConfigError, match=f"^{field} must be {rule}") as refused:
        make_config(asked)
    assert refused.value.field == field


@pytest.mark.parametrize("model", MODELS)
def test_the_smallest_image_that_a_network_takes_is_allowed(model):
    for stem in ("small", "imagenet"):
        low = 32 if model in ("resnet34-article", "vgg16") else 9 if model in RESNET9_MODELS else 8
        if stem == "imagenet" and model in ("resnet18", "resnet34", "resnet50"):
            low = 32
        config = make_config({"model": model, "stem": stem, "image_size": low})
        assert config.image_size == low


def test_an_unknown_recipe_is_refused_naming_those_there_are():
    for recipe in ("articel", "", None, ["quick"], {}):
        with pytest.raises(ConfigError, match=r"^recipe must be .*standard, paper, article"):
            make_config({"recipe": recipe})
    with pytest.raises(ConfigError, match=r"^recipe must be one of .*, got 'mine'"):
        TrainConfig(recipe="mine")


def test_an_unknown_knob_is_refused_naming_those_there_are():
    for name in ("learning_rate", "Epochs", 5, None):
        with pytest.raises(ConfigError, match=r"no knob is named .*batch_norm, batch_size, .*"):
            make_config({name: 1})


def test_what_is_no_object_is_refused():
    for asked in (None, [], "quick", 3):
        with pytest.raises(ConfigError, match="a config must be an object of knobs and values"):
            make_config(asked)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigError) as refused:
        make_config({"model": "x" * 10_000})
    assert len(str(refused.value)) < 400


def test_the_article_is_the_table_of_the_design_value_by_value():
    assert make_config({"recipe": "article"}).to_dict() == THE_ARTICLE


def test_the_repaired_article_differs_in_the_three_faults_and_in_nothing_else():
    article, repaired = (make_config({"recipe": name}) for name in ("article", "article-fixed"))
    differing = {
        name: getattr(repaired, name)
        for name in KNOBS
        if getattr(article, name) != getattr(repaired, name)
    }
    assert differing == {
        "recipe": "article-fixed",
        "validate_in_training_mode": False,
        "per_image_std": False,
        "decay_all": False,
    }


def test_what_is_asked_replaces_the_recipe_and_nothing_more():
    asked = make_config({"recipe": "article", "epochs": 2, "seed": 7})
    assert asked.to_dict() == {**THE_ARTICLE, "epochs": 2, "seed": 7}


def test_the_quick_recipe_is_the_defaults():
    assert make_config({}).to_dict() == defaults()
    assert make_config({"recipe": "quick"}) == TrainConfig()


def test_a_run_that_is_older_than_growing_images_had_full_sized_ones():
    told = json.loads(to_json(TrainConfig(), "0.1"))
    del told["grow_from"]
    assert from_dict(told).grow_from == 1.0
    assert from_dict(json.loads(to_json(TrainConfig(), "0.1"))).grow_from == 0.625


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_config_comes_back_from_its_file(recipe):
    config = make_config({"recipe": recipe, "seed": 5})
    text = to_json(config, "1.2.3")
    assert from_dict(json.loads(text)) == config
    assert json.loads(text) == {**config.to_dict(), "version": "1.2.3"}


def test_a_config_file_with_a_wrong_value_or_an_unknown_knob_is_refused():
    values = TrainConfig().to_dict()
    with pytest.raises(ConfigError, match="epochs must be"):
        from_dict({**values, "epochs": 0})
    with pytest.raises(ValueError, match="an unknown name"):
        from_dict({**values, "momemtum": 0.9})
    for other in (None, [], "quick", 3):
        with pytest.raises(ValueError, match="not an object"):
            from_dict(other)


def test_every_knob_tells_what_it_does_and_its_rule():
    for knob in KNOBS.values():
        assert len(knob.metadata["help"]) > 10, knob.name
        assert (knob.type in (int, float)) == ("low" in knob.metadata), knob.name
    assert RECIPE_HELP.keys() == RECIPES.keys()


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
def test_a_flag_is_read_as_its_knob_is_and_stays_text_where_it_cannot_be(name, text, value):
    read = parse(name, text)
    assert read == value
    assert type(read) is type(value)
