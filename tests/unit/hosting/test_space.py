import shutil
import tomllib
from pathlib import Path

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.hosting.space import (
    MOST_FILE,
    SOURCE,
    ZERO_REQUIREMENTS,
    build,
    check,
    fits_range,
    front_matter,
)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "demo"
    return folder, build(folder, title="Cats: and dogs")


@pytest.fixture
def space(tmp_path, built):
    """A copy that may be spoilt."""
    shutil.copytree(built[0], tmp_path / "demo")
    return tmp_path / "demo"


def test_what_is_built_is_what_a_space_needs_and_nothing_else(built):
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


def test_its_title_is_the_one_that_was_asked_for(built):
    told = front_matter((built[0] / "README.md").read_text())
    assert told["title"] == "Cats: and dogs"
    assert (told["sdk"], told["app_file"]) == ("gradio", "app.py")


def test_the_repository_itself_is_described_as_a_space(tmp_path):
    for name in ("README.md", "requirements.txt"):  # all of it would be gigabytes
        shutil.copy(REPOSITORY / name, tmp_path)
    assert [p for p in check(tmp_path) if p.file == "README.md"] == []


def test_a_folder_that_is_taken_is_left_alone(tmp_path):
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
    with pytest.raises(ConfigError, match=r"the Space would not do: README.md: it must begin with"):
        build(tmp_path / "space", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.fixture(scope="module")
def zero(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zero") / "demo"
    build(folder, zero_gpu=True)
    return folder


def test_for_zero_gpu_its_versions_are_asked_for_in_the_place_of_the_usual_ones(built, zero):
    assert check(zero) == []
    asked = (zero / "requirements.txt").read_text().splitlines()
    for name, rule in ZERO_REQUIREMENTS.items():
        assert [line for line in asked if line.startswith(name) and line[len(name)] in "<>="] == [
            f"{name}{rule}"
        ]
    usual = (built[0] / "requirements.txt").read_text().splitlines()
    assert set(usual) - set(asked) == {line for line in usual if line.startswith("torch")}
    told = front_matter((zero / "README.md").read_text())
    assert (told["suggested_hardware"], told["python_version"]) == ("zero-a10g", "3.12")
    assert "suggested_hardware" not in front_matter((built[0] / "README.md").read_text())


def test_what_is_tried_here_is_what_zero_gpu_is_given():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = f"spaces{ZERO_REQUIREMENTS['spaces']}"
    assert asked in extras["optional-dependencies"]["dev"]
    assert [asked] == extras["optional-dependencies"]["zero"]


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
            'python_version: "3.12"',
            'python_version: "3.13"',
            "must be 3.12 on ZeroGPU",
        ),
    ],
)
def test_a_folder_for_zero_gpu_that_would_not_do_there_is_told(
    zero, tmp_path, file, before, after, problem
):
    space = shutil.copytree(zero, tmp_path / "demo")
    text = (space / file).read_text()
    (space / file).write_text(text.replace(before, after))
    assert [p.file for p in check(space) if problem in p.what] == [file]


def touch(path):
    path.touch()


SPOILT = {
    "app.py": (lambda s: (s / "app.py").unlink(), "it is missing"),
    "big.bin": (lambda s: (s / "big.bin").write_bytes(bytes(MOST_FILE + 1)), "at most 10,000,000"),
    "data": (lambda s: (s / "data").mkdir(), "should not travel"),
    ".env": (lambda s: (s / ".env").write_text("A=1"), "should not travel"),
    "checkpoints/a/last.pt": (
        lambda s: ((s / "checkpoints/a").mkdir(parents=True), touch(s / "checkpoints/a/last.pt")),
        "should not travel",
    ),
    "notes.txt": (
        lambda s: (s / "notes.txt").write_text("token = hf_" + "a1B2" * 8), "looks like a secret"
    ),
    "key.pem": (
        lambda s: (s / "key.pem").write_text("-----BEGIN RSA PRIVATE " + "KEY-----"),
        "looks like a secret",
    ),
    "out": (lambda s: (s / "out").symlink_to("/etc"), "it is a link"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_named(space, name):
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
        ("pinned: false", "pined: false", "has 'pined', which a Space does not know"),
        ("pinned: false", "pinned", "no 'key: value'"),
        ("sdk_version: 6.31.0", "sdk_version: 5.0", "does not fit requirements.txt"),
        ("short_description: ", "short_description: " + "x" * 60, "at most 60 letters"),
        ("---\ntitle", "--\ntitle", "must begin with front matter"),
    ],
)
def test_a_wrong_description_is_named(space, old, new, what):
    readme = space / "README.md"
    text = readme.read_text()
    assert old in text
    readme.write_text(text.replace(old, new, 1))
    problems = check(space)
    assert any(what in problem.what for problem in problems), problems


def test_versions_are_compared_number_by_number():
    assert fits_range("6.31.0", "6.31", "7")
    assert fits_range("6.100", "6.31", "7")
    assert not fits_range("7.0", "6.31", "7")
    assert not fits_range("6.4", "6.31", "7")
    assert not fits_range("", "6.31", "7")


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="folder must be a folder"):
        check(tmp_path / "nowhere")
