"""Building a Space, checking its front matter, versions and files."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from resnet_demo.cli import main
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.hosting.space import (
    MAX_FILE_BYTES,
    SOURCE,
    ZERO_REQUIREMENTS,
    accepts_version,
    build,
    check,
    front_matter,
    requirement,
)
from resnet_demo.paths import Paths
from resnet_demo.ui.services import Services

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "demo"
    return folder, build(folder, title="Cats: and dogs")


@pytest.fixture
def space(tmp_path, built):
    """Return a copy that a test may change."""
    shutil.copytree(built[0], tmp_path / "demo")
    return tmp_path / "demo"


def test_a_built_space_has_what_it_needs_and_nothing_else(built):
    folder, files = built
    assert check(folder) == []
    names = {str(file) for file in files}
    assert {"app.py", "requirements.txt", "README.md", "LICENSE"} <= names
    assert "resnet_demo/ui/page.css" in names
    assert "resnet_demo/models/counts.json" in names
    assert "resnet_demo/ui/learn/texts/1-block.md" in names
    tops = {file.parts[0] for file in files}
    assert tops <= {*SOURCE, "resnet_demo", "checkpoints"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pt"))]


def test_the_title_is_the_given_one(built):
    settings = front_matter(built[0] / "README.md")
    assert settings["title"] == "Cats: and dogs"
    assert (settings["sdk"], settings["app_file"]) == ("gradio", "app.py")


def test_a_space_opens_with_the_runs_that_it_brings_along(tmp_path, finished, colours, capsys):
    runs, folder = finished.path.parent, tmp_path / "demo"
    paths = {"RESNET_DEMO_RUNS": str(runs), "RESNET_DEMO_DATA": str(colours)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in paths.items():
            patch.setenv(name, value)
        assert main(["space", "build", str(folder), "--run", "mine", "--json"]) == 0
        assert main(["space", "build", str(tmp_path / "b"), "--run", "cifar10-shipped"]) == 2
        assert main(["space", "check", str(folder), "--run", "mine"]) == 2
    out, errors = capsys.readouterr()
    printed = json.loads(out.splitlines()[0])
    assert [run["run"] for run in printed["runs"]] == ["mine"]
    assert "came with the app: every Space has it already" in errors
    assert not (tmp_path / "b").exists()
    # As the app on the Space reads them: runs and shipped runs are in one folder.
    services = Services(Paths(folder / "checkpoints", tmp_path, folder / "checkpoints"))
    assert services.default_run() == services.default_trained_run() == "mine"
    assert [run.id for run in services.trained_runs()] == ["mine", "cifar10-shipped"]
    evaluated = evaluate_run(services.runs.get("mine"), services.datasets).result
    assert (evaluated["stored"], evaluated["top1"]) == (True, printed["runs"][0]["top1"])


def test_weights_may_be_larger_than_other_files(space):
    (space / "checkpoints/a").mkdir(parents=True)
    (space / "checkpoints/a/model.safetensors").write_bytes(bytes(MAX_FILE_BYTES + 1))
    assert check(space) == []


def test_the_repository_itself_is_described_as_a_space(tmp_path):
    for name in ("README.md", "requirements.txt"):  # all of it would be gigabytes
        shutil.copy(REPOSITORY / name, tmp_path)
    assert [p for p in check(tmp_path) if p.file == "README.md"] == []


def test_a_folder_with_files_is_left_unchanged(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="folder must be a folder that is new or empty"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_build_that_fails_leaves_nothing(tmp_path):
    broken = tmp_path / "repository"
    (broken / "resnet_demo").mkdir(parents=True)
    for name in ("app.py", "requirements.txt", "LICENSE"):
        (broken / name).write_text("")
    (broken / "README.md").write_text("no front matter")
    with pytest.raises(ConfigError, match=r"has a problem: README.md: it must begin with"):
        build(tmp_path / "space", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.fixture(scope="module")
def zero(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zero") / "demo"
    build(folder, zero_gpu=True)
    return folder


def test_a_space_for_zerogpu_requires_its_versions(built, zero):
    assert check(zero) == []
    lines = (zero / "requirements.txt").read_text().splitlines()
    for name, rule in ZERO_REQUIREMENTS.items():
        assert [line for line in lines if line.startswith(name) and line[len(name)] in "<>="] == [
            f"{name}{rule}"
        ]
    usual = (built[0] / "requirements.txt").read_text().splitlines()
    assert set(usual) - set(lines) == {line for line in usual if line.startswith("torch")}
    settings = front_matter(zero / "README.md")
    assert (settings["suggested_hardware"], settings["python_version"]) == ("zero-a10g", "3.12")
    assert "suggested_hardware" not in front_matter(built[0] / "README.md")


def test_the_tested_version_of_spaces_is_the_one_for_zerogpu():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    spaces = f"spaces{ZERO_REQUIREMENTS['spaces']}"
    assert spaces in extras["optional-dependencies"]["dev"]
    assert [spaces] == extras["optional-dependencies"]["zero"]


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        (
            "requirements.txt",
            "torch>=2.10,<2.12",
            "torch>=2.10,<2.15",
            "must have torch>=2.10,<2.12",
        ),
        ("requirements.txt", "spaces>=0.51,<1", "", "must have spaces"),
        (
            "README.md",
            "python_version: '3.12'",
            "python_version: '3.13'",
            "must be 3.12 on ZeroGPU",
        ),
    ],
)
def test_a_space_that_would_not_run_on_zerogpu_is_reported(
    zero, tmp_path, file, before, after, problem
):
    space = shutil.copytree(zero, tmp_path / "demo")
    text = (space / file).read_text()
    (space / file).write_text(text.replace(before, after))
    assert [p.file for p in check(space) if problem in p.what] == [file]


def write_large_file(space):
    (space / "big.bin").write_bytes(bytes(MAX_FILE_BYTES + 1))


def write_checkpoint(space):
    (space / "checkpoints/a").mkdir(parents=True)
    (space / "checkpoints/a/last.pt").touch()


def write_token(space):
    (space / "notes.txt").write_text("token = hf_" + "a1B2" * 8)


def write_key(space):
    (space / "key.pem").write_text("-----BEGIN RSA PRIVATE " + "KEY-----")


SPOILT = {
    "app.py": (lambda space: (space / "app.py").unlink(), "it is missing"),
    "big.bin": (write_large_file, "at most 10,000,000"),
    "data": (lambda space: (space / "data").mkdir(), "must not be uploaded"),
    ".env": (lambda space: (space / ".env").write_text("A=1"), "must not be uploaded"),
    "checkpoints/a/last.pt": (write_checkpoint, "must not be uploaded"),
    "notes.txt": (write_token, "looks like a secret"),
    "key.pem": (write_key, "looks like a secret"),
    "out": (lambda space: (space / "out").symlink_to("/etc"), "it is a link"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_problem_names_its_file(space, name):
    spoil, what = SPOILT[name]
    spoil(space)
    [problem] = check(space)
    assert problem.file == name
    assert what in problem.what


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("sdk: gradio", "sdk: docker", "must have sdk: gradio"),
        ("colorFrom: blue", "colorFrom: mauve", "colorFrom must be one of red"),
        ("pinned: false", "pined: false", "has an unknown key: 'pined'"),
        ("pinned: false", "pinned", "its front matter is not valid YAML"),
        ("sdk_version: 6.31.0", "sdk_version: 5.0", "does not fit requirements.txt"),
        ("python_version: '3.12'", "python_version: 3.10", "python_version must be in quotes"),
        ("short_description: ", "short_description: " + "x" * 60, "at most 60 letters"),
        ("---\ntitle", "--\ntitle", "must begin with front matter"),
    ],
)
def test_wrong_front_matter_is_reported(space, old, new, what):
    readme = space / "README.md"
    text = readme.read_text()
    assert old in text
    readme.write_text(text.replace(old, new, 1))
    problems = check(space)
    assert any(what in problem.what for problem in problems), problems


def test_versions_are_compared_number_by_number():
    gradio = requirement("gradio[oauth]>=6.31,<7  # a comment")
    assert accepts_version(gradio, "6.31.0")
    assert accepts_version(gradio, "6.100")
    assert not accepts_version(gradio, "7.0")
    assert not accepts_version(gradio, "6.4")
    assert not accepts_version(gradio, "")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="folder must be a folder"):
        check(tmp_path / "nowhere")
