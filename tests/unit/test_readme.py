"""The README and the pages in docs/ against the program: commands, counts, front matter."""

import re

import pytest

from resnet_demo.architectures import RESNET9_MODELS
from resnet_demo.models.counts import model_counts
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text("utf-8")
PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
TRAIN = (REPOSITORY / "docs" / "train.md").read_text("utf-8")


def test_the_systems_and_what_is_weaker_on_macos_are_named():
    assert "You need Linux, or WSL 2 on Windows (macOS is not tested)" in README
    page = (REPOSITORY / "docs" / "reliability.md").read_text("utf-8")
    weaker = page[page.index("## Systems") :].partition("\n\n")[0]
    for word in ("macOS", "`/proc`", "Kill", "suspended", "F_FULLFSYNC"):
        assert word in weaker.replace("\n", " "), word


def test_every_example_on_the_command_line_is_understood():
    from resnet_demo.cli import make_parser

    examples = [
        line.split("#")[0].split("resnet_demo ", 1)[1].split()
        for page in PAGES
        if page.name != "reference.md"  # generated: usage lines, not examples
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("python -m resnet_demo ")
    ]
    assert len(examples) > 20
    for words in examples:
        make_parser().parse_args(words)


def test_every_link_to_a_file_leads_somewhere():
    links = [
        page.parent / link.partition("#")[0]
        for page in (*PAGES, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "SECURITY.md")
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    ]
    assert len(links) > 20
    assert [link for link in links if not link.is_file()] == []


@pytest.mark.parametrize(
    "model",
    [
        *RESNET9_MODELS,
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet34-article",
        "vgg16",
        "efficientnet-lite0",
    ],
)
def test_the_parameters_in_the_table_of_networks_are_the_networks_own(model):
    millions = f"{model_counts(model).parameters / 1e6:.1f}"
    table = TRAIN[TRAIN.index("## Networks") :]
    row = next(
        line for line in table.splitlines() if line.startswith("|") and f"`{model}` " in line
    )
    assert re.search(rf"\b{re.escape(millions)}\b", row), f"{model} has {millions} million"


def test_the_front_matter_names_what_a_space_starts():
    matter = README.split("---")[1]
    assert "sdk: gradio" in matter
    assert "app_file: app.py" in matter
    assert len(re.search(r"short_description: (.*)", matter)[1]) <= 60
