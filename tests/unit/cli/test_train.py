"""`train`: output, exit codes, stop and resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

from resnet_demo.file_locks import try_lock
from resnet_demo.tasks.status import Status, read_status, status_json
from resnet_demo.training.checkpoint import load_last, save_last
from tests.unit.cli.conftest import TINY, modification_times


def test_training_prints_json_lines_and_nothing_else(trained):
    demo, answer = trained
    kinds = [event["event"] for event in answer.objects]
    assert kinds == ["started", *["step"] * 9, "epoch", *["step"] * 9, "epoch", "finished"]
    lines = (demo.runs / "mine" / "events.jsonl").read_text().splitlines()
    assert answer.objects == [json.loads(line) for line in lines]
    adapted, line = answer.err.splitlines()
    assert adapted.startswith("resnet_demo train: adapted to 135 training images: keep last ")
    assert line == f"run mine in {demo.runs / 'mine'}"


def test_a_trained_run_has_its_config_and_is_finished(trained):
    demo, _ = trained
    config = json.loads((demo.runs / "mine" / "config.json").read_text())
    assert (config["seed"], config["batch_size"], config["recipe"]) == (7, 16, "quick")
    assert read_status(demo.runs / "mine").state == "finished"


def test_training_as_text_prints_start_epochs_and_end(demo):
    answer = demo(*TINY, "--epochs", 1)
    assert answer.code == 0
    first, *_, epoch, last = answer.out.splitlines()
    assert first.startswith("started on")
    assert epoch.startswith("epoch 1: train loss")
    assert last.startswith("finished after")
    assert [path.name for path in demo.runs.iterdir() if path.is_dir()] == ["resnet20-colours-1"]


def test_a_run_that_diverges_fails_with_one_line(demo):
    values = ["--batch-norm", "false", "--peak-lr", "10", "--schedule", "constant"]
    answer = demo(*TINY, *values, "--json")
    assert answer.code == 1
    assert answer.objects[-1]["event"] == "failed"
    assert answer.err.splitlines()[2:] == [f"resnet_demo train: {answer.objects[-1]['message']}"]
    assert "peak_lr" in answer.err


def test_a_waiting_run_prints_its_place_in_the_queue(demo):
    demo.runs.mkdir()
    lock = try_lock(demo.runs / ".device.lock")
    threading.Timer(0.5, os.close, [lock]).start()
    answer = demo(*TINY, "--epochs", 1, "--json")
    assert answer.code == 0
    assert answer.objects[0]["event"] == "started"
    assert "another run is training: place 1 in the queue" in answer.err


def test_resume_of_a_finished_run_only_reports_it(trained):
    demo, _ = trained
    before = modification_times(demo.runs)
    for name in ("mine", demo.runs / "mine"):
        answer = demo("train", "--resume", name, "--json")
        assert (answer.code, answer.objects) == (0, [{"run": "mine", "state": "finished"}])
    assert demo("train", "--resume", "mine").out == "run mine is finished\n"
    assert modification_times(demo.runs) == before


def test_ctrl_c_stops_after_the_step_and_resume_continues(demo, until):
    command = [sys.executable, "-m", "resnet_demo", *TINY, "--epochs", "40", "--run-id", "mine"]
    environment = {**os.environ, **demo.environment, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        log = demo.runs / "mine" / "events.jsonl"
        until(lambda: log.exists() and log.read_text().count('"step"') > 12)
        refused = demo("train", "--resume", "mine")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "stopped"
    assert read_status(demo.runs / "mine").state == "stopped"
    assert refused.code == 2
    assert "--resume: mine is running: it has a worker" in refused.err

    shorten(demo.runs / "mine", events[-1]["epoch"] + 1)
    answer = demo("train", "--resume", "mine", "--json")
    assert answer.code == 0, answer.err
    assert answer.objects[0]["event"] == "resumed"
    assert answer.objects[0]["step"] == events[-1]["step"]
    assert answer.objects[-1]["event"] == "finished"
    again = demo("train", "--resume", "mine", "--json")
    assert (again.code, again.objects) == (0, [{"run": "mine", "state": "finished"}])


def shorten(folder, epochs):
    """Reduce the epochs in the config and in the checkpoint, to save the test time."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "epochs": epochs}))
    state, _ = load_last(folder)
    save_last(folder, {**state, "config": {**state["config"], "epochs": epochs}})


def test_a_run_without_a_checkpoint_is_resumed_from_its_config(demo, trained):
    (demo.runs / "new").mkdir(parents=True)
    shutil.copy(trained[0].runs / "mine" / "config.json", demo.runs / "new")
    # As after a kill before the first checkpoint.
    (demo.runs / "new" / "status.json").write_bytes(status_json(Status(state="running")))
    answer = demo("train", "--resume", demo.runs / "new", "--json")
    assert answer.code == 0, answer.err
    steps = [event for event in answer.objects if event["event"] == "step"]
    expected = [event for event in trained[1].objects if event["event"] == "step"]
    assert [event["loss"] for event in steps] == [event["loss"] for event in expected]


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    last = demo.runs / "mine" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    (demo.runs / "mine" / "status.json").write_bytes(status_json(Status(state="failed")))
    answer = demo("train", "--resume", "mine", "--json")
    assert answer.code == 0
    assert answer.objects[0]["step"] == 9  # the end of the first epoch
    assert "last.pt of mine is damaged" in answer.err


def test_two_damaged_checkpoints_fail_without_training(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    for name in ("last.pt", "last.before.pt"):
        (demo.runs / "mine" / name).write_bytes(b"")
    (demo.runs / "mine" / "status.json").write_bytes(status_json(Status(state="failed")))
    answer = demo("train", "--resume", "mine", "--json")
    assert answer.code == 1
    assert [event["event"] for event in answer.objects] == ["failed"]
    assert "last.pt of mine is damaged, and so is the checkpoint before it" in answer.err
