"""The command line as a person and as a program sees it: what it prints where, and how it ends."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from resnet_demo import __version__
from resnet_demo.cli import main
from resnet_demo.config import RECIPES, TrainConfig
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import try_lock
from resnet_demo.tasks.status import Status, read_status, status_json
from resnet_demo.training.checkpoint import load_last, save_last
from tests.loopback import cifar_zip

TINY = ["train", "--dataset", "colours", "--model", "resnet20", "--image-size", "12"]
TINY += ["--batch-size", "16", "--crop", "2"]
TINY += ["--precision", "float32"]  # bf16, where the hardware has it, rounds what is compared
VERBS = ("train", "evaluate", "classify", "runs", "data", "learn", "bench", "space")


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def objects(self):
        """Standard output, which must be JSON lines and nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class CommandLine:
    """`python -m resnet_demo` over one folder of runs and one of data, in this process."""

    runs: Path
    data: Path

    @property
    def environment(self):
        return {"RESNET_DEMO_RUNS": str(self.runs), "RESNET_DEMO_DATA": str(self.data)}

    def __call__(self, *words):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            try:
                code = main([str(word) for word in words])
            except SystemExit as end:  # argparse's own
                code = end.code
        return Answer(code, out.getvalue(), err.getvalue())

    def copy(self, root):
        """The same data, and copies of the runs."""
        shutil.copytree(self.runs, root / "runs")
        return CommandLine(root / "runs", self.data)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On tensors this small, threads that wait for a busy core cost fifty times more."""
    torch.set_num_threads(1)


@pytest.fixture
def demo(tmp_path, colours):
    return CommandLine(tmp_path / "runs", colours)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colours):
    """A command line with `mine`, a finished run of two epochs, and what its training said."""
    demo = CommandLine(tmp_path_factory.mktemp("trained") / "runs", colours)
    answer = demo(*TINY, "--epochs", 2, "--run-id", "mine", "--seed", 7, "--json")
    assert answer.code == 0, answer.err
    return demo, answer


@pytest.fixture
def picture(tmp_path):
    """Makes a picture of one colour."""
    from PIL import Image

    def make(name, colour):
        Image.new("RGB", (20, 12), colour).save(tmp_path / name)
        return tmp_path / name

    return make


# --- help


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_answers_without_loading_anything_heavy(verb):
    command = [sys.executable, "-X", "importtime", "-m", "resnet_demo", *verb.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "resnet_demo.config" in loaded
    assert {"torch", "numpy", "PIL", "gradio"}.isdisjoint(loaded)
    assert done.stdout.startswith(f"usage: resnet_demo {verb}".strip())
    assert verb or all(f"  {name} " in done.stdout for name in VERBS)


def test_the_help_of_train_shows_every_knob_with_its_limits_and_default(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    shown = " ".join(demo("train", "--help").out.split())
    for knob in fields(TrainConfig):
        assert f"--{knob.name.replace('_', '-')} " in shown
        assert f"default {knob.default})" in shown
        assert knob.metadata["help"].split(";")[0] in shown
    assert "(1 to 4096 images; default 250)" in shown
    assert "0 = off (one-cycle: 30 % of the run)" in shown
    assert f"one of {', '.join(RECIPES)}; default quick" in shown


def test_the_version_is_told(demo):
    assert demo("--version") == Answer(0, f"{__version__}\n", "")


# --- mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("train --epochs 0", ["--epochs", "a whole number from 1 to 1000", "got 0"]),
        ("train --epochs 2.5", ["--epochs", "a whole number", "got '2.5'"]),
        ("train --epochs=", ["--epochs", "a whole number", "got ''"]),
        ("train --batch-size 999999", ["--batch-size", "from 1 to 4096 images", "got 999999"]),
        ("train --batch-size 136", ["--batch-size", "at most the 135 images", "got 136"]),
        ("train --peak-lr nan", ["--peak-lr", "a number from 1e-06 to 10", "got nan"]),
        ("train --peak-lr -1", ["--peak-lr", "a number from", "got -1.0"]),
        ("train --model nope", ["--model", "one of resnet9", "got 'nope'"]),
        ("train --dataset nope", ["--dataset", "one of shapes10, colours", "got 'nope'"]),
        ("train --recipe nope", ["--recipe", "one of quick", "got 'nope'"]),
        ("train --flip maybe", ["--flip", "true or false", "got 'maybe'"]),
        ("train --warmup-epochs 9", ["--warmup-epochs", "at most epochs (1)", "got 9.0"]),
        ("train --run-id No_Good", ["--run-id", "lower-case letters", "got 'No_Good'"]),
        ("train --run-id mine", ["--run-id", "new, or resumed", "got 'mine'"]),
        ("train --run-id=", ["--run-id", "1 to 64", "got ''"]),
        ("train --resume nope", ["--resume", "the id of a run", "got 'nope'"]),
        ("train --resume NO", ["--resume", "lower-case letters", "got 'NO'"]),
        ("train --resume ./nope", ["--resume", "an id or the folder of a run", "got './nope'"]),
        ("train --colour red", ["unrecognized", "--colour red"]),
        ("evaluate nope", ["run must be the id of a run", "got 'nope'"]),
        ("evaluate mine --split all", ["--split", "one of test, val, train", "got 'all'"]),
        ("evaluate mine --dataset nope", ["--dataset", "one of", "got 'nope'"]),
        ("evaluate mine --dataset shapes10", ["--dataset", "blue, green, red", "got 'shapes10'"]),
        ("evaluate mine --mode twice", ["--mode", "one of plain, flip,", "got 'twice'"]),
        ("evaluate mine --against nope", ["--against", "the id of a run", "got 'nope'"]),
        ("evaluate mine --against a/b", ["--against", "the folder of a run", "got 'a/b'"]),
        ("evaluate mine --figures Makefile", ["--figures", "a folder", "got 'Makefile'"]),
        ("evaluate", ["required", "RUN"]),
        ("classify nope a.png", ["run must be the id of a run", "got 'nope'"]),
        ("classify mine", ["required", "FILE"]),
        ("classify mine a.png --top 0", ["--top", "a whole number from 1", "got '0'"]),
        ("classify mine a.png --top 6", ["--top", "a whole number from 1 to 5", "got 6"]),
        ("classify mine a.png --top 2.5", ["--top", "a whole number from 1", "got '2.5'"]),
        ("classify mine a.png --fit fill", ["--fit", "one of crop, squash, pad", "got 'fill'"]),
        ("classify mine a.png --opacity 2", ["--opacity", "a number from 0 to 1", "got '2'"]),
        ("classify mine a.png --opacity x", ["--opacity", "a number from 0 to 1", "got 'x'"]),
        ("classify mine a.png b.png --map m.png", ["--map", "one FILE only", "got '2 files'"]),
        ("classify mine a.png --map m.jpg", ["--map", "a .png file in an", "got 'm.jpg'"]),
        ("classify mine a.png --map no/m.png", ["--map", "an existing folder", "got 'no/m.png'"]),
        ("classify mine a.png b.png --inside d", ["--inside", "one FILE only", "got '2 files'"]),
        ("classify mine a.png --inside Makefile", ["--inside", "a folder", "got 'Makefile'"]),
        ("classify mine a.png --against nope", ["run must be the id of a run", "got 'nope'"]),
        ("classify mine a.png --dataset shapes10", ["--dataset", "classes", "got 'shapes10'"]),
        ("runs show nope", ["run must be the id of a run", "got 'nope'"]),
        ("runs delete nope", ["run must be the id of a run", "got 'nope'"]),
        ("runs show", ["run must be the id of a run", "got nothing"]),
        ("runs show mine packed", ["runs show takes no folder", "got 'packed'"]),
        ("runs pack mine", ["folder must be a folder that is new or empty", "got nothing"]),
        ("runs pack nope packed", ["run must be the id of a run", "got 'nope'"]),
        ("runs explode", ["choose from", "'explode'"]),
        ("data import Not_A_Name .", ["name must be", "lowercase letters", "got 'Not_A_Name'"]),
        ("data import new /nowhere/at/all", ["/nowhere/at/all"]),
        ("data import new . --size 7", ["--size", "from 8 to 256 pixels", "got 7"]),
        ("data import new . --size x", ["--size", "a whole number", "got 'x'"]),
        ("data import colours .", ["there is already a dataset named 'colours'"]),
        ("data import new", ["data import needs a name and the path"]),
        ("bake a cake", ["bake", "choose from"]),
        ("", ["required", "VERB"]),
    ],
)
def test_a_mistake_is_one_line_that_names_option_rule_and_value(trained, words, told):
    demo, _ = trained
    if words.startswith("train") and "--dataset" not in words:
        words = words.replace("train", "train --dataset colours --batch-size 16", 1)
    before = everything(demo.runs)
    answer = demo(*words.split())
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("resnet_demo")
    for part in told:
        assert part in answer.err
    assert everything(demo.runs) == before


def everything(folder):
    """What lies in a folder, and since when."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if ".lock" not in path.name}


def test_a_folder_that_cannot_be_written_is_a_failure_in_one_line(demo):
    demo.runs.write_text("a file where the folder should be")
    answer = demo(*TINY)
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert str(demo.runs) in answer.err


# --- train


def test_training_prints_json_lines_and_nothing_else(trained):
    demo, answer = trained
    kinds = [event["event"] for event in answer.objects]
    assert kinds == ["started", *["step"] * 9, "epoch", *["step"] * 9, "epoch", "finished"]
    lines = (demo.runs / "mine" / "events.jsonl").read_text().splitlines()
    assert answer.objects == [json.loads(line) for line in lines]
    assert answer.err == f"run mine in {demo.runs / 'mine'}\n"


def test_a_trained_run_keeps_what_it_was_told(trained):
    demo, _ = trained
    config = json.loads((demo.runs / "mine" / "config.json").read_text())
    assert (config["seed"], config["batch_size"], config["recipe"]) == (7, 16, "quick")
    assert read_status(demo.runs / "mine").state == "finished"


def test_training_in_words_tells_start_epochs_and_end(demo):
    answer = demo(*TINY, "--epochs", 1)
    assert answer.code == 0
    first, *_, epoch, last = answer.out.splitlines()
    assert first.startswith("started on")
    assert epoch.startswith("epoch 1: train loss")
    assert last.startswith("finished after")
    assert [path.name for path in demo.runs.iterdir() if path.is_dir()] == ["resnet20-colours-1"]


def test_a_run_that_diverges_fails_with_one_line(demo):
    knobs = ["--batch-norm", "false", "--peak-lr", "10", "--schedule", "constant"]
    answer = demo(*TINY, *knobs, "--json")
    assert answer.code == 1
    assert answer.objects[-1]["event"] == "failed"
    assert answer.err.splitlines()[1:] == [f"resnet_demo train: {answer.objects[-1]['message']}"]
    assert "peak_lr" in answer.err


def test_a_run_that_waits_says_so_on_standard_error(demo):
    demo.runs.mkdir()
    lock = try_lock(demo.runs / ".device.lock")
    threading.Timer(0.5, os.close, [lock]).start()
    answer = demo(*TINY, "--epochs", 1, "--json")
    assert answer.code == 0
    assert answer.objects[0]["event"] == "started"
    assert "another run is training: place 1 in the queue" in answer.err


def test_a_finished_run_is_resumed_by_saying_so(trained):
    demo, _ = trained
    before = everything(demo.runs)
    for name in ("mine", demo.runs / "mine"):
        answer = demo("train", "--resume", name, "--json")
        assert (answer.code, answer.objects) == (0, [{"run": "mine", "state": "finished"}])
    assert demo("train", "--resume", "mine").out == "run mine is finished\n"
    assert everything(demo.runs) == before


def test_ctrl_c_stops_after_the_step_and_resume_goes_on_and_may_be_repeated(demo):
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
    """As if the run had been told fewer epochs: a test does not wait for all of them."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "epochs": epochs}))
    state, _ = load_last(folder)
    save_last(folder, {**state, "config": {**state["config"], "epochs": epochs}})


def until(question):
    """Waits for yes."""
    deadline = time.monotonic() + 90
    while not question():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_run_that_never_began_is_resumed_from_its_config(demo, trained):
    (demo.runs / "new").mkdir(parents=True)
    shutil.copy(trained[0].runs / "mine" / "config.json", demo.runs / "new")
    (demo.runs / "new" / "status.json").write_bytes(
        status_json(Status(state="running"))
    )  # and died
    answer = demo("train", "--resume", demo.runs / "new", "--json")
    assert answer.code == 0, answer.err
    told = [{**event, "time": 0} for event in answer.objects if event["event"] == "step"]
    first = [{**event, "time": 0} for event in trained[1].objects if event["event"] == "step"]
    assert [event["loss"] for event in told] == [event["loss"] for event in first]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(trained, tmp_path):
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


def test_a_run_without_a_whole_checkpoint_fails_and_trains_nothing(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    for name in ("last.pt", "last.before.pt"):
        (demo.runs / "mine" / name).write_bytes(b"")
    (demo.runs / "mine" / "status.json").write_bytes(status_json(Status(state="failed")))
    answer = demo("train", "--resume", "mine", "--json")
    assert answer.code == 1
    assert [event["event"] for event in answer.objects] == ["failed"]
    assert "last.pt of mine is damaged, and so is the checkpoint before it" in answer.err


# --- evaluate and classify


def test_an_evaluation_counts_every_image_of_the_split(trained):
    demo, _ = trained
    for split, n in (("test", 30), ("val", 15), ("train", 135)):
        answer = demo("evaluate", "mine", "--split", split, "--json")
        assert (answer.code, answer.err) == (0, "")
        (result,) = answer.objects
        assert result["n"] == sum(map(sum, result["confusion"])) == n
        assert result["top1"] == sum(result["confusion"][k][k] for k in range(3)) / n
        assert result["loss"] > 0
        assert (result["run"], result["split"], result["dataset"]) == ("mine", split, "colours")
    assert demo("evaluate", "mine", "--json", "--split", "test").objects == (
        demo("evaluate", "mine", "--json", "--dataset", "colours").objects
    )


def test_the_validation_split_is_the_one_that_training_kept_aside(trained):
    demo, answer = trained
    (result,) = demo("evaluate", "mine", "--split", "val", "--json").objects
    epochs = [event for event in answer.objects if event["event"] == "epoch"]
    best = max(epochs, key=lambda event: event["val_top1"])
    assert result["top1"] == pytest.approx(best["val_top1"])
    assert result["loss"] == pytest.approx(best["val_loss"], rel=1e-4)


def test_an_evaluation_in_words_has_a_line_a_class(trained):
    out = trained[0]("evaluate", "mine").out.splitlines()
    (result,) = trained[0]("evaluate", "mine", "--json").objects
    low, high = result["interval"]
    assert out[0].startswith(
        f"mine on colours test (30 images): top-1 {result['top1']:.2%}, 95% interval {low:.2%} "
        f"to {high:.2%}; loss "
    )
    assert out[1] == f"mean F1 over all classes {result['macro_f1']:.2%}"
    assert out[2].endswith(f"calibration error {result['calibration']['error']:.2%}")
    assert [line.split()[0] for line in out[3:]] == ["blue", "green", "red"]


def test_a_mode_tells_what_it_changes(trained):
    demo, _ = trained
    (plain,) = demo("evaluate", "mine", "--json", "--split", "train").objects
    answer = demo("evaluate", "mine", "--json", "--split", "train", "--mode", "article")
    (result,) = answer.objects
    assert (plain["mode"], plain["beside"]) == ("plain", None)
    assert result["mode"] == "article"
    assert result["beside"] == {"mode": "plain", "top1": plain["top1"], "loss": plain["loss"]}
    words = demo("evaluate", "mine", "--split", "train", "--mode", "article").out
    assert f"plain ({plain['top1']:.2%}, loss {plain['loss']:.4f})" in words


@pytest.fixture(scope="module")
def three(trained, tmp_path_factory):
    """The same command line with `mine`, `weak`, which has learned little, and `other-split`."""
    from resnet_demo.models.saved import load_model, save_model

    demo = trained[0].copy(tmp_path_factory.mktemp("three"))
    weak = shutil.copytree(demo.runs / "mine", demo.runs / "weak")
    saved = load_model(weak)
    with torch.no_grad():
        saved.model.head.bias[0] = -1000  # it never says blue
    about = {"network": saved.network, "classes": saved.classes, "metrics": saved.metrics}
    save_model(weak, saved.model, preprocessing=saved.preprocessing, **about)
    other = shutil.copytree(demo.runs / "mine", demo.runs / "other-split")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "seed": 8}))
    return demo


def test_another_run_is_asked_about_the_same_images(three):
    (result,) = three("evaluate", "mine", "--against", "weak", "--json").objects
    (alone,) = three("evaluate", "mine", "--json").objects
    (other,) = three("evaluate", "weak", "--json").objects
    against = result.pop("against")
    assert result == alone
    assert (against["first"], against["second"], against["n"]) == ("mine", "weak", 30)
    for key in ("run", "weights", "top1", "interval", "loss", "macro_f1"):
        assert against[key] == other[key]
    assert against["difference"] == pytest.approx(alone["top1"] - other["top1"])
    assert against["difference"] > 0
    divided = len(against["only_first"]) - len(against["only_second"])
    assert divided == pytest.approx(30 * against["difference"])
    words = three("evaluate", "mine", "--against", three.runs / "weak").out
    assert f"mine is {100 * against['difference']:.2f} points above weak (" in words
    assert "two equally good networks would differ as much or more in " in words


def test_a_run_that_saw_other_images_is_not_compared(three):
    answer = three("evaluate", "mine", "--split", "val", "--against", "other-split", "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "--against: against must be a run with the same images" in answer.err


def test_images_made_worse_have_a_line_a_kind(trained):
    answer = trained[0]("evaluate", "mine", "--split", "val", "--robustness", "--json")
    assert (answer.code, answer.err) == (0, "")
    bears = answer.objects[0]["robustness"]
    assert (bears["n"], bears["split"], len(bears["kinds"])) == (15, "val", 7)
    out = trained[0]("evaluate", "mine", "--split", "val", "--robustness").out.splitlines()
    assert "mine on damaged images, strengths 1 to 5 (15 images; undamaged " in out[-8]
    assert [line.split()[0] for line in out[-7:]] == [*bears["kinds"]]
    assert all(line.count("%") == 5 for line in out[-7:])


def test_figures_and_tables_are_written_where_asked(trained, tmp_path):
    folder = tmp_path / "new" / "report"
    answer = trained[0]("evaluate", "mine", "--figures", folder)
    assert answer.code == 0
    assert answer.out.endswith(f"Figures and tables are in {folder}.\n")
    (result,) = trained[0]("evaluate", "mine", "--figures", folder, "--json").objects
    assert json.loads((folder / "result.json").read_text()) == result
    assert {path.name for path in folder.iterdir()} == {
        *("result.json", "per-class.csv", "confusion.csv"),
        *("confusion.png", "reliability.png", "confidence.png"),
    }


def test_a_run_may_be_named_by_the_path_of_its_directory(trained, tmp_path, monkeypatch):
    demo, _ = trained
    shutil.copytree(demo.runs / "mine", tmp_path / "elsewhere" / "A Copy")
    by_id = demo("evaluate", "mine", "--json").objects[0]
    monkeypatch.chdir(tmp_path)
    for name in (demo.runs / "mine", "elsewhere/A Copy", "./elsewhere/A Copy/"):
        answer = demo("evaluate", name, "--json")
        assert answer.code == 0, answer.err
        assert {**answer.objects[0], "run": "mine"} == by_id
    assert demo("runs", "show", "elsewhere/A Copy", "--json").objects[0]["state"] == "finished"


def test_damaged_weights_are_refused(trained, tmp_path, picture):
    demo = trained[0].copy(tmp_path)
    weights = demo.runs / "mine" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for words in (["evaluate", "mine"], ["classify", "mine", picture("a.png", "red")]):
        answer = demo(*words, "--json")
        assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
        assert "model.safetensors of mine is damaged" in answer.err


def test_each_picture_has_a_line_and_one_that_is_broken_does_not_end_the_others(
    trained, picture, tmp_path
):
    demo, _ = trained
    good, broken, gone = picture("a.png", "red"), picture("b.png", "blue"), tmp_path / "gone.jpg"
    broken.write_bytes(broken.read_bytes()[:40])
    other = picture("c.jpg", (0, 0, 200))
    files = [str(path) for path in (good, broken, gone, other)]
    answer = demo("classify", "mine", *files, "--top", 2, "--json")
    assert (answer.code, answer.err) == (1, "")
    assert [line["file"] for line in answer.objects] == files
    first, second, third, last = answer.objects
    assert second.keys() == third.keys() == {"file", "error"}
    assert "b.png" in second["error"]
    assert "there is no file" in third["error"]
    for line in (first, last):
        confidences = [label["confidence"] for label in line["labels"]]
        assert len(confidences) == 2
        assert 1 >= confidences[0] >= confidences[1] >= 0
        assert line["labels"][0].keys() == {"label", "confidence"}


def test_good_pictures_alone_are_a_success(trained, picture):
    demo, _ = trained
    answer = demo("classify", "mine", picture("a.png", "red"), "--dataset", "colours", "--json")
    assert answer.code == 0
    confidences = [label["confidence"] for label in answer.objects[0]["labels"]]
    assert sum(confidences) == pytest.approx(1)
    words = demo("classify", "mine", picture("a.png", "red"), "--top", 1)
    assert words.code == 0
    assert words.out.count("%") == 1


def test_a_line_tells_the_verdict_and_how_the_picture_was_fitted(trained, picture):
    demo, _ = trained
    (line,) = demo("classify", "mine", picture("a.png", "red"), "--fit", "pad", "--json").objects
    assert line.keys() == {"file", "labels", "outside", "fit"}
    assert line["fit"] == "pad"
    outside = line["outside"]
    assert outside.keys() == {"energy", "threshold", "false_alarms", "is_outside"}
    assert outside["is_outside"] == (outside["energy"] > outside["threshold"])
    (square,) = demo("classify", "mine", picture("a.png", "red"), "--json").objects
    assert square["fit"] == "crop"


def test_a_picture_that_is_none_of_the_classes_is_told_of_in_words(trained, picture, monkeypatch):
    from resnet_demo.inference.classification import OodVerdict

    for is_outside in (True, False):
        monkeypatch.setattr(OodVerdict, "is_ood", is_outside)
        said = trained[0]("classify", "mine", picture("a.png", "red"))
        assert ("unlike the training images" in said.out) == is_outside


def test_a_map_is_the_picture_under_the_heat_of_its_first_label(trained, picture, tmp_path):
    import numpy as np
    from PIL import Image

    from resnet_demo.data.pictures import decode_picture
    from resnet_demo.inference.classifier import Classifier
    from resnet_demo.inference.heatmaps import overlay

    demo, _ = trained
    file = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    words = ["classify", "mine", file, "--fit", "squash", "--opacity", "0.3"]
    (line,) = demo(*words, "--map", tmp_path / "map.png", "--json").objects
    assert line["map"] == str(tmp_path / "map.png")
    looked = Classifier.load(Run(demo.runs / "mine")).class_map(
        noise, line["labels"][0]["label"], "squash"
    )
    drawn = decode_picture(tmp_path / "map.png")
    np.testing.assert_array_equal(drawn, overlay(noise, looked.heat, 0.3))
    assert not np.array_equal(drawn, noise)


def test_what_each_stage_sees_is_a_picture_of_its_own(trained, tmp_path):
    import numpy as np
    from PIL import Image

    from resnet_demo.data.pictures import decode_picture
    from resnet_demo.inference.classifier import Classifier

    demo, folder, file = trained[0], tmp_path / "new" / "inside", tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    words = ["classify", "mine", file, "--fit", "pad", "--inside", folder]
    (line,) = demo(*words, "--json").objects
    stages = Classifier.load(Run(demo.runs / "mine")).feature_maps(noise, "pad")
    assert [one["stage"] for one in line["inside"]] == [name for name, _ in stages]
    assert [one["file"] for one in line["inside"]] == [
        str(folder / f"{name}.png") for name in ("stem", "stage-1", "stage-2", "stage-3")
    ]
    for one, (_, grid) in zip(line["inside"], stages, strict=True):
        np.testing.assert_array_equal(decode_picture(Path(one["file"])), grid)
    assert demo(*words).out.endswith(f"{folder}/stage-2.png, {folder}/stage-3.png\n")


def test_the_most_similar_training_images_are_those_that_the_page_finds(trained, tmp_path):
    from PIL import Image

    from resnet_demo.data.store import Datasets
    from resnet_demo.inference.classifier import Classifier
    from resnet_demo.tasks.image_indexes import ImageIndexes, read_index
    from resnet_demo.tasks.launcher import Launcher

    demo, file = trained[0].copy(tmp_path), tmp_path / "known.png"
    run, images = Run(demo.runs / "mine"), Datasets(demo.data).load("colours", "train")[0]
    folder = ImageIndexes(Launcher(Paths(demo.runs, demo.data))).folder(run)
    words = ["classify", "mine", file, "--fit", "squash", "--similar"]
    Image.fromarray(images[3]).save(file)
    (line,) = demo(*words, "--json").objects
    assert read_status(folder).state == "finished"  # and the page finds it there
    index = read_index(folder)
    found = Classifier.load(run).similar_images(images[3], index, "squash")
    assert [(one["place"], one["cosine"], one["label"]) for one in line["similar"]] == found
    assert len(found) == 5
    assert 3 in index.places
    assert 3 in [one["place"] for one in line["similar"] if one["cosine"] > 0.999]  # itself
    out = demo(*words).out
    assert f"; most similar training images: {found[0][2]} {found[0][1]:.3f}, " in out


def test_another_run_is_asked_about_the_same_picture(trained, picture, tmp_path):
    demo = trained[0].copy(tmp_path)
    shutil.copytree(demo.runs / "mine", demo.runs / "yours")
    file = picture("a.png", "red")
    (line,) = demo("classify", "mine", file, "--against", "yours", "--top", 2, "--json").objects
    assert line["against"] == {"run": "yours", "labels": line["labels"]}
    words = demo("classify", "mine", file, "--against", "yours", "--top", 1).out
    assert "; yours: " in words
    assert words.count("%") == 2


def test_ctrl_c_ends_any_verb_with_130_and_no_traceback(trained, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_demo.evaluation.evaluate_run.evaluate_run", interrupted)
    assert trained[0]("evaluate", "mine") == Answer(130, "", "")


# --- runs and data


def test_runs_are_listed_and_shown(trained):
    demo, _ = trained
    row = demo("runs", "list", "--json").objects[0]
    assert (row["run"], row["state"], row["epoch"], row["epochs"]) == ("mine", "finished", 2, 2)
    assert demo("runs", "list").out.startswith("mine: finished, resnet20 on colours, 2 of 2 epochs")
    (seen,) = demo("runs", "show", "mine", "--json").objects
    assert (seen["run"], seen["state"]) == ("mine", "finished")
    assert [epoch["epoch"] for epoch in seen["history"]] == [1, 2]
    assert seen["progress"]["step"] == seen["progress"]["total_steps"] == 18
    assert seen["config"]["seed"] == 7
    assert demo("runs", "show", "mine").out.count("\n") == 3


def test_a_damaged_run_is_listed_and_says_so(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    (demo.runs / "mine" / "status.json").write_text("{")
    answer = demo("runs", "list")
    assert answer.code == 0
    assert answer.out.startswith("mine: status.json of mine is damaged\n")
    answer = demo("runs", "show", "mine")
    assert (answer.code, answer.err.count("\n")) == (1, 1)


def test_a_deleted_run_is_gone_from_the_list(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    answer = demo("runs", "delete", "mine", "--json")
    assert (answer.code, answer.objects) == (0, [{"run": "mine", "deleted": True}])
    assert "mine" not in [row["run"] for row in demo("runs", "list", "--json").objects]
    assert demo("runs", "delete", "mine").code == 2


def test_a_run_named_by_its_path_is_deleted_and_not_its_namesake(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    other = shutil.copytree(demo.runs / "mine", tmp_path / "elsewhere" / "mine")
    assert demo("runs", "delete", other).code == 0
    assert not other.exists()
    assert (demo.runs / "mine" / "config.json").exists()


def test_a_live_run_is_not_deleted(trained, tmp_path):
    demo = trained[0].copy(tmp_path)
    (demo.runs / "mine" / "status.json").write_bytes(status_json(Status(state="running")))
    lock = try_lock(demo.runs / "mine" / "worker.lock")
    answer = demo("runs", "delete", "mine")
    os.close(lock)
    assert answer.code == 2
    assert "run mine is running: stop it before you delete it" in answer.err


def test_a_packed_run_answers_on_a_machine_without_its_images(trained, picture, tmp_path):
    demo, folder = trained[0], tmp_path / "cifar10-shipped"
    (told,) = demo("runs", "pack", "mine", folder, "--json").objects
    assert (told["run"], told["folder"]) == ("cifar10-shipped", str(folder))
    elsewhere = CommandLine(tmp_path / "runs", tmp_path / "data")
    answer = elsewhere("evaluate", folder, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert (answer.objects[0]["stored"], answer.objects[0]["top1"]) == (True, told["top1"])
    assert "the images are not on this machine" in elsewhere("evaluate", folder).out
    assert "the images are not" not in demo("evaluate", folder).out
    assert elsewhere("classify", folder, picture("a.png", "red")).code == 0
    assert elsewhere("evaluate", folder, "--split", "val").code == 2
    flipped = elsewhere("evaluate", folder, "--mode", "flip")
    assert (flipped.code, flipped.out, flipped.err.count("\n")) == (2, "", 1)
    assert "--mode: mode must be plain while the images of colours are not on this" in flipped.err
    worse = elsewhere("evaluate", folder, "--robustness")
    assert (worse.code, worse.out, worse.err.count("\n")) == (2, "", 1)
    assert "--robustness: the images of colours are not on this machine; " in worse.err
    alike = elsewhere("classify", folder, picture("a.png", "red"), "--similar")
    assert (alike.code, alike.out, alike.err.count("\n")) == (2, "", 1)
    assert "--similar: the images of colours are not on this machine; " in alike.err
    again = demo("runs", "pack", "mine", folder)
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    words = demo("runs", "pack", "mine", tmp_path / "other").out
    assert words.startswith(f"other: top-1 {told['top1']:.2%} on 30 test images, ")


def test_pictures_are_imported_and_then_listed(demo, picture, tmp_path):
    source = tmp_path / "pictures"
    for label, colour in (("day", "white"), ("night", "black")):
        (source / label).mkdir(parents=True)
        for number in range(5):
            shutil.copy(picture("a.png", colour), source / label / f"{number}.png")
    demo = CommandLine(demo.runs, tmp_path / "data")
    (info,) = demo("data", "import", "sky", source, "--size", 8, "--json").objects
    assert (info["name"], info["classes"], info["size"]) == ("sky", ["day", "night"], 8)
    assert (info["train"], info["test"]) == (8, 2)
    listed = {row["name"]: row for row in demo("data", "status", "--json").objects}
    assert listed.keys() == {"shapes10", "sky"}
    assert listed["sky"] == info
    assert listed["shapes10"]["synthetic"] is True
    words = demo("data", "status").out
    assert "shapes10: 10,000 training and 2,000 test images of 32 pixels" in words
    assert "synthetic" in words
    assert "sky: 8 training and 2 test images of 8 pixels, 2 classes" in words
    assert demo("data", "import", "sky", source).code == 2


def test_pictures_that_make_no_dataset_are_a_failure_and_leave_nothing(demo, picture, tmp_path):
    source = tmp_path / "pictures" / "only"
    source.mkdir(parents=True)
    shutil.copy(picture("a.png", "red"), source)
    demo = CommandLine(demo.runs, tmp_path / "data")
    answer = demo("data", "import", "sky", source.parent, "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.fixture
def fresh(demo, tmp_path, monkeypatch):
    """A command line over an empty data folder, on a machine without a network."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("RESNET_DEMO_CIFAR10", str(tmp_path / "copy.zip"))
    return CommandLine(demo.runs, tmp_path / "data")


def test_cifar10_is_fetched_from_the_copy_that_is_named(fresh, tmp_path):
    (tmp_path / "copy.zip").write_bytes(cifar_zip(2))
    (info,) = fresh("data", "get", "cifar10", "--json").objects
    assert (info["name"], info["train"], info["test"]) == ("cifar10", 20, 20)
    again = fresh("data", "get", "cifar10")
    assert (again.code, again.err) == (
        2,
        "resnet_demo data: cifar10 is on this machine already\n",
    )


def test_where_cifar10_cannot_be_had_one_line_says_why_and_what_else_to_do(fresh):
    answer = fresh("data", "get", "cifar10", "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    for words in ("copy.zip", "Hugging Face", "Zenodo", "home server", "shapes10"):
        assert words in answer.err


def test_a_download_that_is_interrupted_ends_as_stopped(fresh, monkeypatch, loopback):
    data = cifar_zip()

    def interrupted(request):
        os.kill(os.getpid(), signal.SIGINT)
        request.wait()

    loopback.offer(data, interrupted)
    address = f"{loopback.url()}#sha256={sha256(data).hexdigest()}"
    monkeypatch.setenv("RESNET_DEMO_CIFAR10", address)
    answer = fresh("data", "get", "cifar10")
    message = "stopped; the downloaded part is kept, and the next download continues it"
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == f"resnet_demo data: {message}\n"


def test_a_dataset_is_shown_class_by_class_and_deleted(fresh, tmp_path):
    (tmp_path / "copy.zip").write_bytes(cifar_zip(2))
    fresh("data", "import", "ten", tmp_path / "copy.zip")
    shown = fresh("data", "show", "ten")
    assert "  frog                   2 training       2 test" in shown.out
    (values,) = fresh("data", "show", "ten", "--json").objects
    assert values["counts"]["test"]["frog"] == 2
    assert fresh("data", "delete", "ten").out == "ten is deleted\n"
    assert [row["name"] for row in fresh("data", "status", "--json").objects] == ["shapes10"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("get", "name must be the name of a dataset, got nothing"),
        ("get imagenet", "name must be cifar10, the only dataset to download, got 'imagenet'"),
        ("show ten", "dataset must be one of shapes10, got 'ten'"),
        ("delete ten", "dataset must be one of shapes10, got 'ten'"),
        ("delete shapes10", "shapes10 is built in and cannot be deleted"),
    ],
)
def test_a_mistake_about_a_dataset_is_one_line(words, told, fresh):
    answer = fresh("data", *words.split())
    assert (answer.code, answer.out, answer.err) == (2, "", f"resnet_demo data: {told}\n")


def test_a_reader_that_has_seen_enough_is_no_error(demo):
    command = f"{sys.executable} -m resnet_demo data status | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, **demo.environment}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
