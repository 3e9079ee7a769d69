"""`bench` as a person and as a program sees it: what it prints where, and how it ends."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_demo.bench import accuracy, roofline
from resnet_demo.cli import main, make_parser
from resnet_demo.file_locks import try_lock

DOCUMENT = Path(__file__).parents[3] / "docs" / "performance.md"
TINY = "--dataset colours --model resnet20 --image-size 8 --batch-size 30 --crop 2 --seconds 0.01"


@pytest.fixture
def bench(tmp_path, colours, monkeypatch, capsys):
    """Return a function that runs `bench` in this process: exit code, output, errors."""
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RESNET_DEMO_DATA", str(colours))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    def run(args):
        try:
            code = main(["bench", *args.split()])
        except SystemExit as end:  # of argparse
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "name", ["", "throughput", "accuracy", "roofline", "classify", "ood", "waits"]
)
def test_help_answers_without_loading_anything_heavy(name):
    command = [sys.executable, "-X", "importtime", "-m", "resnet_demo", "bench", *name.split()]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: resnet_demo bench {name}".strip())
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "numpy", "PIL", "gradio"}.isdisjoint(loaded)


def test_throughput_is_one_object_with_rate_against_and_ratio(bench):
    code, out, err = bench(f"throughput {TINY} --rounds 1 --against article --json")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    result = json.loads(line)
    assert result["ratio"]["article"] == result["images_per_s"] / result["against"]["article"]
    assert (result["model"], result["image_size"], result["batch_size"]) == ("resnet20", 8, 30)
    assert result["ratio"].keys() == {"article"}  # no other loop ran
    assert result["workers"] is None


def test_accuracy_prints_a_line_for_each_seed_and_a_summary(bench, monkeypatch):
    monkeypatch.setattr(accuracy, "REFERENCE_BATCH", 4)
    code, out, err = bench(f"accuracy {TINY} --seeds 2 --epochs 1 --peak-lr 0.02 --json")
    assert (code, err) == (0, "")
    first, second, last = map(json.loads, out.splitlines())
    assert (first["seed"], second["seed"], last["seeds"]) == (0, 1, 2)


def test_roofline_prints_a_line_for_the_machine_and_each_network(bench, monkeypatch):
    monkeypatch.setattr(roofline, "MATRICES", (16,))
    monkeypatch.setattr(roofline, "CONVOLUTIONS", ((4, 8, 2),))
    code, out, err = bench(f"roofline {TINY} --json")
    assert (code, err) == (0, "")
    machine, network = map(json.loads, out.splitlines())
    assert machine["gemm_flop_per_s"] > 0
    assert network["share_of_gemm"] > 0


def test_the_default_dataset_is_shapes10_without_cifar10(bench, monkeypatch):
    from resnet_demo.bench import throughput

    configs = []
    monkeypatch.setattr(
        throughput, "measure_throughput", lambda config, *_: configs.append(config) or {}
    )
    monkeypatch.setattr("resnet_demo.cli.bench.bench_text.throughput_lines", lambda _: [])
    assert bench("throughput --recipe article --image-size 64")[0] == 0
    (config,) = configs
    values = config.dataset, config.model, config.batch_size, config.image_size
    assert values == ("shapes10", "resnet34-article", 64, 64)


def test_throughput_as_text_is_a_table_and_a_run_that_trains_meanwhile_is_reported(bench, tmp_path):
    (tmp_path / "runs").mkdir()
    lock = try_lock(tmp_path / "runs" / ".device.lock")
    code, out, err = bench(f"throughput {TINY} --rounds 1 --against article")
    os.close(lock)
    assert code == 0
    assert re.search(r"^the tutorial's loop +[\d.,]+ \(.*\) +[\d.]+ times \(", out, re.MULTILINE)
    message = "a run is training on this device, so the results will be slower"
    assert err == f"resnet_demo bench: {message}\n"


def test_a_run_waits_while_something_is_measured(bench, tmp_path, monkeypatch):
    from resnet_demo.bench import throughput

    locks = []

    def measure(*_):
        locks.append(try_lock(tmp_path / "runs" / ".device.lock"))
        return {}

    monkeypatch.setattr(throughput, "measure_throughput", measure)
    monkeypatch.setattr("resnet_demo.cli.bench.bench_text.throughput_lines", lambda _: [])
    bench("throughput")
    assert locks == [None]
    os.close(try_lock(tmp_path / "runs" / ".device.lock"))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ("", ["required", "MEASUREMENT"]),
        ("cake", ["choose from", "'cake'"]),
        ("throughput --model nope", ["--model", "one of resnet9", "got 'nope'"]),
        ("throughput --image-size 7", ["--image-size", "8 to 256 pixels", "got 7"]),
        ("throughput --model vgg16 --image-size 16", ["--image-size", "at least 32", "got 16"]),
        ("throughput --batch-size 136", ["--batch-size", "at most the 135 images", "got 136"]),
        ("throughput --dataset nope", ["--dataset", "one of shapes10, colours", "got 'nope'"]),
        ("throughput --precision half", ["--precision", "one of auto", "got 'half'"]),
        ("throughput --seconds nan", ["--seconds", "from 0.01 to 3600", "got 'nan'"]),
        ("throughput --seconds x", ["--seconds", "from 0.01 to 3600", "got 'x'"]),
        ("throughput --rounds 0", ["--rounds", "a whole number from 1", "got '0'"]),
        ("throughput --against me", ["--against", "choose from", "'me'"]),
        ("accuracy --recipe nope", ["--recipe", "one of quick", "got 'nope'"]),
        ("accuracy --seed 3", ["unrecognized", "--seed 3"]),
        ("accuracy --seeds 0", ["--seeds", "a whole number from 1", "got '0'"]),
        ("accuracy --batch-size 136", ["--batch-size", "at most the 135 images", "got 136"]),
        ("roofline --model resnet9 nope", ["--model", "one of resnet9", "got 'nope'"]),
        ("roofline --batch-size 136", ["--batch-size", "at most the 135 images", "got 136"]),
        ("classify nope", ["run must be the id of a run", "got 'nope'"]),
        ("classify --rounds 0", ["--rounds", "a whole number from 1", "got '0'"]),
        ("classify --fresh x", ["--fresh", "a whole number from 1", "got 'x'"]),
        ("ood", ["required", "RUN"]),
        ("ood nope", ["run must be the id of a run", "got 'nope'"]),
        ("waits --rounds 0", ["--rounds", "a whole number from 1", "got '0'"]),
        ("waits --pictures 1", ["--pictures", "a whole number from 2", "got '1'"]),
        ("ood nope --images 1", ["--images", "a whole number from 2", "got '1'"]),
    ],
)
def test_a_mistake_is_one_line_that_names_option_rule_and_value(bench, args, parts):
    if args.partition(" ")[0] in ("throughput", "accuracy", "roofline") and "--dat" not in args:
        args += " --dataset colours"
    code, out, err = bench(args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("resnet_demo")
    for part in parts:
        assert part in err


def test_ood_has_its_old_name_too():
    old, new = (make_parser().parse_args(["bench", name, "mine"]) for name in ("outside", "ood"))
    assert old.handler is new.handler
    assert (old.run, old.images) == (new.run, new.images)


def test_every_command_in_the_document_is_valid():
    text = DOCUMENT.read_text("utf-8")
    commands = re.findall(r"python -m resnet_demo (bench [^\n`#|]*)", text)
    assert len(commands) > 5
    for command in commands:
        make_parser().parse_args(command.split())
