"""Print docs/reference.md: verbs, configuration fields, recipes, HTTP endpoints, environment.

`python -m resnet_demo.cli.reference > docs/reference.md` writes the page.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import Field, dataclass, fields

from resnet_demo.cli import make_parser
from resnet_demo.cli.common import FIELD_OPTIONS
from resnet_demo.config import GROUPS, TrainConfig, help_text, make_config
from resnet_demo.recipes import RECIPE_HELP, RECIPES
from resnet_demo.tasks.limits import Limits, limit_variable

COMMAND = "python -m resnet_demo.cli.reference > docs/reference.md"
PROGRAM = "python -m resnet_demo"
# "" and False are defaults of endpoints, and None could be one.
NO_DEFAULT = object()


@dataclass(frozen=True)
class Argument:
    """An argument of a named endpoint; without a default it must be given."""

    name: str
    meaning: str
    default: object = NO_DEFAULT


@dataclass(frozen=True)
class Endpoint:
    """A named endpoint of the HTTP API; its arguments are in the order of a call."""

    name: str
    meaning: str
    returns: str
    arguments: tuple[Argument, ...]


RUN_ID = Argument("run_id", "id of a run")
ENDPOINTS = (  # the methods of Endpoints in ui/api.py, which imports gradio
    Endpoint(
        "/train",
        "Start a run, or queue it behind others.",
        "the run id",
        (Argument("config", "configuration fields by name; `recipe` sets the others"),),
    ),
    Endpoint(
        "/stop",
        "Stop a run after its current step. Its checkpoint is kept.",
        "a sentence that says what happens",
        (RUN_ID,),
    ),
    Endpoint(
        "/run",
        "Read the state of a run.",
        "`state`, `progress`, `history`, `config`, as `runs show --json`",
        (RUN_ID,),
    ),
    Endpoint(
        "/evaluate",
        "Score a run's kept weights. The call returns when the evaluation is done.",
        "the result, as `evaluate --json`",
        (
            RUN_ID,
            Argument("split", "`test`, `val` or `train`", "test"),
            Argument(
                "mode",
                "`plain`, `flip`, `flip-and-shift`, `flip-and-five-shifts` or `article`",
                "plain",
            ),
            Argument("against", "id of a run to compare with", ""),
            Argument("robustness", "also score damaged images, which takes minutes", False),
        ),
    ),
    Endpoint(
        "/classify",
        "Classify an uploaded picture.",
        "`labels`, `outside`, `fit`, `fits`, `map`, `seen`, `against`, `similar`, `inside`",
        (
            Argument("image", "a picture: `handle_file(…)` of `gradio_client`"),
            RUN_ID,
            Argument("fit", "`crop`, `squash` or `pad` to a square; empty: as in training", ""),
            Argument("top", "number of labels", 5),
            Argument("against", "id of a second run to classify with", ""),
            Argument("similar", "also the five most similar training images", False),
            Argument("inside", "also the feature maps of each stage, as PNG in base64", False),
        ),
    ),
)

ENVIRONMENT = (  # variable, default, meaning; the limits of a public app follow from Limits
    ("RESNET_DEMO_RUNS", "`checkpoints/`", "directory of the runs"),
    ("RESNET_DEMO_DATA", "`data/`", "directory of the datasets"),
    ("RESNET_DEMO_CIFAR10", "", "URL or path of a copy of CIFAR-10, tried before other sources"),
    (
        "RESNET_DEMO_WEIGHTS",
        "`.weights` in the data folder",
        "folder of pretrained weights, such as torchvision's `resnet18-f37072fd.pth`, or URL of a "
        "folder to download them from",
    ),
    ("GRADIO_SERVER_NAME", "127.0.0.1", "address that the app listens on"),
    ("GRADIO_SERVER_PORT", "7860", "port that the app listens on"),
    (
        "GRADIO_TEMP_DIR",
        "below the system's",
        "the app's own directory of uploads, emptied at start",
    ),
    ("RESNET_DEMO_PUBLIC", "", "`1`: strangers can reach the app; only the owner changes things"),
    ("RESNET_DEMO_ADMIN_TOKEN", "", "secret by which the owner logs in; makes the app public"),
    ("RESNET_DEMO_OWNERS", "the Space's author", "more owners of a Space, separated by commas"),
    ("RESNET_DEMO_HOSTS", "", "host names of the app behind a proxy, separated by commas"),
    ("RESNET_DEMO_STANDBY", "1", "`0`: an open page loads torch only when it is needed"),
    ("HF_TOKEN", "", "token with write access, for `space push`"),
    ("CUDA_VISIBLE_DEVICES", "all", "GPUs to use"),
    ("OMP_NUM_THREADS", "all cores", "threads of a process that trains on a CPU"),
    ("OMP_WAIT_POLICY", "PASSIVE", "whether idle OpenMP threads sleep (PASSIVE) or spin (ACTIVE)"),
)


def reference() -> str:
    """Return the whole page as Markdown."""
    parts = [
        "# Reference",
        f"Generated: change the code, then run `{COMMAND}`.",
        *command_line(),
        *configuration(),
        *recipes(),
        *http_api(),
        *environment(),
    ]
    return "\n\n".join(parts) + "\n"


def command_line() -> Iterator[str]:
    """Yield a section for each verb."""
    yield "## Command line"
    yield (
        "With `--json`, standard output holds one JSON object per line and nothing else. Exit code "
        "0: done. 1: failure. 2: mistake in the arguments; one line on standard error names the "
        "option, the rule and the value. 130: stopped. A run is named by its id or its folder."
    )
    for names, parser in leaf_parsers(make_parser(), []):
        yield from verb_section(names, parser)


def leaf_parsers(
    parser: argparse.ArgumentParser, names: list[str]
) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """Yield each parser without sub-parsers, with the names of its verb; aliases follow "/"."""
    # Argparse has no public way to list what was added to a parser.
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not nested:
        yield names, parser
        return
    # argparse maps an alias to the same parser as its verb.
    by_parser: dict[argparse.ArgumentParser, list[str]] = {}
    for name, child in nested[0].choices.items():
        by_parser.setdefault(child, []).append(name)
    for child, spellings in by_parser.items():
        yield from leaf_parsers(child, [*names, "/".join(spellings)])


def verb_section(names: list[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield title, usage and arguments of one verb."""
    groups = {group.title: group for group in parser._action_groups}
    config_group = groups.get(FIELD_OPTIONS)
    field_actions = config_group._group_actions if config_group else []
    actions = [
        action
        for action in parser._actions
        if action not in field_actions and not isinstance(action, argparse._HelpAction)
    ]
    # Usage and help are made here: what argparse prints depends on the width of the terminal.
    # Undoes `leaf_parsers`: the first spelling is the verb's name.
    names = [name.split("/") for name in names]
    yield "### " + " ".join(spellings[0] for spellings in names)
    aliases = [f"`{alias}`" for spellings in names for alias in spellings[1:]]
    alias = f" Another name: {', '.join(aliases)}." if aliases else ""
    yield f"{parser.description}{alias}"
    positionals = [usage_of(action) for action in actions if not action.option_strings]
    words = [PROGRAM, *(spellings[0] for spellings in names), "[options]", *positionals]
    yield f"```\n{' '.join(words)}\n```"
    rows = [[code(argument_name(action)), help_of(action)] for action in actions]
    yield table(["argument", "meaning"], rows)
    if field_actions:
        yield field_options(config_group)


def field_options(group: argparse._ArgumentGroup) -> str:
    """Return a paragraph on the options that are configuration fields."""
    names = {action.dest for action in group._group_actions}
    missing = [field.name for field in fields(TrainConfig) if field.name not in names]
    # What is shorter: the options that there are, or those that there are not.
    if len(missing) <= 2:
        less = f" but {', '.join(map(code, missing))}" if missing else ""
        text = f"Every [configuration field](#configuration){less} is an option"
    else:
        listed = ", ".join(code(field.name) for field in fields(TrainConfig) if field.name in names)
        text = f"These [configuration fields](#configuration) are options too: {listed}"
    return f"{text} (with dashes: `--batch-size`). {group.description}"


def usage_of(action: argparse.Action) -> str:
    """Return a positional argument as a usage line shows it."""
    name = argument_name(action)
    return {"?": f"[{name}]", "+": f"{name}..."}.get(action.nargs, name)


def argument_name(action: argparse.Action) -> str:
    """Return an argument with its value: `--top N`, `--offline [FOLDER]`, `RUN`, `list|show`."""
    value = action.metavar or "|".join(map(str, action.choices or ()))
    if action.option_strings and action.nargs == "?":
        value = f"[{value}]"
    return " ".join([*action.option_strings[:1], *([value] if value else [])])


def help_of(action: argparse.Action) -> str:
    """Return the help of an argument as `--help` shows it."""
    # argparse formats the help with %, so that texts write it twice.
    return (action.help or "").replace("%%", "%")


def configuration() -> Iterator[str]:
    """Yield the table of the fields of TrainConfig."""
    yield "## Configuration"
    yield "The fields of a run's `config.json`. Defaults are those of the recipe `quick`."
    rows = [
        [
            code(field.name),
            shown(field.default),
            *allowed(field),
            GROUPS[field.metadata["group"]],
            help_text(field),
        ]
        for field in fields(TrainConfig)
    ]
    yield table(["field", "default", "allowed", "unit", "group", "meaning"], rows)


def allowed(config_field: Field) -> tuple[str, str]:
    """Return the range or the choices of a field, and its unit."""
    rule = config_field.metadata
    if "low" in rule:
        # :g alone writes a million as 1e+06.
        return f"{rule['low']:g} to {rule['high']:.10g}", rule.get("unit", "")
    if config_field.type is bool:
        return "true, false", ""
    # Recipes are made of fields, so the field cannot have them as its choices.
    choices = rule.get("choices") or (RECIPES if config_field.name == "recipe" else ())
    return ", ".join(choices) or "a name", ""


def recipes() -> Iterator[str]:
    """Yield the purpose of each recipe, and a table of the fields it sets."""
    yield "## Recipes"
    yield "\n".join(f"- `{name}`: {RECIPE_HELP[name]}." for name in RECIPES)
    yield "What a recipe sets. An empty cell is the default, the value of `quick`."
    configs = {name: make_config({"recipe": name}) for name in RECIPES}
    rows = []
    for field in fields(TrainConfig):
        values = [getattr(config, field.name) for config in configs.values()]
        # A row for each field would hide the few that differ.
        if field.name != "recipe" and any(value != field.default for value in values):
            # [1:]: quick is the default.
            cells = ["" if value == field.default else shown(value) for value in values[1:]]
            rows.append([code(field.name), shown(field.default), *cells])
    yield table(["field", *RECIPES], rows)


def http_api() -> Iterator[str]:
    """Yield a section for each named endpoint."""
    yield "## HTTP API"
    yield (
        'Call it with `gradio_client`: `Client("http://127.0.0.1:7860").predict(…, '
        'api_name="/run")`. A mistake comes back as an error with one sentence.'
    )
    for endpoint in ENDPOINTS:
        yield f"### {endpoint.name}"
        yield f"{endpoint.meaning} Returns {endpoint.returns}."
        rows = [
            [
                code(argument.name),
                "" if argument.default is NO_DEFAULT else code(repr(argument.default)),
                argument.meaning,
            ]
            for argument in endpoint.arguments
        ]
        yield table(["argument", "default", "meaning"], rows)


def environment() -> Iterator[str]:
    """Yield the table of environment variables."""
    yield "## Environment variables"
    limits = [
        (limit_variable(limit.name), f"{limit.default:,}", f"public app: {limit.metadata['help']}")
        for limit in fields(Limits)
    ]
    rows = [[code(name), default, text] for name, default, text in (*ENVIRONMENT, *limits)]
    yield table(["variable", "default", "meaning"], rows)


def table(headers: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(text: str) -> str:
    """Return text as Markdown code for a cell of a table."""
    return "`" + text.replace("|", r"\|") + "`"  # a bar would end the cell


def shown(value: object) -> str:
    """Return a value as a flag takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    # The page ends with a line feed already, and tests compare it byte by byte.
    print(reference(), end="")
