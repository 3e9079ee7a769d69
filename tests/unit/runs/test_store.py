"""Runs as directories."""

import os

import pytest

from resnet_demo.config import TrainConfig, to_json
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import PRETRAINED, Runs, check_run_id, check_trained_here


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped")


@pytest.fixture
def runs(paths):
    return Runs(paths)


def make(root, name, at=None, text=None):
    """Create a run's directory, dated `at` Unix seconds."""
    folder = root / name
    folder.mkdir(parents=True)
    config = folder / "config.json"
    config.write_text(to_json(TrainConfig(), "0.1.0") if text is None else text)
    if at is not None:
        os.utime(config, (at, at))
    return folder


def ids(found):
    return [run.id for run in found]


@pytest.mark.parametrize("name", ["a", "7", "my-run", "resnet9-cifar10-3", "a" * 64, "0-", "a--b"])
def test_a_valid_run_id_is_accepted(name):
    assert check_run_id(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "A",
        "a_b",
        "a.b",
        "a b",
        ".",
        "..",
        "../a",
        "a/b",
        "a\n",
        "\na",
        "é",
        "٣",
        "a\0",
        "a" * 65,
        None,
        3,
        ["a"],
        b"a",
    ],
)
def test_an_invalid_run_id_is_refused(name, runs):
    for ask in (check_run_id, runs.get):
        with pytest.raises(ConfigError, match=r"^run_id must be .*, got ") as refused:
            ask(name)
        assert refused.value.field == "run_id"


def test_a_new_id_follows_the_highest_number(runs):
    config = TrainConfig(model="resnet20", dataset="shapes10")
    assert runs.new_id(config) == "resnet20-shapes10-1"
    for name in ("resnet20-shapes10-2", "resnet20-shapes10-10", "resnet20-shapes10-x"):
        make(runs.root, name)
    (runs.root / "resnet20-shapes10-11").mkdir()  # no run, but the name is taken
    make(runs.root, "resnet20-shapes100-40")
    make(runs.root, "resnet9-shapes10-30")
    assert runs.new_id(config) == "resnet20-shapes10-12"


def test_a_new_id_of_the_longest_names_is_valid(runs):
    config = TrainConfig(model="resnet34-article", dataset="d" * 64, image_size=32)
    for _ in range(12):
        make(runs.root, check_run_id(runs.new_id(config)))
    assert len(runs.list()) == 12


def test_the_newest_run_comes_first_and_the_shipped_ones_last(runs):
    for name, at in (("b", 30), ("a", 10), ("c", 20)):
        make(runs.root, name, at)
    make(runs.shipped_root, "learn-plain56", 99)
    make(runs.shipped_root, "cifar10-shipped", 1)
    assert ids(runs.list()) == ["b", "c", "a", "cifar10-shipped", "learn-plain56"]
    assert [run.shipped for run in runs.list()] == [False] * 3 + [True] * 2


def test_without_a_folder_there_are_no_runs(runs):
    assert list(runs.list()) == []


def test_other_files_and_folders_are_not_listed(runs):
    make(runs.root, "real")
    make(runs.root, ".trash")
    make(runs.root, "Upper")
    (runs.root / "empty").mkdir()
    (runs.root / "file").write_text("{}")
    (runs.root / "odd" / "config.json").mkdir(parents=True)
    assert ids(runs.list()) == ["real"]


def test_links_are_not_followed(runs, tmp_path):
    make(tmp_path / "elsewhere", "secret")
    runs.root.mkdir()
    (runs.root / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    assert ids(runs.list()) == []
    with pytest.raises(NotFoundError):
        runs.get("link")


def test_a_run_is_found_by_its_id(runs):
    folder = make(runs.root, "mine")
    assert runs.get("mine").path == folder
    assert not runs.get("mine").shipped
    with pytest.raises(NotFoundError, match=r"run must be the id of a run .*, got 'yours'"):
        runs.get("yours")


def test_shipped_runs_are_listed_for_every_root(runs):
    shipped = make(runs.shipped_root, "cifar10-shipped")
    assert ids(runs.list()) == ["cifar10-shipped"]
    assert runs.get("cifar10-shipped").path == shipped
    assert runs.get("cifar10-shipped").shipped


def test_an_own_run_beside_the_shipped_ones_is_not_listed_for_another_root(runs):
    make(runs.shipped_root, "resnet9-cifar10-1")
    assert ids(runs.list()) == []
    assert not runs.is_taken("resnet9-cifar10-1")
    with pytest.raises(NotFoundError):
        runs.get("resnet9-cifar10-1")


def test_own_and_shipped_runs_can_share_a_folder(paths):
    runs = Runs(Paths(paths.shipped, paths.data, paths.shipped))
    make(paths.shipped, "learn-resnet56")
    make(paths.shipped, "mine")
    assert [(run.id, run.shipped) for run in runs.list()] == [
        ("mine", False),
        ("learn-resnet56", True),
    ]
    assert runs.get("learn-resnet56").shipped
    assert not runs.get("mine").shipped


def test_a_name_is_taken_by_own_and_shipped_runs(runs):
    make(runs.root, "mine")
    make(runs.shipped_root, "cifar10-shipped")
    assert runs.is_taken("mine")
    assert runs.is_taken("cifar10-shipped")
    assert not runs.is_taken("yours")


def test_a_run_has_its_config_and_log(runs):
    folder = make(runs.root, "mine", text=to_json(TrainConfig(epochs=7), "0.1.0"))
    assert runs.get("mine").config() == TrainConfig(epochs=7)
    assert runs.get("mine").log().path == folder / "events.jsonl"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"epochs": 0}',
        '{"momemtum": 1}',
        "\udcff",
        '{"seed": "x"}',
        "[" * 100_000,
    ],
)
def test_a_run_with_a_damaged_config_is_listed(runs, text):
    make(runs.root, "mine", text="")
    (runs.root / "mine" / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert ids(runs.list()) == ["mine"]
    with pytest.raises(DamagedError, match=r"config\.json of run mine is damaged"):
        runs.get("mine").config()


def test_paths_come_from_the_environment_or_are_in_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNET_DEMO_RUNS", "some/runs")
    monkeypatch.setenv("RESNET_DEMO_DATA", "")
    paths = Paths.from_environment()
    assert paths.runs == tmp_path / "some/runs"
    assert paths.data == REPOSITORY / "data"
    assert paths.shipped == REPOSITORY / "checkpoints"


def test_title_and_notes_are_stored_beside_the_config(paths, runs):
    folder = make(paths.runs, "mine")
    config = (folder / "config.json").read_bytes()
    run = runs.get("mine")
    assert (run.about().title, run.about().notes) == ("", "")
    run.describe(title="  Roses, first try 👩‍🌾 ")
    run.describe(notes="one\r\ntwo\n")
    assert (run.about().title, run.about().notes) == ("Roses, first try 👩‍🌾", "one\ntwo")
    run.describe(title="")
    assert (run.about().title, run.about().notes) == ("", "one\ntwo")
    assert (folder / "config.json").read_bytes() == config


@pytest.mark.parametrize("title", ["x" * 81, "two\nlines", "\x1b[31mred", "\u202eevil", "\ud800"])
def test_a_title_that_cannot_be_shown_on_a_line_is_refused(title, paths, runs):
    make(paths.runs, "mine")
    with pytest.raises(ConfigError, match=r"^title must be one line of at most 80 characters, got"):
        runs.get("mine").describe(title=title)
    assert runs.get("mine").about().title == ""


def test_notes_have_a_limit_and_no_control_characters(paths, runs):
    make(paths.runs, "mine")
    for notes in ("x" * 4001, "a\x1b[2Jb"):
        with pytest.raises(ConfigError, match=r"^notes must be text of at most 4,000 characters"):
            runs.get("mine").describe(notes=notes)


@pytest.mark.parametrize("text", ["{", "[]", '{"title": 3}', '{"title": "a\\nb"}'])
def test_a_damaged_title_is_reported_and_replaced(text, paths, runs):
    (make(paths.runs, "mine") / "about.json").write_text(text)
    with pytest.raises(DamagedError, match=r"about\.json of"):
        runs.get("mine").about()
    runs.get("mine").describe(title="new")
    assert runs.get("mine").about().title == "new"


def test_a_shipped_run_has_no_title_of_one_s_own(paths, runs):
    make(paths.shipped, "cifar10-shipped")
    with pytest.raises(ConfigError, match="came with the app and cannot be renamed"):
        runs.get("cifar10-shipped").describe(title="mine")


def test_the_pretrained_network_is_in_no_list_but_can_be_used_by_its_id(paths, runs):
    make(paths.shipped, PRETRAINED)
    make(paths.shipped, "cifar10-shipped")
    make(paths.runs, PRETRAINED)  # of an older version: its name was free then
    assert ids(runs.list()) == [PRETRAINED, "cifar10-shipped"]
    (run,) = runs.pretrained
    assert (run.path, run.is_pretrained) == (paths.shipped / PRETRAINED, True)
    with pytest.raises(ConfigError, match="cannot be evaluated: it was trained elsewhere"):
        check_trained_here(run, "evaluated")
    assert runs.is_taken(PRETRAINED)
