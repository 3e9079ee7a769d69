"""The command line as a whole: help, mistakes, failures, exit codes."""

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from resnet_demo import __version__
from resnet_demo.config import TrainConfig
from resnet_demo.recipes import RECIPES
from tests.unit.cli.conftest import TINY, Answer, modification_times

VERBS = ("train", "evaluate", "classify", "runs", "data", "learn", "bench", "space")


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


def test_the_help_of_train_shows_every_field_with_its_rule_and_default(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    shown = " ".join(demo("train", "--help").out.split())
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')} " in shown
        assert f"default {field.default})" in shown
        assert field.metadata["help"].split(";")[0] in shown
    assert "(1 to 4096 images; default 250)" in shown
    assert "0 = off (one-cycle: 30 % of the run)" in shown
    assert f"one of {', '.join(RECIPES)}; default quick" in shown


def test_the_version_is_printed(demo):
    assert demo("--version") == Answer(0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "parts"),
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
        ("train --run-id No_Good", ["--run-id", "lowercase letters", "got 'No_Good'"]),
        ("train --run-id mine", ["--run-id", "new, or resumed", "got 'mine'"]),
        ("train --run-id=", ["--run-id", "1 to 64", "got ''"]),
        ("train --resume nope", ["--resume", "the id of a run", "got 'nope'"]),
        ("train --resume NO", ["--resume", "lowercase letters", "got 'NO'"]),
        ("train --resume ./nope", ["--resume", "an id or the folder of a run", "got './nope'"]),
        ("train --shade red", ["unrecognized", "--shade red"]),
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
        ("runs show mine packed", ["runs show takes no text", "got 'packed'"]),
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
def test_a_mistake_is_one_line_that_names_option_rule_and_value(trained, args, parts):
    demo, _ = trained
    if args.startswith("train") and "--dataset" not in args:
        args = args.replace("train", "train --dataset colours --batch-size 16", 1)
    before = modification_times(demo.runs)
    answer = demo(*args.split())
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("resnet_demo")
    for part in parts:
        assert part in answer.err
    assert modification_times(demo.runs) == before


def test_a_file_in_place_of_the_folder_of_runs_is_a_mistake_in_one_line(demo):
    demo.runs.write_text("a file where the folder should be")
    answer = demo(*TINY)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "RESNET_DEMO_RUNS" in answer.err
    assert str(demo.runs) in answer.err


def test_ctrl_c_ends_any_verb_with_130_and_no_traceback(trained, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_demo.evaluation.evaluate_run.evaluate_run", interrupted)
    assert trained[0]("evaluate", "mine") == Answer(130, "", "")


def test_a_closed_pipe_is_no_error(demo):
    command = f"{sys.executable} -m resnet_demo data status | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, **demo.environment}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
