"""Evaluations as tasks: computed once, stored, cancelled, repeated if unusable."""

import json
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.errors import ConfigError, DemoError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.export.pack import pack
from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks import worker
from resnet_demo.tasks.evaluations import Evaluations, run_evaluation, run_robustness
from resnet_demo.tasks.image_indexes import ImageIndexes
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import Status, change_state, create_task, read_status, status_json
from tests.tiny import replace_dataset


@pytest.fixture(scope="module")
def trained(launchers, tmp_path_factory, tiny):
    """Return a run that was trained in this process."""
    launcher = launchers(tmp_path_factory.mktemp("trained"))
    run, lock = launcher.make(tiny(), "trained")
    worker.train(run, launcher.paths)
    os.close(lock)
    return run


@pytest.fixture(scope="module")
def packed(trained, launchers, tmp_path_factory, colours):
    """Return a root of shipped runs with that run and its stored answers on the test images."""
    root = tmp_path_factory.mktemp("packed")
    launcher = launchers(root)
    pack(trained, launcher.datasets, root / "shipped" / "cifar10-shipped")
    return root / "shipped"


@pytest.fixture
def copied(launcher, trained):
    """Return a copy of that run under this test's root."""
    return Run(shutil.copytree(trained.path, launcher.paths.runs / "trained"))


@pytest.fixture
def evaluations(launcher, copied):
    return Evaluations(launcher)


@pytest.fixture
def inline_workers(launcher, monkeypatch):
    """Run tasks in this process instead of workers; return the list of their verbs."""
    verbs = []

    def spawn(verb, folder, lock):
        verbs.append(verb)
        try:
            with suppress(DemoError):  # written to the status
                worker.TASKS[verb](folder, launcher.paths)
        finally:
            os.close(lock)

    monkeypatch.setattr(launcher, "spawn", spawn)
    return verbs


def test_runs_that_can_be_evaluated_on_the_same_images_can_be_compared(
    evaluations, launcher, copied
):
    def copy(name, **config):
        folder = shutil.copytree(copied.path, launcher.paths.runs / name)
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | config))
        return folder

    copy("twin")
    copy("seed", seed=3)
    copy("elsewhere", dataset="gone")
    other = copy("classes")
    fields = {**model_description(other), "classes": ["a", "b", "c"]}
    (other / "model.json").write_bytes(encode_description(Description(**fields)))
    names = ("twin", "seed", "elsewhere", "classes", "no-such-run")

    def comparable(first, split, mode="plain"):
        return [name for name in names if evaluations.can_compare(first, name, split, mode)]

    assert comparable("trained", "test") == ["twin", "seed", "elsewhere"]
    # Another seed holds out other images for validation.
    assert comparable("trained", "val") == ["twin", "elsewhere"]
    assert comparable("elsewhere", "test") == []  # its images are not on this machine
    assert comparable("trained", "test", "no-such-mode") == []


def snapshot_of(folder):
    """Return the files and folders of a folder, with their times and contents."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes())
        for path in folder.rglob("*")
    }


def test_a_dataset_without_test_images_is_refused_before_a_task_exists(
    launcher, copied, owner, tmp_path
):
    images, labels = launcher.datasets.load("colours", "train")
    info = launcher.datasets.get("colours")
    with new_dataset(tmp_path / "tiny", "colours") as folder:
        statistics = {"train": write_split(folder, "train", [images], labels, info.size)}
        write_info(folder, describe("colours", info.classes, info.size, statistics, "a test"))
    evaluations = Evaluations(Launcher(replace(launcher.paths, data=tmp_path / "tiny")))
    for start in (evaluations.start, evaluations.start_robustness):
        with pytest.raises(ConfigError, match="the dataset colours has no test images") as caught:
            start("trained", "test", owner)
        assert caught.value.field == "split"
    assert not (copied.path / "evaluations").exists()
    assert evaluations.folder(copied, "val", "colours").name.startswith("val-colours-")


# --- in workers


def test_an_evaluation_can_be_cancelled_and_started_again_once_by_a_standby_worker(
    launcher, evaluations, copied, owner, ended, until, standby
):
    barrier, folders = threading.Barrier(3), []

    def start():
        barrier.wait()
        folders.append(evaluations.start("trained", "test", owner))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder,) = set(folders)
    assert folder.parent == copied.path / "evaluations"
    launcher.stop_task(folder)
    assert ended(folder).state == "stopped"
    assert not (folder / "result.json").exists()

    pid = standby(launcher)
    assert evaluations.start("trained", "test", owner) == folder
    assert launcher.started[-1].process.pid == pid
    status = ended(folder)
    assert (status.state, status.message) == ("finished", "")
    assert (status.done, status.total, status.unit) == (30, 30, "images")
    result = read_result(folder)
    assert (result["run"], result["dataset"], result["split"]) == ("trained", "colours", "test")
    assert result["n"] == sum(map(sum, result["confusion"])) == 30
    assert result["top1"] == sum(result["confusion"][k][k] for k in range(3)) / 30
    expected = evaluate_run(copied, launcher.datasets, "test").result
    assert {name: result[name] for name in expected} == expected

    until(lambda: not has_worker(folder))
    before = snapshot_of(copied.path)
    assert evaluations.start("trained", "test", owner) == folder  # no worker is needed
    assert not has_worker(folder)
    assert snapshot_of(copied.path) == before


def test_robustness_can_be_cancelled_and_started_again(
    launcher, evaluations, copied, owner, ended, request
):
    folder = evaluations.start_robustness("trained", "val", owner)
    assert folder == evaluations.robustness_folder(copied, "val")
    launcher.stop_task(folder)
    assert ended(folder).state == "stopped"
    request.getfixturevalue("inline_workers")
    assert evaluations.start_robustness("trained", "val", owner) == folder
    status = ended(folder)
    assert (status.state, status.unit) == ("finished", "images")
    assert status.done == status.total == 15 * 36
    assert len(read_result(folder, ROBUSTNESS_KEYS)["kinds"]) == 7


# --- in this process


def test_each_split_dataset_mode_and_weights_has_its_folder(
    evaluations, copied, owner, inline_workers
):
    weights = model_description(copied.path)["sha256"][:12]
    images = evaluations.launcher.datasets.fingerprint("colours").digest[:12]
    requests = [("test", "plain"), ("val", "plain"), ("test", "flip"), ("test", "flip-and-shift")]
    folders = [evaluations.start("trained", split, owner, mode=mode) for split, mode in requests]
    folders.append(evaluations.start_robustness("trained", "test", owner))
    assert [folder.name for folder in folders] == [
        f"test-colours-{weights}-{images}",
        f"val-colours-{weights}-{images}",
        f"test-colours-{weights}-{images}-flip",
        f"test-colours-{weights}-{images}-flip-and-shift",
        f"robustness-test-colours-{weights}-{images}",
    ]
    for folder, (split, mode) in zip(folders, requests, strict=False):
        assert folder == evaluations.folder(copied, split, "colours", mode)
        result = read_result(folder)
        assert (result["split"], result["mode"]) == (split, mode)
        assert result["n"] == (15 if split == "val" else 30)
        assert result["weights"].startswith(weights)
    assert inline_workers == ["evaluate"] * 4 + ["robustness"]


def test_a_finished_evaluation_is_not_repeated(evaluations, owner, inline_workers):
    for _ in range(2):
        folder = evaluations.start("trained", "test", owner)
        robustness = evaluations.start_robustness("trained", "test", owner)
    assert inline_workers == ["evaluate", "robustness"]
    assert evaluations.status(folder).state == evaluations.status(robustness).state == "finished"


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
def test_an_unusable_result_is_computed_again(spoil, evaluations, owner, inline_workers):
    folder = evaluations.start("trained", "test", owner)
    before = read_result(folder)
    spoil(folder)
    assert evaluations.start("trained", "test", owner) == folder
    assert inline_workers == ["evaluate"] * 2
    assert read_result(folder) == before
    assert evaluations.status(folder).state == "finished"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_unusable_robustness_result_is_computed_again(evaluations, owner, inline_workers):
    folder = evaluations.start_robustness("trained", "test", owner)
    (folder / "result.json").write_text("{}")
    assert evaluations.status(folder) is None
    evaluations.start_robustness("trained", "test", owner)
    assert inline_workers == ["robustness"] * 2
    assert evaluations.status(folder).state == "finished"


def test_the_status_is_none_without_a_usable_result(evaluations, copied, owner, inline_workers):
    folder = evaluations.folder(copied, "test", "colours")
    assert evaluations.status(folder) is None
    evaluations.start("trained", "test", owner)
    (folder / "result.json").write_text(json.dumps(OLDER))
    assert evaluations.status(folder) is None
    (folder / "status.json").write_bytes(status_json(Status(state="running")))  # without a worker
    status = evaluations.status(folder)
    assert (status.state, status.message) == ("failed", "the worker exited unexpectedly")


def test_a_live_worker_is_not_disturbed(evaluations, copied, owner, inline_workers):
    folder = evaluations.folder(copied, "test", "colours")
    lock = create_task(folder, {"task.json": b"{}"})
    try:
        (folder / "status.json").write_text("{")  # unreadable, but a worker holds the lock
        with suppress(DemoError):
            evaluations.start("trained", "test", owner)
        assert folder.exists()
        assert inline_workers == []
    finally:
        os.close(lock)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "all"}, ConfigError, "split must be one of test, val, train, got 'all'"),
        ({"mode": "twice"}, ConfigError, "mode must be one of plain, flip, .*, got 'twice'"),
        ({"mode": None}, ConfigError, "mode must be one of plain, flip, .*, got nothing"),
        ({"dataset": "nope"}, NotFoundError, "dataset must be one of shapes10, colours, got"),
        ({"dataset": "../x"}, ConfigError, "dataset must be at most .*, got '../x'"),
        ({"run_id": "nope"}, NotFoundError, "run must be the id .*, got 'nope'"),
    ],
)
def test_invalid_arguments_are_refused_before_a_task_exists(
    arguments, error, message, evaluations, owner
):
    before = snapshot_of(evaluations.launcher.paths.runs)
    with pytest.raises(error, match=message):
        evaluations.start(**{"run_id": "trained", "split": "test", "caller": owner, **arguments})
    assert snapshot_of(evaluations.launcher.paths.runs) == before


def test_a_run_without_weights_is_refused(launcher, tiny, owner):
    _, lock = launcher.make(tiny(), "mine")
    os.close(lock)
    for start in (Evaluations(launcher).start, Evaluations(launcher).start_robustness):
        with pytest.raises(NotFoundError, match=r"mine .* yet"):
            start("mine", "test", owner)


def test_the_status_says_how_an_evaluation_ended(launcher, copied, monkeypatch):
    from resnet_demo.evaluation import evaluate_run

    request = b'{"run": "trained", "split": "val", "dataset": "colours", "weights": ""}'

    def outcome(name, task=request):
        folder = copied.path / "evaluations" / name
        os.close(create_task(folder, {"task.json": task}))
        with suppress(DemoError):  # in the status, which is returned
            run_evaluation(folder, launcher.paths)
        return read_status(folder).state, read_status(folder).message

    assert outcome("good") == ("finished", "")
    state, message = outcome("gone", request.replace(b"trained", b"other"))
    assert (state, "got 'other'" in message) == ("failed", True)
    state, message = outcome("stale", request.replace(b'""', b'"older"'))
    assert (state, "better weights" in message) == ("failed", True)
    assert not (copied.path / "evaluations" / "stale" / "result.json").exists()

    def broken(*_):
        raise RuntimeError("out of order\nand more")

    monkeypatch.setattr(evaluate_run, "evaluate_run", broken)
    with pytest.raises(RuntimeError):
        outcome("broken")
    status = read_status(copied.path / "evaluations" / "broken")
    assert (status.state, status.message) == ("failed", "RuntimeError: out of order")


@pytest.mark.parametrize("run_task", [run_evaluation, run_robustness])
def test_a_stop_leaves_no_result(run_task, launcher, copied):
    request = {"run": "trained", "split": "val", "dataset": "colours", "weights": ""}
    folder = copied.path / "evaluations" / "some"
    os.close(create_task(folder, {"task.json": json.dumps(request).encode()}))
    change_state(folder, "stopping")
    with pytest.raises(DemoError):
        run_task(folder, launcher.paths)
    assert read_status(folder).state == "stopped"
    assert not (folder / "result.json").exists()


def test_an_evaluation_writes_only_its_own_folder(evaluations, copied, owner, inline_workers):
    before = snapshot_of(copied.path)
    evaluations.start("trained", "train", owner, mode="article")
    evaluations.start_robustness("trained", "val", owner)
    after = snapshot_of(copied.path)
    assert all(path.parts[0] == "evaluations" for path in after.keys() - before.keys())
    assert {path: after[path] for path in before} == before


# --- shipped runs


def test_results_of_a_shipped_run_are_stored_in_the_cache(launcher, packed, owner, inline_workers):
    shutil.copytree(packed, launcher.paths.shipped)
    before = snapshot_of(launcher.paths.shipped)
    folder = Evaluations(launcher).start("cifar10-shipped", "test", owner)
    assert folder.parent == launcher.paths.runs / ".cache" / "evaluations" / "cifar10-shipped"
    assert read_result(folder)["stored"] is False
    assert snapshot_of(launcher.paths.shipped) == before
    assert [run.id for run in Launcher(launcher.paths).runs.list()] == ["cifar10-shipped"]


def test_a_result_is_not_shown_for_another_content_of_the_dataset(
    finished, tmp_path, colours, owner, monkeypatch
):
    root = finished.path.parent
    shutil.copytree(root, tmp_path / "runs")
    shutil.copytree(colours, tmp_path / "data")
    launcher = Launcher(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))
    evaluations, run = Evaluations(launcher), launcher.runs.get(finished.id)
    queued = []
    monkeypatch.setattr(launcher, "spawn", lambda *task: queued.append(task))

    def folders():
        return {
            evaluations.folder(run, "test", "colours"),
            evaluations.robustness_folder(run, "test"),
            ImageIndexes(launcher).folder(run),
        }

    before, folder = folders(), evaluations.start(run.id, "test", owner)
    replace_dataset(launcher.paths.data, "colours", lambda classes, splits: None)
    assert folders() == before  # the same content
    replace_dataset(launcher.paths.data, "colours", drop_a_test_image)
    assert not folders() & before
    ((_, _, lock),) = queued
    with suppress(DemoError):
        run_evaluation(folder, launcher.paths)
    os.close(lock)
    assert read_status(folder).message == "the dataset colours has changed meanwhile: try again"


def drop_a_test_image(classes, splits):
    splits["test"] = [part[1:] for part in splits["test"]]


def test_stored_answers_are_used_only_without_the_images(
    launchers, packed, tmp_path, colours, owner, monkeypatch
):
    without, with_images = (
        Launcher(Paths(tmp_path / "runs", data, packed)) for data in (tmp_path / "none", colours)
    )
    weights = model_description(packed / "cifar10-shipped")["sha256"][:12]
    folders = []
    for launcher in (without, with_images):

        def spawn(verb, folder, lock, paths=launcher.paths):
            worker.TASKS[verb](folder, paths)
            os.close(lock)

        monkeypatch.setattr(launcher, "spawn", spawn)
        folders.append(Evaluations(launcher).start("cifar10-shipped", "test", owner))
    assert [folder.name for folder in folders] == [
        f"test-colours-{weights}-stored",
        f"test-colours-{weights}-{with_images.datasets.content_key('colours')}",
    ]
    assert [read_result(folder)["stored"] for folder in folders] == [True, False]


def test_without_the_images_the_error_says_how_to_get_them(launchers, packed, tmp_path, owner):
    evaluations = Evaluations(Launcher(Paths(tmp_path / "runs", tmp_path / "none", packed)))
    way = "get them on the Data tab, or with: python -m resnet_demo data import colours PATH"
    with pytest.raises(NotFoundError, match=f"mode must be plain while .*, got 'flip'; {way}"):
        evaluations.start("cifar10-shipped", "test", owner, mode="flip")
    with pytest.raises(NotFoundError, match=f"the images of colours are not on .*; {way}"):
        evaluations.start_robustness("cifar10-shipped", "test", owner)
    with pytest.raises(NotFoundError, match="dataset must be one of shapes10, got 'colours'"):
        evaluations.start("cifar10-shipped", "val", owner)
