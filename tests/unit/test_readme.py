"""The README against the program: its commands, parameter counts and front matter are true."""

import re
from pathlib import Path

import pytest

from resnet_demo.architectures import RESNET9_MODELS
from resnet_demo.models.counts import model_counts

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


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
    [*RESNET9_MODELS, "resnet18", "resnet34", "resnet50", "resnet34-article", "vgg16"],
)
def test_the_parameters_it_states_are_the_networks_own(model):
    millions = f"{model_counts(model).parameters / 1e6:.1f}"
    row = next(
        line for line in README.splitlines() if line.startswith("|") and f"`{model}`" in line
    )
    assert re.search(rf"\b{re.escape(millions)}\b", row), f"{model} has {millions} million"


def test_the_front_matter_names_what_a_space_starts():
    matter = README.split("---")[1]
    assert "sdk: gradio" in matter
    assert "app_file: app.py" in matter
    assert len(re.search(r"short_description: (.*)", matter)[1]) <= 60
