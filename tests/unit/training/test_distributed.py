"""Two ranks on a CPU, through torchrun and gloo, beside one that trains alone.

Without BatchNorm the two are the same run but for rounding. With it they are not, on a CPU:
SyncBatchNorm, which would make them so, is for accelerators only.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from resnet_demo.cli import main
from resnet_demo.cli.train import exit_code
from resnet_demo.config import make_config
from resnet_demo.errors import ConfigError
from resnet_demo.events import Resumed, Started, Step, Stopped, to_dict
from resnet_demo.models.device import pick_device
from resnet_demo.models.measure import count_model
from resnet_demo.models.saved import load_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks import multi_gpu, worker
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.tasks.status import read_status
from resnet_demo.training import torchrun
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.distributed import AGREE_EVERY, single_process
from resnet_demo.training.fit import fit
from resnet_demo.training.initial import initial_model
from tests.unit.training.two_ranks import BASE, RUNS

REPOSITORY = Path(__file__).parents[3]
PATIENCE_S = 120.0  # on a machine that does other things too
EXACT = [name for name, knobs in RUNS.items() if not knobs.get("batch_norm", True)]
LONG = {**BASE, "model": "resnet9", "batch_norm": False, "epochs": 6}  # seconds long


@pytest.fixture(scope="module", autouse=True)
def two_on_a_cpu():
    """Give processes one thread each, and hide the GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        torch.set_num_threads(1)
        yield


def torchrun_two(*words, restarts=0, **more):
    """Start two ranks on the command line."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "--max-restarts", str(restarts), *map(str, words)),
    ]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@pytest.fixture(scope="module")
def notes(colours, tmp_path_factory):
    """Return the notes of each rank of `two_ranks.py`, and the folder of the first one's runs."""
    out = tmp_path_factory.mktemp("two-ranks")
    process = torchrun_two(REPOSITORY / "tests/unit/training/two_ranks.py", colours, out)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert err == ""
    return [torch.load(out / f"rank-{rank}.pt") for rank in (0, 1)], out


@pytest.fixture(scope="module")
def alone(datasets):
    """Return a function that trains the same run in this process alone; its events."""
    made = {}

    def run(**knobs):
        key = str(sorted(knobs.items()))
        if key not in made:
            made[key] = list(fit(make_config({**BASE, **knobs}), datasets))
        return made[key]

    return run


def curve(events):
    """Return loss, top-1 and lr by step, and the numbers by epoch; from events or dicts."""
    events = [event if isinstance(event, dict) else to_dict(event) for event in events]
    steps = {e["step"]: (e["loss"], e["top1"], e["lr"]) for e in events if e["event"] == "step"}
    names = ("train_loss", "train_top1", "val_loss", "val_top1", "lr")
    epochs = {e["epoch"]: tuple(e[n] for n in names) for e in events if e["event"] == "epoch"}
    return steps, epochs


def assert_same_curve(one, other):
    """Check that two curves are equal to 1e-4, step by step and epoch by epoch."""
    for left, right in zip(curve(one), curve(other), strict=True):
        assert left.keys() == right.keys()
        for number, values in left.items():
            assert values == pytest.approx(right[number], rel=0, abs=1e-4), number


# --- a run on two ranks


@pytest.mark.parametrize("name", EXACT)
def test_two_ranks_have_the_curve_of_one(notes, alone, name):
    (first, _), _ = notes
    assert len(curve(first["plain"]["events"])[0]) >= 20
    assert_same_curve(first[name]["events"], alone(**RUNS[name]))


def test_two_ranks_set_the_threshold_on_all_validation_images(notes, datasets):
    saved = load_model(notes[1] / "plain")
    config = make_config({**BASE, **RUNS["plain"]})
    batches = Batches.load(config, datasets, torch.device("cpu"))
    with torch.inference_mode():
        logits = saved.model(batches.preprocessing.prepare(batches.val_images[:])).double()
    threshold = saved.metrics["outside"]
    assert threshold["n"] == len(logits) == 15
    assert threshold["threshold"] == pytest.approx(-logits.logsumexp(1).min().item(), abs=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_both_ranks_have_the_same_weights_and_events(notes, name):
    (first, second), out = notes
    assert first[name]["weights"].keys() == second[name]["weights"].keys()
    for key, weight in first[name]["weights"].items():  # BatchNorm's running statistics too
        assert torch.equal(weight, second[name]["weights"][key]), key
        assert torch.equal(weight, load_last(out / name)[0]["model"][key]), key
        assert torch.equal(first[name]["kept"][key], second[name]["kept"][key]), key
    assert curve(first[name]["events"]) == curve(second[name]["events"])


def test_each_rank_normalizes_over_its_own_share_where_batch_norm_cannot_be_shared(notes, alone):
    (first, _), _ = notes
    steps, epochs = curve(first["normalized"]["events"])
    alone_steps, _ = curve(alone(**RUNS["normalized"]))
    assert steps[1] != pytest.approx(alone_steps[1], rel=0, abs=1e-4)
    assert epochs[2][0] < epochs[1][0]  # and learns


def test_a_stop_requested_of_one_rank_stops_both_at_the_same_step(notes, alone):
    (first, second), _ = notes
    ends = [note["first part"]["events"][-1] for note in (first, second)]
    assert [end["event"] for end in ends] == ["stopped", "stopped"]
    assert (
        ends[0]["step"] == ends[1]["step"] == 12
    )  # requested after step 9: the next multiple of 4
    rest = first["second part"]["events"]
    assert (rest[0]["event"], rest[0]["step"]) == ("resumed", 12)
    assert_same_curve(first["first part"]["events"] + rest, alone(**RUNS["plain"]))


def test_an_error_of_one_rank_is_raised_on_both(notes):
    (first, second), _ = notes
    assert first["damaged"] == second["damaged"]
    assert first["damaged"].startswith("DamagedError: last.pt of damaged is damaged")
    assert first["few"] == second["few"]
    assert first["few"] == (
        "ConfigError: batch_size must be such that every step has 2 images for each of 2 devices "
        "(of 135 images it leaves 3 for the last step of an epoch), got 44"
    )


def test_a_run_of_two_ranks_resumes_with_one(notes, datasets, alone, tmp_path):
    _, out = notes
    seen = []
    config = make_config({**BASE, **RUNS["plain"]})
    for event in fit(config, datasets, tmp_path, lambda: len(curve(seen)[0]) >= 9):
        seen.append(event)
    assert same_structure(load_last(out / "plain")[0], load_last(tmp_path)[0])
    assert next(type(e) for e in fit(config, datasets, out / "plain")) is Resumed


def same_structure(one, other):
    """Return whether two checkpoints have the same keys, types and shapes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_structure(one[k], other[k]) for k in one)
    shapes = (getattr(one, "shape", None), getattr(other, "shape", None))
    return type(one) is type(other) and shapes[0] == shapes[1]


# --- without a second process


def test_a_single_process_needs_no_process_group():
    world = single_process()
    assert (world.rank, world.size, world.device) == (0, 1, pick_device())
    assert world.any(True)
    assert world.any_at_step(lambda: True, step=1)
    assert not world.any(False)
    assert world.broadcast(lambda: "so") == "so"


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert pick_device(1, 2) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"at most 2, the cuda devices of this machine, got 3"):
        pick_device(0, 3)


def test_synchronized_batch_norm_changes_no_name_and_classifies_alike():
    plain, config = initial_model(make_config(BASE), 3).eval(), make_config(BASE)
    synchronized = torch.nn.SyncBatchNorm.convert_sync_batchnorm(initial_model(config, 3)).eval()
    assert synchronized.state_dict().keys() == plain.state_dict().keys()
    assert count_model(synchronized, 12) == count_model(plain, 12)
    x = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(synchronized(x), plain(x))


def test_a_stop_exits_with_0_if_torchrun_would_restart_the_run(monkeypatch):
    stopped = Stopped(step=1, epoch=1, best_epoch=None, best_val_top1=None, seconds=1, message="")
    assert exit_code(stopped) == 130
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert torchrun.restarts_left() == 1
    assert exit_code(stopped) == 0


def test_a_run_that_torchrun_may_restart_needs_a_run_id(paths, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert main(["train", *flags(LONG)]) == 2
    assert "--run-id: run_id must be given if torchrun may restart" in capsys.readouterr().err
    assert not paths.runs.exists()


# --- processes that are lost or stopped


def ranks_of(parent):
    """Rank -> pid, of the processes that torchrun in process `parent` has started."""
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): int(pid) for line in environment if line.startswith(b"RANK=")}
    return found


def wait_until(question):
    """Wait until the answer is true; return it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.02)
    raise AssertionError("timed out")


def steps_of(run):
    """Return the number of step events in the log; 0 before there is a log."""
    return sum(isinstance(event, Step) for event in run.log())


def starts_of(run):
    """Return the types of the start events in the log."""
    return [type(event) for event in run.log() if isinstance(event, Started)]


def flags(config):
    """Return the command-line flags of a config."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in config.items()]


@pytest.fixture
def paths(colours, tmp_path, monkeypatch):
    paths = Paths(tmp_path / "runs", colours, tmp_path / "shipped")
    for name, value in paths.environment().items():
        monkeypatch.setenv(name, value)
    return paths


@pytest.mark.parametrize(
    "is_killed", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["stopped", "killed"]
)
def test_after_a_killed_rank_and_a_stop_one_process_finishes_the_run(paths, alone, is_killed):
    run = Run(paths.runs / "mine")
    words = ["-m", "resnet_demo", "train", "--json", "--run-id", "mine", *flags(LONG)]
    process = torchrun_two(*words, restarts=1)
    wait_until(lambda: steps_of(run) >= 8)  # in the second epoch; saved was the end of the first
    if is_killed:
        os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
        wait_until(lambda: starts_of(run) == [Started, Resumed])
    process.send_signal(signal.SIGTERM)  # torchrun passes it to both
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    parts = starts_of(run)
    (*_, last), state = run.log(), read_status(run.path).state
    assert (state, last.kind) == ("stopped", "stopped")
    assert last.step == load_last(run.path)[0]["step"] < 42
    assert last.step % AGREE_EVERY == 0 or last.step % 7 == 0  # or at the end of an epoch
    assert out.count('"event": "stopped"') == 1  # one writer
    lock = Launcher(paths).requeue(run)
    try:
        worker.train(run, paths)
    finally:
        os.close(lock)
    assert starts_of(run) == [*parts, Resumed]
    assert_same_curve(run.log(), alone(**LONG))


def test_a_worker_starts_a_rank_per_device_and_restarts_all_after_a_kill(paths, alone, monkeypatch):
    monkeypatch.setattr(worker, "process_count", lambda: 2)
    run, lock = Launcher(paths).make(make_config(LONG))
    watched = {}

    def kill_the_first():
        wait_until(lambda: steps_of(run) >= 10)
        watched.update(ranks_of(os.getpid()), state=read_status(run.path).state)
        os.kill(watched[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_the_first)
    thread.start()
    try:
        last = worker.train(run, paths, all_gpus=True)
    finally:
        os.close(lock)
        thread.join()
    assert (watched["state"], last.kind) == ("running", "finished")
    assert read_status(run.path).state == "finished"
    assert read_status(run.path).pid is None
    events, view = list(run.log()), Snapshots().get(run).view
    assert starts_of(run) == [Started, Resumed]
    assert events[0].device.startswith("2 × cpu")
    assert [step.step for step in view.steps] == list(range(1, 43))
    assert_same_curve(events, alone(**LONG))
    assert load_last(run.path)[0]["step"] == 42
    assert load_model(run.path).metrics["epoch"] == last.best_epoch


def test_a_rank_lost_after_the_last_restart_fails_the_run_and_is_named(
    paths, monkeypatch, tmp_path
):
    rank = tmp_path / "rank"  # instead of Python, which would import torch to be killed
    rank.write_text('#!/bin/sh\n[ "$RANK" = 0 ] && kill -9 $$\nexec sleep 600\n')
    rank.chmod(0o700)
    monkeypatch.setattr(worker, "process_count", lambda: 2)
    monkeypatch.setattr(multi_gpu, "RESTARTS", 0)
    monkeypatch.setattr(sys, "executable", str(rank))
    run, lock = Launcher(paths).make(make_config(LONG))
    try:
        last = worker.train(run, paths, all_gpus=True)
    finally:
        os.close(lock)
    assert last.kind == read_status(run.path).state == "failed"
    assert last.message == "process 1 of 2 was killed by signal 9 after 0 restarts: see worker.log"
    assert list(run.log())[-1] == last
