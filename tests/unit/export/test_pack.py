import json
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.special import logsumexp

from resnet_demo.cli import make_parser
from resnet_demo.config import KEEP, RECIPES, defaults, make_config, parse
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.stored_predictions import compact_logits
from resnet_demo.events import Started
from resnet_demo.export import pack as packing
from resnet_demo.export.model_card import CHOSEN_EPOCH, command
from resnet_demo.export.pack import pack
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.paths import REPOSITORY
from resnet_demo.runs.store import Run
from resnet_demo.tasks.snapshot import snapshot_dict, summary

FILES = {
    *("config.json", "events.jsonl", "status.json", "model.safetensors", "model.json"),
    *("test-predictions.safetensors", "README.md"),
}


@pytest.fixture
def datasets(colours):
    return Datasets(colours)


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run, to be spoilt."""
    return Run(shutil.copytree(finished.path, tmp_path / "runs" / "mine"))


def test_all_that_is_shown_of_a_run_is_packed_and_nothing_else(packed, finished):
    run, told = packed
    assert {file.name for file in run.path.iterdir()} == FILES
    assert told["bytes"] == sum(file.stat().st_size for file in run.path.iterdir())
    before, after = snapshot_dict(finished), snapshot_dict(run)
    assert {**before, "run": run.id} == after
    assert after["state"] == "finished"
    assert summary(run)["state"] == "finished"


def test_weights_are_packed_in_half_their_bytes_and_counters_whole(packed, finished):
    run, told = packed
    stored = safetensors.torch.load_file(run.path / "model.safetensors")
    counters = {name for name in stored if name.endswith("num_batches_tracked")}
    assert counters
    for name, tensor in stored.items():
        assert tensor.dtype == (torch.int64 if name in counters else torch.float16), name
    before, after = (load_model(one.path).model.state_dict() for one in (finished, run))
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        torch.testing.assert_close(tensor, before[name], rtol=1e-3, atol=1e-6)
    original = (finished.path / "model.safetensors").stat().st_size
    assert told["weights_bytes"] < 0.6 * original


def test_the_card_has_words_for_every_way_to_choose_an_epoch(packed):
    assert CHOSEN_EPOCH.keys() == set(KEEP)
    text = " ".join((packed[0].path / "README.md").read_text("utf-8").split())
    assert re.search(r"of epoch \d of \d, the best by validation top-1 \(", text)


def test_the_scores_are_those_of_the_weights_as_stored(packed, finished, datasets):
    run, told = packed
    now, before = (evaluate_run(each, datasets).result for each in (run, finished))
    assert now["weights"] == model_description(run.path)["sha256"] != before["weights"]
    assert (told["top1"], told["n"]) == (now["top1"], 30)
    assert told["top1_float32"] == before["top1"] > 0.5  # it has learned something
    assert told["loss"] == pytest.approx(now["loss"], abs=1e-4)
    metrics = model_description(run.path)["metrics"]
    assert metrics["test_top1"] == now["top1"]
    assert metrics["val_top1"] == model_description(finished.path)["metrics"]["val_top1"]


def test_the_threshold_is_that_of_the_weights_as_stored(packed, finished, datasets):
    logits = evaluate_run(packed[0], datasets, "val").logits
    threshold = np.quantile(-logsumexp(logits.double(), axis=1), 0.95, method="inverted_cdf")
    told = model_description(packed[0].path)["metrics"]["outside"]
    assert told == {"threshold": pytest.approx(threshold), "false_alarms": 0.05, "n": 15}
    assert told != model_description(finished.path)["metrics"]["outside"]


def test_a_run_without_a_threshold_is_given_one(copied, packed, tmp_path, datasets):
    saved = load_model(copied.path)
    metrics = {key: value for key, value in saved.metrics.items() if key != "outside"}
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": metrics}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    pack(copied, datasets, tmp_path / "again")
    told = model_description(tmp_path / "again")["metrics"]["outside"]
    assert told == model_description(packed[0].path)["metrics"]["outside"]


def test_nothing_is_told_of_where_the_run_was_trained(packed, finished):
    run, _ = packed
    told = b"".join(file.read_bytes() for file in run.path.iterdir())
    for place in (finished.path.parents[1], run.path.parent, REPOSITORY):
        assert str(place).encode() not in told
    assert json.loads((run.path / "status.json").read_text())["pid"] is None


def test_packing_changes_nothing_of_the_run(copied, tmp_path, datasets):
    def content():
        return {path: path.read_bytes() for path in copied.path.iterdir()}

    before = content()
    pack(copied, datasets, tmp_path / "new" / "packed")
    assert content() == before


def test_a_packed_run_can_be_packed_again(packed, tmp_path, datasets):
    run, told = packed
    again = pack(run, datasets, tmp_path / "again")
    assert again["top1"] == again["top1_float32"] == told["top1"]
    assert evaluate_run(Run(tmp_path / "again"), Datasets(tmp_path)).result["stored"]


def refusal(error, tmp_path, *asked):
    """The sentence of a packing that must be refused and leave everything as it was."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error) as caught:
        pack(*asked)
    assert sorted(tmp_path.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_taken_is_refused_and_an_empty_one_is_filled(finished, tmp_path, datasets):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter").write_text("dear")
    (tmp_path / "file").write_text("dear")
    (tmp_path / "empty").mkdir()
    for name in ("taken", "file"):
        folder = tmp_path / name
        told = refusal(ConfigError, tmp_path, finished, datasets, folder)
        assert told == f"folder must be a folder that is new or empty, got {str(folder)!r}"
    assert (tmp_path / "taken" / "letter").read_text() == "dear"
    pack(finished, datasets, tmp_path / "empty")
    assert {file.name for file in (tmp_path / "empty").iterdir()} == FILES


def test_a_folder_whose_name_no_run_can_have_is_refused(finished, tmp_path, datasets):
    folder = tmp_path / "My Run"
    assert "lower-case" in refusal(ConfigError, tmp_path, finished, datasets, folder)


def test_a_run_that_has_not_finished_is_refused(copied, tmp_path, datasets):
    log = copied.log().path
    log.write_text("\n".join(log.read_text().splitlines()[:-1]) + "\n")
    told = refusal(ConfigError, tmp_path, copied, datasets, tmp_path / "packed")
    assert told == "only a finished run can be packed, and mine is none"


def test_a_log_without_its_beginning_is_refused(copied, tmp_path, datasets):
    log = copied.log().path
    log.write_text("\n".join(log.read_text().splitlines()[1:]) + "\n")
    told = refusal(DamagedError, tmp_path, copied, datasets, tmp_path / "packed")
    assert "events.jsonl of run mine is damaged" in told


def test_weights_that_are_too_large_even_as_float16_are_refused(
    finished, tmp_path, datasets, monkeypatch
):
    monkeypatch.setattr(packing, "MAX_WEIGHTS", 400_000)
    told = refusal(ConfigError, tmp_path, finished, datasets, tmp_path / "packed")
    assert told.startswith("only weights of at most 400 kB can be packed, and those of mine have ")


def test_a_run_whose_test_images_are_not_here_is_refused(finished, packed, tmp_path):
    for run in (finished, packed[0]):  # that one's answers are kept, and are no measurement
        told = refusal(NotFoundError, tmp_path, run, Datasets(tmp_path), tmp_path / "packed")
        assert "got 'colours'" in told


def test_a_network_that_float16_cannot_hold_is_refused(copied, tmp_path, datasets):
    saved = load_model(copied.path)
    with torch.no_grad():
        for parameter in saved.model.head.parameters():
            parameter *= 1e7  # the same answers, but beyond the largest number of float16
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": {}}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    told = refusal(DemoError, tmp_path, copied, datasets, tmp_path / "packed")
    assert told.startswith("mine cannot be packed: with weights in float16 its test top-1 is ")


def test_what_fails_on_the_way_leaves_no_folder(finished, tmp_path, datasets, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "model_card", broken)
    refusal(KeyboardInterrupt, tmp_path, finished, datasets, tmp_path / "packed")


def test_the_card_tells_what_was_measured_and_how_it_was_made(packed, datasets):
    run, told = packed
    text, (started, *_) = (run.path / "README.md").read_text(), run.log()
    assert isinstance(started, Started)
    low, high = wilson_interval(round(told["top1"] * 30), 30)
    assert text.startswith("# cifar10-shipped\n")
    for part in (
        f"| top-1 | **{told['top1']:.2%}** (95 % Wilson interval {low:.2%} to {high:.2%}) |",
        f"| top-1 before the weights were rounded to float16 | {told['top1_float32']:.2%} |",
        f"| loss | {told['loss']:.4f} nats |",
        f"| machine | {started.device}, arithmetic in float32 |",
        f"| `batch_size` | 16 | {defaults()['batch_size']} |",
        f"| `seed` | 7 | {defaults()['seed']} |",
        "| seed | 7 |",
        "| time | ",
        "It knows 3 classes and nothing else",
        "not for decisions about people",
        "The weights, the log and this text have the licence of the code, MIT.",
    ):
        assert part in text
    for row in evaluate_run(run, datasets).result["per_class"]:
        assert f"| {row['label']} | {row['precision']:.1%} | {row['recall']:.1%} | " in text


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("knobs", [{}, {"seed": 5, "flip": True, "peak_lr": 0.03, "epochs": 9}])
def test_the_command_on_the_card_asks_for_the_same_run(recipe, knobs):
    config = make_config({"recipe": recipe, **knobs})
    python, m, program, *words = command(config).split()
    assert (python, m, program) == ("python", "-m", "resnet_demo")
    asked = vars(make_parser().parse_args(words))
    told = {name: asked[name] for name in config.to_dict() if asked.get(name) is not None}
    assert make_config({name: parse(name, text) for name, text in told.items()}) == config


def test_close_answers_stay_apart_in_half_the_bytes():
    random = torch.Generator().manual_seed(0)
    logits = 12 + torch.rand(200, 10, generator=random)
    first = logits.topk(2).indices
    logits.scatter_(1, first[:, 1:], logits.gather(1, first[:, :1]) - 1e-5)
    kept = compact_logits(logits, first[:, 0])
    assert kept.dtype == torch.float16
    assert torch.equal(kept.argmax(1), logits.argmax(1))
    assert not torch.equal(logits.half().argmax(1), logits.argmax(1))  # as they are, they are not


def test_logits_that_half_the_bytes_would_change_stay_whole():
    best = [20.0, 19, 18, 17]
    logits = torch.tensor([[*best, 4.99999, 5.00001], [*best, 5.00001, 4.99999]])
    fifth = logits.topk(5).indices[:, 4]
    assert (
        compact_logits(logits, fifth).dtype == torch.float32
    )  # rounded, fifth and sixth are one number
    assert (
        compact_logits(logits, fifth * 0).dtype == torch.float16
    )  # which matters to no other label
    assert compact_logits(logits * float("nan"), fifth).dtype == torch.float32
