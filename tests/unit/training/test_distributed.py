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
from resnet_demo.events import Resumed, Started, Step, Stopped
from resnet_demo.models.device import pick_device
from resnet_demo.models.measure import count_model
from resnet_demo.models.saved import load_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks import worker
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.tasks.status import read_status
from resnet_demo.training import torchrun
from resnet_demo.training.batches import Batches, check_rank_batches, rank_share
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.distributed import AGREE_EVERY, single_process
from resnet_demo.training.fit import fit
from resnet_demo.training.state import initial_model
from tests.unit.training.two_ranks import BASE, RUNS

REPOSITORY = Path(__file__).parents[3]
PATIENCE_S = 120.0  # on a machine that does other things too
EXACT = [name for name, knobs in RUNS.items() if not knobs.get("batch_norm", True)]
LONG = {**BASE, "batch_norm": False, "epochs": 6}


@pytest.fixture(scope="module", autouse=True)
def two_on_a_cpu():
    """What makes processes of ours small, and see no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        torch.set_num_threads(1)
        yield


def torchrun_two(*words, restarts=0, **more):
    """Start two ranks as a person does."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "--max-restarts", str(restarts), *map(str, words)),
    ]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@pytest.fixture(scope="module")
def notes(colours, tmp_path_factory):
    """What each of two ranks noted in `two_ranks.py`, and the folder of the first one's runs."""
    out = tmp_path_factory.mktemp("two-ranks")
    process = torchrun_two(REPOSITORY / "tests/unit/training/two_ranks.py", colours, out)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert err == ""
    return [torch.load(out / f"rank-{rank}.pt") for rank in (0, 1)], out


@pytest.fixture(scope="module")
def by_one(datasets):
    """Events of the same run on one rank, in this process."""
    made = {}

    def run(**knobs):
        key = str(sorted(knobs.items()))
        if key not in made:
            made[key] = list(fit(make_config({**BASE, **knobs}), datasets))
        return made[key]

    return run


def curve(events):
    """(step, loss, top-1, lr) of each step, and the epochs without the clock; objects or dicts."""
    events = [event if isinstance(event, dict) else {"event": event.kind, **vars(event)}
              for event in events]  # fmt: skip
    steps = {e["step"]: (e["loss"], e["top1"], e["lr"]) for e in events if e["event"] == "step"}
    names = ("train_loss", "train_top1", "val_loss", "val_top1", "lr")
    epochs = {e["epoch"]: tuple(e[n] for n in names) for e in events if e["event"] == "epoch"}
    return steps, epochs


def same_curve(one, other):
    """Equal to 1e-4, step by step and epoch by epoch."""
    for left, right in zip(curve(one), curve(other), strict=True):
        assert left.keys() == right.keys()
        for number, values in left.items():
            assert values == pytest.approx(right[number], rel=0, abs=1e-4), number


# --- what two ranks make of a run


@pytest.mark.parametrize("name", EXACT)
def test_two_ranks_draw_the_curve_of_one(notes, by_one, name):
    (first, _), _ = notes
    assert len(curve(first["plain"]["events"])[0]) >= 20
    same_curve(first[name]["events"], by_one(**RUNS[name]))


def test_two_ranks_set_the_threshold_on_all_validation_images(notes, datasets):
    saved = load_model(notes[1] / "plain")
    config = make_config({**BASE, **RUNS["plain"]})
    batches = Batches.load(config, datasets, torch.device("cpu"))
    with torch.inference_mode():
        logits = saved.model(batches.preprocessing.prepare(batches.val_images)).double()
    told = saved.metrics["outside"]
    assert told["n"] == len(logits) == 15
    assert told["threshold"] == pytest.approx(-logits.logsumexp(1).min().item(), abs=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_both_ranks_have_the_same_weights_and_tell_the_same(notes, name):
    (first, second), out = notes
    assert first[name]["weights"].keys() == second[name]["weights"].keys()
    for key, weight in first[name]["weights"].items():  # BatchNorm's running statistics too
        assert torch.equal(weight, second[name]["weights"][key]), key
        assert torch.equal(weight, load_last(out / name)[0]["model"][key]), key
        assert torch.equal(first[name]["kept"][key], second[name]["kept"][key]), key
    assert curve(first[name]["events"]) == curve(second[name]["events"])


def test_each_rank_normalizes_over_its_own_share_where_batch_norm_cannot_be_shared(notes, by_one):
    (first, _), _ = notes
    steps, epochs = curve(first["normalized"]["events"])
    alone_steps, _ = curve(by_one(**RUNS["normalized"]))
    assert steps[1] != pytest.approx(alone_steps[1], rel=0, abs=1e-4)
    assert epochs[2][0] < epochs[1][0]  # and learns


def test_a_stop_that_one_rank_is_asked_for_stops_both_at_the_same_step(notes, by_one):
    (first, second), _ = notes
    ends = [note["first part"]["events"][-1] for note in (first, second)]
    assert [end["event"] for end in ends] == ["stopped", "stopped"]
    assert ends[0]["step"] == ends[1]["step"] == 12  # asked after 9: the next multiple of 4
    rest = first["second part"]["events"]
    assert (rest[0]["event"], rest[0]["step"]) == ("resumed", 12)
    same_curve(first["first part"]["events"] + rest, by_one(**RUNS["plain"]))


def test_what_one_rank_finds_wrong_is_raised_on_both(notes):
    (first, second), _ = notes
    assert first["damaged"] == second["damaged"]
    assert first["damaged"].startswith("DamagedError: last.pt of damaged is damaged")
    assert first["few"] == second["few"]
    assert first["few"] == (
        "ConfigError: batch_size must be such that every step has 2 images for each of 2 devices "
        "(of 135 images it leaves 3 for the last step of an epoch), got 44"
    )


def test_a_run_of_two_ranks_goes_on_with_one(notes, datasets, by_one, tmp_path):
    _, out = notes
    seen = []
    config = make_config({**BASE, **RUNS["plain"]})
    for event in fit(config, datasets, tmp_path, lambda: len(curve(seen)[0]) >= 9):
        seen.append(event)
    assert fits(load_last(out / "plain")[0], load_last(tmp_path)[0])
    assert next(type(e) for e in fit(config, datasets, out / "plain")) is Resumed


def fits(one, other):
    """Whether two checkpoints hold the same things, of the same kinds and shapes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(fits(one[k], other[k]) for k in one)
    shapes = (getattr(one, "shape", None), getattr(other, "shape", None))
    return type(one) is type(other) and shapes[0] == shapes[1]


# --- what needs no second process


@pytest.mark.parametrize(("images", "ranks"), [(21, 2), (128, 8), (9, 4), (3, 3)])
def test_shares_are_all_of_a_batch_and_as_long_as_each_other_or_by_one(images, ranks):
    shares = [range(images)[rank_share(images, rank, ranks)] for rank in range(ranks)]
    assert [place for part in shares for place in part] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ranks_see_the_pixels_that_one_would_see(datasets):
    config = make_config({**BASE, "flip": True, "image_size": 16})
    load = [config, datasets, torch.device("cpu")]
    whole, parts = Batches.load(*load), [Batches.load(*load, rank, 3) for rank in range(3)]
    plan = whole.plan(2)
    for index in (0, whole.steps_per_epoch - 1):
        x, labels = whole.train_batch(plan, index)
        shares = [part.train_batch(plan, index) for part in parts]
        assert torch.equal(torch.cat([share for share, _ in shares]), x)
        assert torch.equal(torch.cat([share for _, share in shares]), labels)


def test_a_batch_size_that_leaves_a_rank_without_images_is_refused():
    check_rank_batches(135, 44, 1)
    check_rank_batches(135, 20, 7)  # 15 are left for the last step
    with pytest.raises(ConfigError, match=r"for each of 8 devices .* it leaves 15 for the last"):
        check_rank_batches(135, 20, 8)


def test_one_process_needs_no_group():
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


def test_a_stop_is_no_failure_to_a_torchrun_that_would_start_the_run_again(monkeypatch):
    stopped = Stopped(step=1, epoch=1, best_epoch=None, best_val_top1=None, seconds=1, message="")
    assert exit_code(stopped) == 130
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert torchrun.restarts_left() == 1
    assert exit_code(stopped) == 0


def test_a_run_that_torchrun_may_restart_must_have_a_name(paths, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert main(["train", *flags(LONG)]) == 2
    assert "--run-id: run_id must be given if torchrun may restart" in capsys.readouterr().err
    assert not paths.runs.exists()


# --- processes that are lost or asked to stop


def ranks_of(parent):
    """Rank -> pid, of the processes that torchrun in process `parent` has started."""
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): int(pid) for line in told if line.startswith(b"RANK=")}
    return found


def wait_until(question):
    """The answer, once it is yes."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def steps_of(run):
    """How many step events the log holds; 0 before there is a log."""
    return sum(isinstance(event, Step) for event in run.log())


def starts_of(run):
    """Started and Resumed, as they came."""
    return [type(event) for event in run.log() if isinstance(event, Started)]


def flags(config):
    """The command line that asks for it."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in config.items()]


@pytest.fixture
def paths(colours, tmp_path, monkeypatch):
    paths = Paths(tmp_path / "runs", colours, tmp_path / "shipped")
    for name, value in paths.environment().items():
        monkeypatch.setenv(name, value)
    return paths


def test_a_rank_is_killed_then_torchrun_is_asked_to_stop_and_one_rank_ends_the_run(paths, by_one):
    run = Run(paths.runs / "mine")
    words = ["-m", "resnet_demo", "train", "--json", "--run-id", "mine", *flags(LONG)]
    process = torchrun_two(*words, restarts=1)
    wait_until(lambda: steps_of(run) >= 8)  # in the second epoch; saved was the end of the first
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    wait_until(lambda: starts_of(run) == [Started, Resumed])
    process.send_signal(signal.SIGTERM)  # it tells both
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
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
    assert starts_of(run) == [Started, Resumed, Resumed]
    same_curve(run.log(), by_one(**LONG))


def test_a_worker_starts_a_rank_a_device_and_all_again_when_the_first_is_killed(
    paths, by_one, monkeypatch
):
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
    same_curve(events, by_one(**LONG))
    assert load_last(run.path)[0]["step"] == 42
    assert load_model(run.path).metrics["epoch"] == last.best_epoch
