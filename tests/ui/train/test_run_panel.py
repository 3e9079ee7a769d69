"""What the Train tab shows of a run: figures, sentences and log."""

import re
import time
from dataclasses import replace

import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Compiled, Embedding, Head
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.tasks.status import STATES
from resnet_demo.ui.train import run_panel

HOSTILE = "<img src=x onerror=alert(1)> ${alert(1)} &lt;"


def figures(html):
    """Return name -> value of the tiles."""
    return dict(re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", html))


def test_the_tiles_show_the_progress_of_a_run(seen, events):
    text = figures(run_panel.figures_html(seen("running", events())))
    assert text == {
        "state": "Training",
        "epoch": "2 / 3",
        "step": "5 / 12",
        "best validation": "50.00 %",
        "elapsed": text["elapsed"],
        "time left": "≈ 1 min 10 s",  # 7 steps, 40 s an epoch of 4
        "images/s": "1,234",
        "learning rate": "0.0125",
    }
    assert 'aria-valuenow="42"' in run_panel.figures_html(seen("running"))


def test_a_run_that_keeps_the_last_epoch_shows_the_last_validation(seen, events):
    text = figures(run_panel.figures_html(seen("running", events(keep="last"))))
    assert text["last validation"] == "50.00 %"
    assert "best validation" not in text
    head = {"weight_decay": 0.1, "folds": 0, "val_loss": 0.2, "val_top1": 0.75, "seconds": 1.0}
    fitted = Head(step=0, epoch=1, **head, curve=[[20, 9, 12]])
    text = figures(run_panel.figures_html(seen("running", [*events(keep="last-or-head"), fitted])))
    assert text["head validation"] == "9 of 12"


@pytest.mark.parametrize("state", STATES)
def test_a_run_without_events_has_tiles_without_figures(state, seen):
    text = figures(run_panel.figures_html(seen(state)))
    assert text.pop("state") == run_panel.STATE_WORDS[state]
    assert set(text.values()) == {"–"}
    assert 'aria-valuenow="0"' in run_panel.figures_html(seen(state))


@pytest.mark.parametrize("state", STATES)
def test_no_foreign_text_gets_into_the_tiles(state, seen, events):
    opening = {"device": HOSTILE, "precision": HOSTILE, "version": HOSTILE}
    html = run_panel.figures_html(seen(state, events(**opening), message=HOSTILE))
    assert not re.search(r"img|onerror|alert|[$&{]", html)
    assert set(re.findall(r"<(\w+)", html)) == {"div", "span", "b"}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("preparing", "Loading, a few seconds…"),
        ("running", "the message."),
        ("stopping", "the message."),
        ("stopped", "Stopped: the message."),
        ("finished", "Finished: the message."),
        ("failed", "**Failed:** the message."),
    ],
)
def test_every_state_has_a_sentence(state, text, seen):
    assert run_panel.state_text(seen(state, message="the message")) == text


@pytest.mark.parametrize("message", ["", "a message", "a message.", "training…"])
@pytest.mark.parametrize("state", STATES)
def test_no_two_sentences_run_together(state, message, seen, events):
    text = run_panel.state_text(seen(state, events(), message=message))
    before, parameters, _ = text.partition("1.65 million parameters")
    assert parameters
    assert re.search(r"^$|[^.…][.…]\**( \*\*No update.*)? $", before), text
    assert ".." not in text
    assert "·" not in text


def test_a_shipped_run_shows_its_origin_and_duration(seen, events):
    look = seen("finished", events(ended=True), message="3 epochs done")
    look = replace(look, run=replace(look.run, shipped=True))
    text = run_panel.state_text(look)
    assert text.startswith("Came with the app, trained in 50 s: 3 epochs done. 1.65 million")


def test_the_wait_for_the_compiler_is_explained_until_it_is_over(seen, events):
    opening = events()[:1]
    assert "ompiling" not in run_panel.state_text(seen("running", opening))  # not requested
    look = seen("running")
    (look.run.path / "config.json").write_text(
        to_json(make_config({"compile": True, "grow_from": 1}), "0")
    )
    assert run_panel.state_text(look).startswith("Compiling the network")
    look.run.log().append(Compiled(step=0, epoch=1, seconds=41.0))
    look.view.refresh()
    assert "ompiling" not in run_panel.state_text(look)


def test_growing_images_are_explained_until_they_have_grown(seen, events):
    text = run_panel.state_text(seen("running", events(sides=[20, 24, 28, 32])))  # step 5 of 12
    assert "images have 28 × 28 pixels now and grow to 32 × 32; validation lags until then." in text
    assert "grow to" not in run_panel.state_text(seen("running", events(sides=[16, 32], epochs=2)))
    for sides in ([], [32]):
        assert "grow to" not in run_panel.state_text(seen("running", events(sides=sides)))
    assert "grow to" not in run_panel.state_text(seen("stopped", events(sides=[20, 24, 28, 32])))


def test_foreign_text_is_escaped(seen, events):
    text = run_panel.state_text(seen("failed", events(device="a*b*"), message="no <img src=x>"))
    assert text.startswith("**Failed:** no \\<img src=x\\>.")
    assert "on a\\*b\\* in float32" in text


def test_a_queued_run_shows_its_place(seen):
    assert run_panel.state_text(seen("queued", place=2)) == "Place 2 in the queue."
    assert run_panel.state_text(seen("queued", place=0)) == "Next, starting…"


def test_a_run_that_is_next_shows_the_run_ahead_and_its_remaining_time(seen, events):
    ahead = seen("running", events())
    text = run_panel.state_text(seen("queued", place=1), ahead)
    assert text.startswith("Next, after some-run-1 (≈ 1 min 10 s).")


def test_a_stopping_run_says_when_it_ends(seen, events):
    text = run_panel.state_text(seen("stopping", events(), message="stopping"))
    assert text.startswith("Stopping after this step. 1.65 million parameters")


def test_a_started_run_shows_its_network_and_device(seen, events):
    text = run_panel.state_text(seen("finished", events(), message="3 epochs done"))
    assert text == (
        "Finished: 3 epochs done. 1.65 million parameters, 40.6 million multiply-adds per image, "
        "on cpu (2 threads) in float32."
    )


def test_an_unusually_long_silence_is_shown(seen, events):
    opening, *_ = events()
    old = replace(opening, clock=time.monotonic() - 40)
    look = seen("running", [old])
    assert "No update" not in run_panel.state_text(look)  # it only just became running
    look = replace(look, status=replace(look.status, changed_clock=time.monotonic() - 40))
    assert run_panel.state_text(look).endswith("*No update for 40 s.*")
    stopped = replace(look, status=replace(look.status, state="stopped"))
    assert "No update" not in run_panel.state_text(stopped)


def test_a_suspended_worker_is_shown_at_once_with_its_duration(seen, events, monkeypatch):
    monkeypatch.setattr(RunSnapshot, "is_suspended", True)
    look = seen("running", events(), message="training")
    look = replace(look, status=replace(look.status, changed_clock=time.monotonic() - 40))
    message = re.escape(run_panel.SUSPENDED)
    assert re.search(rf"\*\*No update for \d+ s: {message}\*\*$", run_panel.state_text(look))
    preparing = replace(look, status=replace(look.status, state="preparing"))
    assert f"**No update for 40 s: {run_panel.SUSPENDED}**" in run_panel.state_text(preparing)


def test_a_silence_is_usual_up_to_three_times_the_longest_step(seen, events):
    assert run_panel.usual_silence_s(seen("running", events())) == pytest.approx(30, abs=0.1)
    assert run_panel.usual_silence_s(seen("running")) >= run_panel.SILENT_S


def test_the_log_shows_the_last_lines_and_the_end(seen, events):
    lines = run_panel.log_tail(seen("finished", events(ended=True)), lines=4).splitlines()
    assert len(lines) == 4
    assert all(re.match(r"\d\d:\d\d:\d\d  \w", line) for line in lines)
    assert [line.split()[1] for line in lines] == ["step", "epoch", "step", "finished"]


def test_a_run_that_fits_a_head_shows_its_pass_over_the_images_and_what_it_is_worth(seen, events):
    opening, *_ = events(steps_per_epoch=1)
    at = {"step": 0, "epoch": 0}
    embedding = Embedding(**at, done=128, total=1244, images_per_s=24.0)
    look = seen("running", [opening, embedding])
    assert run_panel.state_text(look).startswith(
        "The frozen layers run over the images: 128 of 1,244."
    )
    assert figures(run_panel.figures_html(look))["images/s"] == "24"
    curve = [[1, 2, 4], [1, 2, 4], [2, 3, 4]]
    facts = {"weight_decay": 1.0, "folds": 2, "val_loss": 1.0, "val_top1": 0.75, "seconds": 1.0}
    look = seen("finished", [Head(**at, curve=curve, **facts)], message="30 epochs done")
    (look.run.path / "config.json").write_text(
        to_json(make_config({"recipe": "transfer", "val_share": 0.0, "folds": 2}), "0")
    )
    assert run_panel.state_text(look).startswith(
        "Finished: 30 epochs done. 3 of 4 images right in cross-validation (95 % interval 30 % "
        "to 95 %). 2 of 4 right with 1, "
    )
    assert "too few to say what more would bring." in run_panel.state_text(look)
    assert "head: weight decay 1" in run_panel.log_tail(look)
    assert look.to_dict()["head"]["curve"] == curve
