"""Rules on imports, read from the source; an import inside a function counts too."""

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Layer -> what belongs in it. From the top: a layer may import itself and the ones after it.
SUBJECTS = {
    "ui": "the Gradio page and its HTTP endpoints",
    "cli": "the verbs of `python -m resnet_demo`",
    "hosting": "public access, limits, and building a Space",
    "bench": "benchmarks of this machine and of the product",
    "tasks": "long work in worker processes: status, queue, launcher, worker",
    "learn": "the lessons: experiments and their recordings",
    "export": "what leaves the app: exports, packed runs and model cards",
    "training": "what needs gradients",
    "evaluation": "scores and figures of predictions",
    "inference": "predictions and explanations of single pictures",
    "runs": "run directories: files, log, state, groups, and texts about them",
    "models": "networks by name, and saved ones",
    "data": "datasets, splits, augmentation, preprocessing",
}
FOUNDATION = {
    "config": "TrainConfig: the settings of a run",
    "recipes": "named values for them",
    "architectures": "names and limits of the networks",
    "events": "what a run logs",
    "fingerprint": "what a dataset holds, as runs keep it",
    "json_files": "checked reading of JSON",
    "paths": "the folders of runs and data",
    "file_locks": "locks of files",
    "files": "writing without loss",
    "errors": "errors as one sentence",
    "lru": "the cache class",
}
LAYERS = ("__main__", *SUBJECTS, *FOUNDATION, "__init__")
HEAVY = {"torch", "torchvision", "numpy", "gradio"}  # importing them takes seconds
SOURCES = sorted((ROOT / "resnet_demo").rglob("*.py"))


def imports(path):
    """Yield (line, dotted name) of a file's imports; `from a import b` counts as a.b."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def layer(name):
    """Return the layer of a dotted name: resnet_demo.ui.app -> ui."""
    part = f"{name}.__init__".split(".")[1]
    return part if part in LAYERS else "__init__"  # `from resnet_demo import __version__`


def file_layer(path):
    """Return the layer of a file."""
    return path.relative_to(ROOT / "resnet_demo").with_suffix("").parts[0]


def forbidden_imports(paths, is_forbidden):
    """Return `file:line imports name` for each import that the rule forbids."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imports(path)
        if is_forbidden(path, name)
    ]


def points_up(path, name):
    """Return whether the imported name is in a layer above the file's."""
    allowed = LAYERS[LAYERS.index(file_layer(path)) :]
    return name.split(".")[0] == "resnet_demo" and layer(name) not in allowed


def is_heavy(_, name):
    """Return whether the name belongs to a library that takes seconds to import."""
    return name.split(".")[0] in HEAVY


def loaded_by(module):
    """Return the names of all modules that importing this one loads."""
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())


def test_every_module_has_a_layer():
    assert {file_layer(path) for path in SOURCES} <= set(LAYERS)


def test_imports_point_down():
    assert forbidden_imports(SOURCES, points_up) == []


def test_only_the_ui_imports_gradio():
    others = [path for path in SOURCES if file_layer(path) != "ui"]
    assert forbidden_imports(others, lambda _, name: name.split(".")[0] == "gradio") == []


@pytest.mark.parametrize("name", [*FOUNDATION, "runs"])
def test_the_foundation_and_runs_import_nothing_heavy(name):
    files = [path for path in SOURCES if file_layer(path) == name]
    assert files
    assert forbidden_imports(files, is_heavy) == []


@pytest.mark.parametrize("name", [*FOUNDATION, "cli"])
def test_the_foundation_and_the_command_line_load_nothing_heavy(name):
    assert (HEAVY | {"PIL"}).isdisjoint(loaded_by(f"resnet_demo.{name}"))


def test_runs_and_the_page_load_without_torch_matplotlib_and_the_package_of_zerogpu():
    modules = [f"resnet_demo.runs.{path.stem}" for path in (ROOT / "resnet_demo/runs").glob("*.py")]
    for module in (", ".join(modules), "resnet_demo.ui.app"):
        assert {"torch", "matplotlib", "spaces.zero.client"}.isdisjoint(loaded_by(module))
