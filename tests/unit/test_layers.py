"""The house rules of imports, read from the source. An import inside a function counts too."""

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the top: each may import itself and those after it.
HOUSE = (
    *("ui", "cli", "hosting", "bench", "tasks", "learn", "export", "training"),
    *("evaluation", "inference", "runs", "models", "data"),
)
FOUNDATION = (
    *("config", "architectures", "events", "json_files", "paths", "files", "errors", "lru"),
)
LAYERS = ("__main__", *HOUSE, *FOUNDATION, "__init__")
HEAVY = {"torch", "torchvision", "numpy", "gradio"}
SOURCES = sorted((ROOT / "resnet_demo").rglob("*.py"))


def imports(path):
    """(line, dotted name) of what a file imports; `from a import b` counts as a.b."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def layer(name):
    """The layer a dotted name of this package lies in: resnet_demo.ui.app -> ui."""
    part = f"{name}.__init__".split(".")[1]
    return part if part in LAYERS else "__init__"  # `from resnet_demo import __version__`


def file_layer(path):
    """The same of a file."""
    return path.relative_to(ROOT / "resnet_demo").with_suffix("").parts[0]


def offences(paths, forbidden):
    """file:line imports name, for each import that is forbidden."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imports(path)
        if forbidden(path, name)
    ]


def points_up(path, name):
    """Whether the imported name lies in a layer above the file's."""
    below = LAYERS[LAYERS.index(file_layer(path)) :]
    return name.split(".")[0] == "resnet_demo" and layer(name) not in below


def heavy(_, name):
    """Whether an import takes seconds."""
    return name.split(".")[0] in HEAVY


def test_every_module_has_a_layer():
    assert {file_layer(path) for path in SOURCES} <= set(LAYERS)


def test_imports_point_down():
    assert offences(SOURCES, points_up) == []


def test_only_the_ui_imports_gradio():
    others = [path for path in SOURCES if file_layer(path) != "ui"]
    assert offences(others, lambda _, name: name.split(".")[0] == "gradio") == []


@pytest.mark.parametrize("name", FOUNDATION)
def test_foundation_imports_nothing_heavy(name):
    assert offences([ROOT / "resnet_demo" / f"{name}.py"], heavy) == []


def test_command_line_loads_nothing_heavy_before_a_verb_needs_it():
    code = "import sys, resnet_demo.cli; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert HEAVY & set(loaded.split()) == set()


def test_the_page_is_there_without_torch():
    code = "import sys, resnet_demo.ui.app; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert "torch" not in loaded.split()
