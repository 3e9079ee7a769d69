"""Evaluations as tasks: made once, kept, cancelled, made anew where what is kept is of no use."""

import json
import os
import shutil
import threading
from contextlib import suppress

import pytest

from resnet_demo.errors import ConfigError, DemoError, NotFoundError
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.export.pack import pack
from resnet_demo.models.description import model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks import worker
from resnet_demo.tasks.evaluations import Evaluations, run_evaluation, run_robustness
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import Status, change_state, create_task, read_status, status_json


@pytest.fixture(scope="module")
def trained(launchers, tmp_path_factory, tiny):
    """A run that was trained in this process."""
    launcher = launchers(tmp_path_factory.mktemp("trained"))
    run, lock = launcher.make(tiny(), "trained")
    worker.train(run, launcher.paths)
    os.close(lock)
    return run


@pytest.fixture(scope="module")
def packed(trained, launchers, tmp_path_factory, colours):
    """That run as one that came with the app, its answers on the test images beside it."""
    root = tmp_path_factory.mktemp("packed")
    launcher = launchers(root)
    pack(trained, launcher.datasets, root / "shipped" / "cifar10-shipped")
    return root / "shipped"


@pytest.fixture
def copied(launcher, trained):
    """That run, under this test's root."""
    return Run(shutil.copytree(trained.path, launcher.paths.runs / "trained"))


@pytest.fixture
def evaluating(launcher, copied):
    return Evaluations(launcher)


@pytest.fixture
def at_once(launcher, monkeypatch):
    """Workers do their deeds in this process; the verbs that were asked for, in order."""
    asked = []

    def spawn(verb, folder, lock):
        asked.append(verb)
        try:
            with suppress(DemoError):  # told in the status
                worker.TASKS[verb](folder, launcher.paths)
        finally:
            os.close(lock)

    monkeypatch.setattr(launcher, "spawn", spawn)
    return asked


def content(folder):
    """Everything in a folder: what, since when, how long."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes())
        for path in folder.rglob("*")
    }


# --- in workers


def test_an_evaluation_can_be_cancelled_and_is_made_once_when_asked_again(
    launcher, evaluating, copied, owner, ended, until
):
    barrier, folders = threading.Barrier(3), []

    def ask():
        barrier.wait()
        folders.append(evaluating.start("trained", "test", owner))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder,) = set(folders)
    assert folder.parent == copied.path / "evaluations"
    launcher.stop_task(folder)
    assert ended(folder).state == "stopped"
    assert not (folder / "result.json").exists()

    assert evaluating.start("trained", "test", owner) == folder
    status = ended(folder)
    assert (status.state, status.message) == ("finished", "")
    assert (status.done, status.total, status.unit) == (30, 30, "images")
    result = read_result(folder)
    assert (result["run"], result["dataset"], result["split"]) == ("trained", "colours", "test")
    assert result["n"] == sum(map(sum, result["confusion"])) == 30
    assert result["top1"] == sum(result["confusion"][k][k] for k in range(3)) / 30

    until(lambda: not has_worker(folder))
    before = content(copied.path)
    assert evaluating.start("trained", "test", owner) == folder  # no worker is needed now
    assert not has_worker(folder)
    assert content(copied.path) == before


def test_robustness_is_seen_to_in_a_worker_and_can_be_cancelled(
    launcher, evaluating, copied, owner, ended
):
    folder = evaluating.start_robustness("trained", "val", owner)
    assert folder == evaluating.robustness_folder(copied, "val")
    launcher.stop_task(folder)
    assert ended(folder).state == "stopped"
    assert evaluating.start_robustness("trained", "val", owner) == folder
    status = ended(folder)
    assert (status.state, status.done, status.total, status.unit) == (
        *("finished", 15 * 36, 15 * 36, "images"),
    )
    assert len(read_result(folder, ROBUSTNESS_KEYS)["kinds"]) == 7


# --- in this process


def test_each_split_dataset_mode_and_weights_have_a_folder(evaluating, copied, owner, at_once):
    weights = model_description(copied.path)["sha256"][:12]
    asked = [("test", "plain"), ("val", "plain"), ("test", "flip"), ("test", "flip-and-shift")]
    folders = [evaluating.start("trained", split, owner, mode=mode) for split, mode in asked]
    folders.append(evaluating.start_robustness("trained", "test", owner))
    assert [folder.name for folder in folders] == [
        f"test-colours-{weights}",
        f"val-colours-{weights}",
        f"test-colours-{weights}-flip",
        f"test-colours-{weights}-flip-and-shift",
        f"robustness-test-colours-{weights}",
    ]
    for folder, (split, mode) in zip(folders, asked, strict=False):
        assert folder == evaluating.folder(copied, split, "colours", mode)
        result = read_result(folder)
        assert (result["split"], result["mode"], result["n"]) == (split, mode, 30 // (
            2 if split == "val" else 1
        ))  # fmt: skip
        assert result["weights"].startswith(weights)
    assert at_once == ["evaluate"] * 4 + ["robustness"]


def test_what_is_finished_is_not_made_again(evaluating, owner, at_once):
    for _ in range(2):
        folder = evaluating.start("trained", "test", owner)
        bears = evaluating.start_robustness("trained", "test", owner)
    assert at_once == ["evaluate", "robustness"]
    assert evaluating.status(folder).state == evaluating.status(bears).state == "finished"


OLDER = {"run": "trained", "top1": 0.5, "loss": 1.0, "n": 30, "confusion": [[1]], "per_class": []}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "result.json").unlink(),
        lambda folder: (folder / "result.json").write_text("{"),
        lambda folder: (folder / "result.json").write_text(json.dumps(OLDER)),
        lambda folder: (folder / "answers.safetensors").unlink(),
        lambda folder: (folder / "answers.safetensors").write_bytes(b"torn"),
        lambda folder: (folder / "status.json").write_text("{"),
    ],
    ids=["no result", "torn result", "older result", "no answers", "torn answers", "no status"],
)
def test_what_cannot_be_used_is_made_anew(spoil, evaluating, owner, at_once):
    folder = evaluating.start("trained", "test", owner)
    before = read_result(folder)
    spoil(folder)
    assert evaluating.start("trained", "test", owner) == folder
    assert at_once == ["evaluate"] * 2
    assert read_result(folder) == before
    assert evaluating.status(folder).state == "finished"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_look_at_robustness_that_cannot_be_used_is_made_anew(evaluating, owner, at_once):
    folder = evaluating.start_robustness("trained", "test", owner)
    (folder / "result.json").write_text("{}")
    assert evaluating.status(folder) is None
    evaluating.start_robustness("trained", "test", owner)
    assert at_once == ["robustness"] * 2
    assert evaluating.status(folder).state == "finished"


def test_the_status_is_none_where_there_is_nothing_of_use(evaluating, copied, owner, at_once):
    folder = evaluating.folder(copied, "test", "colours")
    assert evaluating.status(folder) is None
    evaluating.start("trained", "test", owner)
    (folder / "result.json").write_text(json.dumps(OLDER))
    assert evaluating.status(folder) is None
    (folder / "status.json").write_bytes(status_json(Status(state="running")))  # its worker is gone
    status = evaluating.status(folder)
    assert (status.state, status.message) == ("failed", "its worker ended without a word")


def test_somebody_who_is_at_it_is_not_disturbed(evaluating, copied, owner, at_once):
    folder = evaluating.folder(copied, "test", "colours")
    lock = create_task(folder, {"task.json": b"{}"})
    try:
        (folder / "status.json").write_text("{")  # unreadable, and yet a worker holds it
        with suppress(DemoError):
            evaluating.start("trained", "test", owner)
        assert folder.exists()
        assert at_once == []
    finally:
        os.close(lock)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({"split": "all"}, ConfigError, "split must be one of test, val, train, got 'all'"),
        ({"mode": "twice"}, ConfigError, "mode must be one of plain, flip, .*, got 'twice'"),
        ({"mode": None}, ConfigError, "mode must be one of plain, flip, .*, got nothing"),
        ({"dataset": "nope"}, NotFoundError, "dataset must be one of shapes10, colours, got"),
        ({"dataset": "../x"}, ConfigError, "dataset must be at most .*, got '../x'"),
        ({"run_id": "nope"}, NotFoundError, "run must be the id .*, got 'nope'"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(asked, error, sentence, evaluating, owner):
    before = content(evaluating.launcher.paths.runs)
    with pytest.raises(error, match=sentence):
        evaluating.start(**{"run_id": "trained", "split": "test", "caller": owner, **asked})
    assert content(evaluating.launcher.paths.runs) == before


def test_a_run_without_weights_says_so(launcher, tiny, owner):
    _, lock = launcher.make(tiny(), "mine")
    os.close(lock)
    for start in (Evaluations(launcher).start, Evaluations(launcher).start_robustness):
        with pytest.raises(NotFoundError, match=r"mine .* yet"):
            start("mine", "test", owner)


def test_an_evaluation_tells_how_it_ends(launcher, copied, monkeypatch):
    from resnet_demo.evaluation import evaluate_run

    told = b'{"run": "trained", "split": "val", "dataset": "colours", "weights": ""}'

    def outcome(name, task=told):
        folder = copied.path / "evaluations" / name
        os.close(create_task(folder, {"task.json": task}))
        with suppress(DemoError):  # told in the status, which is looked at
            run_evaluation(folder, launcher.paths)
        return read_status(folder).state, read_status(folder).message

    assert outcome("good") == ("finished", "")
    state, message = outcome("gone", told.replace(b"trained", b"other"))
    assert (state, "got 'other'" in message) == ("failed", True)
    state, message = outcome("stale", told.replace(b'""', b'"older"'))
    assert (state, "better weights" in message) == ("failed", True)
    assert not (copied.path / "evaluations" / "stale" / "result.json").exists()

    def broken(*_):
        raise RuntimeError("out of order\nand more")

    monkeypatch.setattr(evaluate_run, "evaluate_run", broken)
    with pytest.raises(RuntimeError):
        outcome("broken")
    status = read_status(copied.path / "evaluations" / "broken")
    assert (status.state, status.message) == ("failed", "RuntimeError: out of order")


@pytest.mark.parametrize("deed", [run_evaluation, run_robustness])
def test_a_stop_ends_it_and_leaves_no_result(deed, launcher, copied):
    told = {"run": "trained", "split": "val", "dataset": "colours", "weights": ""}
    folder = copied.path / "evaluations" / "some"
    os.close(create_task(folder, {"task.json": json.dumps(told).encode()}))
    change_state(folder, "stopping")
    with pytest.raises(DemoError):
        deed(folder, launcher.paths)
    assert read_status(folder).state == "stopped"
    assert not (folder / "result.json").exists()


def test_nothing_of_the_run_is_touched_but_its_own_folder(evaluating, copied, owner, at_once):
    before = content(copied.path)
    evaluating.start("trained", "train", owner, mode="article")
    evaluating.start_robustness("trained", "val", owner)
    after = content(copied.path)
    assert all(path.parts[0] == "evaluations" for path in after.keys() - before.keys())
    assert {path: after[path] for path in before} == before


# --- runs that came with the app


def test_results_about_a_shipped_run_go_to_the_cache(launcher, packed, owner, at_once):
    shutil.copytree(packed, launcher.paths.shipped)
    before = content(launcher.paths.shipped)
    folder = Evaluations(launcher).start("cifar10-shipped", "test", owner)
    assert folder.parent == launcher.paths.runs / ".cache" / "evaluations" / "cifar10-shipped"
    assert read_result(folder)["stored"] is False
    assert content(launcher.paths.shipped) == before
    assert [run.id for run in Launcher(launcher.paths).runs.list()] == ["cifar10-shipped"]


def test_stored_answers_give_way_as_soon_as_the_images_are_here(
    launchers, packed, tmp_path, colours, owner, monkeypatch
):
    without, there = (
        Launcher(Paths(tmp_path / "runs", data, packed)) for data in (tmp_path / "none", colours)
    )
    weights = model_description(packed / "cifar10-shipped")["sha256"][:12]
    folders = []
    for launcher in (without, there):
        monkeypatch.setattr(
            launcher,
            "spawn",
            lambda verb, folder, lock, paths=launcher.paths: (
                worker.TASKS[verb](folder, paths), os.close(lock)
            ),
        )  # fmt: skip
        folders.append(Evaluations(launcher).start("cifar10-shipped", "test", owner))
    assert [folder.name for folder in folders] == [
        *(f"test-colours-{weights}-stored", f"test-colours-{weights}")
    ]
    assert [read_result(folder)["stored"] for folder in folders] == [True, False]


def test_what_needs_the_images_says_how_to_get_them(launchers, packed, tmp_path, owner):
    evaluating = Evaluations(Launcher(Paths(tmp_path / "runs", tmp_path / "none", packed)))
    way = "the Data tab or `python -m resnet_demo data import colours PATH` brings them"
    with pytest.raises(NotFoundError, match=f"mode must be plain while .*, got 'flip'; {way}"):
        evaluating.start("cifar10-shipped", "test", owner, mode="flip")
    with pytest.raises(NotFoundError, match=f"the images of colours are not on .*; {way}"):
        evaluating.start_robustness("cifar10-shipped", "test", owner)
    with pytest.raises(NotFoundError, match="dataset must be one of shapes10, got 'colours'"):
        evaluating.start("cifar10-shipped", "val", owner)
