"""docs/reference.md is what the program says of itself."""

import ast
import re
from dataclasses import fields

from resnet_demo.cli.reference import COMMAND, ENDPOINTS, ENVIRONMENT, NO_DEFAULT, reference
from resnet_demo.config import GROUPS, TrainConfig, help_text
from resnet_demo.errors import one_of
from resnet_demo.paths import REPOSITORY
from resnet_demo.recipes import RECIPES

PAGE = REPOSITORY / "docs" / "reference.md"
SET_BY_HOSTS = ("RESNET_DEMO_MAX_",)  # a prefix, not a variable


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text("utf-8") == reference(), f"docs/reference.md is old: run `{COMMAND}`"


def test_the_page_does_not_depend_on_the_width_of_the_terminal(monkeypatch):
    pages = []
    for width in ("40", "300"):
        monkeypatch.setenv("COLUMNS", width)
        pages.append(reference())
    assert pages[0] == pages[1]


def test_the_page_has_every_field_with_default_rule_and_help():
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    for field in fields(TrainConfig):
        row = next(row for row in rows if row.startswith(f"| `{field.name}` |"))
        rule = field.metadata
        allowed = {bool: "true, false", str: "a name"}.get(field.type, "")
        if "low" in rule:
            allowed = f"{rule['low']:g} to {rule['high']:.10g}"
        if "choices" in rule:
            allowed = ", ".join(rule["choices"])
        if field.name == "recipe":
            allowed = one_of(RECIPES).removeprefix("one of ")
        default = str(field.default).lower() if field.type is bool else field.default
        unit = rule.get("unit", "")
        assert row.startswith(f"| `{field.name}` | {default} | {allowed} | {unit} | ")
        assert row.endswith(f" | {GROUPS[rule['group']]} | {help_text(field)} |")


def test_a_table_shows_what_each_recipe_changes():
    header = f"| field | {' | '.join(RECIPES)} |"
    assert header in reference()
    assert "| `image_size` | 32 |  |  |  | 224 | 224 | 224 | 224 |" in reference()


def test_the_endpoints_are_those_of_the_api():
    """Compare with the source of the API, as the reference cannot import it without gradio."""
    tree = ast.parse((REPOSITORY / "resnet_demo" / "ui" / "api.py").read_text("utf-8"))
    names = {endpoint.name.removeprefix("/") for endpoint in ENDPOINTS}
    [build] = [node for node in tree.body if getattr(node, "name", "") == "Endpoints"]
    found = {}
    for node in build.body:
        if getattr(node, "name", None) in names:
            defaults = [ast.literal_eval(value) for value in node.args.defaults]
            arguments = [argument.arg for argument in node.args.args if argument.arg != "self"]
            required = [NO_DEFAULT] * (len(arguments) - len(defaults))
            found[node.name] = list(zip(arguments, required + defaults, strict=True))
    assert found == {
        endpoint.name.removeprefix("/"): [
            (argument.name, argument.default) for argument in endpoint.arguments
        ]
        for endpoint in ENDPOINTS
    }


def test_every_variable_of_the_program_is_in_the_table():
    sources = [*(REPOSITORY / "resnet_demo").rglob("*.py"), REPOSITORY / "app.py"]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    used = set(re.findall(r"\bRESNET_DEMO_[A-Z0-9_]+\b", text)) - set(SET_BY_HOSTS)
    table = {name for name, *_ in ENVIRONMENT if name.startswith("RESNET_DEMO")}
    assert table == used
    assert "| `RESNET_DEMO_MAX_EPOCHS` | 30 |" in reference()
