"""The README against the program: what it says of knobs, verbs and parameters is what is there."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from resnet_demo.config import RECIPES, WHITENING, TrainConfig, one_of
from resnet_demo.models.counts import count

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def knob_table() -> str:
    """The table of knobs as the README must have it; a failing test prints it."""
    rows = ["| knob | default | allowed | what |", "| --- | --- | --- | --- |"]
    for knob in fields(TrainConfig):
        rule = knob.metadata
        allowed = {bool: "true, false", str: "a name"}.get(knob.type, "")
        if "low" in rule:
            allowed = f"{rule['low']:g} to {rule['high']:.10g}"
        if "choices" in rule:
            allowed = ", ".join(rule["choices"]) if len(rule["choices"]) < 6 else "see above"
        if knob.name == "recipe":
            allowed = one_of(RECIPES).removeprefix("one of ")
        unit = f" {rule['unit']}" if rule.get("unit") else ""
        default = str(knob.default).lower() if knob.type is bool else knob.default
        rows.append(f"| `{knob.name}` | {default} | {allowed}{unit} | {rule['help']} |")
    return "\n".join(rows)


def test_the_table_of_knobs_is_the_one_that_the_fields_make():
    assert knob_table() in README, f"put this into README.md:\n{knob_table()}"


def test_every_example_on_the_command_line_is_understood():
    from resnet_demo.cli import make_parser

    examples = [
        line.split("#")[0].split("resnet_demo ", 1)[1].split()
        for line in README.splitlines()
        if line.startswith("python -m resnet_demo")
    ]
    assert len(examples) > 6
    for words in examples:
        make_parser().parse_args(words[: words.index("|")] if "|" in words else words)


@pytest.mark.parametrize(
    "model",
    [*WHITENING, "resnet18", "resnet34", "resnet50", "resnet34-article", "vgg16"],
)
def test_the_parameters_it_states_are_the_networks_own(model):
    millions = f"{count(model).parameters / 1e6:.1f}"
    row = next(
        line for line in README.splitlines() if line.startswith("|") and f"`{model}`" in line
    )
    assert re.search(rf"\b{re.escape(millions)}\b", row), f"{model} has {millions} million"


def test_the_front_matter_names_what_a_space_starts():
    matter = README.split("---")[1]
    assert "sdk: gradio" in matter
    assert "app_file: app.py" in matter
    assert len(re.search(r"short_description: (.*)", matter)[1]) <= 60
