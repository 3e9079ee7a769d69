"""The model card of a packed run."""

import re
from types import SimpleNamespace

import pytest

from resnet_demo.cli import make_parser
from resnet_demo.config import KEEP, defaults, make_config, parse_field
from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.events import Started
from resnet_demo.export.model_card import CHOSEN_EPOCH, chosen_epoch, train_command
from resnet_demo.recipes import RECIPES


def test_the_card_explains_every_choice_of_epoch(packed):
    assert CHOSEN_EPOCH.keys() == {*KEEP, "head"}
    text = " ".join((packed[0].path / "README.md").read_text("utf-8").split())
    assert re.search(r"of epoch \d of \d, the best by validation top-1 \(", text)


def test_weights_are_called_better_than_a_head_only_where_one_was_fitted():
    config = make_config({"recipe": "finetune"})

    def chosen(epoch, head):
        return chosen_epoch(config, SimpleNamespace(best=SimpleNamespace(epoch=epoch), head=head))

    assert chosen(6, "fitted") == CHOSEN_EPOCH["last-or-head"]
    assert chosen(0, "fitted") == CHOSEN_EPOCH["head"]
    assert chosen(6, None) == CHOSEN_EPOCH["last"]


def test_the_card_states_accuracy_settings_and_limitations(packed, colours):
    run, result = packed
    text, (started, *_) = (run.path / "README.md").read_text(), run.log()
    assert isinstance(started, Started)
    low, high = wilson_interval(round(result["top1"] * 30), 30)
    assert text.startswith("# cifar10-shipped\n")
    for part in (
        f"| top-1 | **30 of 30** (95 % Wilson interval {100 * low:.0f} % to {100 * high:.0f} %) |",
        "| top-1 before the weights were rounded to float16 | 30 of 30 |",
        f"| loss | {result['loss']:.4f} nats |",
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
    for row in evaluate_run(run, Datasets(colours)).result["per_class"]:
        assert f"| {row['label']} | 10 of 10 | 10 of 10 | " in text


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("fields", [{}, {"seed": 5, "flip": True, "peak_lr": 0.03, "epochs": 9}])
def test_the_command_on_the_card_gives_the_same_config(recipe, fields):
    config = make_config({"recipe": recipe, **fields})
    python, m, program, *args = train_command(config).split()
    assert (python, m, program) == ("python", "-m", "resnet_demo")
    options = vars(make_parser().parse_args(args))
    given = {name: options[name] for name in config.to_dict() if options.get(name) is not None}
    assert make_config({name: parse_field(name, text) for name, text in given.items()}) == config
