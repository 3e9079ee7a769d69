"""Texts about runs."""

import pytest

from resnet_demo.events import Embedding, Epoch, Finished, Head, Resumed, Step
from resnet_demo.runs.text import (
    accuracy_text,
    calibration_text,
    chance_text,
    comparison_text,
    count_text,
    csv_safe,
    duration_text,
    escape_markdown,
    evaluation_text,
    event_text,
    image_notes,
    learning_curve_text,
    mode_text,
    points_text,
    robustness_text,
    share_text,
    transfer_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (599, "9 min 59 s"),
        (1640, "27 min"),
        (3590, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_have_readable_units(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 thousand"),
        (272_474, "272 thousand"),
        (999_700, "1 million"),
        (21_298_314, "21.3 million"),
        (4_089_184_256, "4.09 billion"),
    ],
)
def test_counts_keep_three_digits(number, text):
    assert count_text(number) == text


def test_an_event_is_one_line_with_percent_and_units():
    at = {"step": 8, "epoch": 2}
    step = Step(**at, loss=1.23456, top1=0.5, lr=0.05, images_per_s=880.4)
    assert event_text(step) == "step 8: loss 1.2346, learning rate 0.05, 880 images/s"
    epoch = Epoch(
        **at,
        train_loss=2.0,
        train_top1=0.2,
        val_loss=1.9,
        val_top1=0.8287,
        lr=0.1,
        seconds=185,
        images_per_s=9.0,
    )
    assert "accuracy 82.87 %; 3 min 05 s" in event_text(epoch)
    end = {"best_epoch": 2, "best_val_top1": 0.8287, "seconds": 60.0, "message": "3 epochs done"}
    assert event_text(Finished(**at, **end)) == (
        "finished after 1 min 00 s: 3 epochs done; kept epoch 2, validation accuracy 82.87 %"
    )
    text = event_text(Finished(**at, **end | {"best_epoch": 0, "val_images": 24}))
    assert text.endswith("; kept the head, validation accuracy 20 of 24")


def test_a_resume_names_its_step_and_what_was_damaged():
    text = event_text(
        Resumed(
            step=8,
            epoch=2,
            device="cpu (2 threads)",
            precision="bf16",
            threads=2,
            parameters=272_474,
            macs=40_551_936,
            steps_per_epoch=5,
            epochs=3,
            version="0",
            message="last.pt is damaged",
        )
    )
    assert text.startswith("resumed at step 8 on cpu (2 threads) in bf16: 272 thousand parameters")
    assert text.endswith("15 steps; last.pt is damaged")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((43e6, 171e6, "bytes", 2e6), "reading: 43 MB of 171 MB, 2.0 MB/s, 1 min 04 s left"),
        ((812_000, None, "bytes", 0.0), "reading: 812 kB"),
        ((3, 6, "batches", 0.0), "reading: 3 of 6 batches"),
        ((8_781_824, 133_924_236, "", 0.0), "reading (7 %)"),
        ((0, None, "", 0.0), "reading"),
        ((0, None, "batches", 0.0), "reading"),
    ],
)
def test_progress_is_shown_in_its_unit(values, text):
    assert transfer_text("reading", *values) == text


def test_calibration_compares_confidence_with_accuracy():
    bins = {"confidence": [0.2, 0, 0.8], "accuracy": [0, 0, 1], "error": 0.2}
    assert calibration_text({"count": [100, 0, 300], **bins}) == (
        "mean confidence 65.00 %, accuracy 75.00 %, calibration error 20.00 %"
    )
    few = calibration_text({"count": [1, 0, 3], **bins})
    assert few == "mean confidence 65 %, calibration error 20 %"
    none = {"count": [0], "confidence": [0], "accuracy": [0], "error": None}
    assert calibration_text(none) == "calibration unknown: no prediction is a number"


@pytest.mark.parametrize(
    ("difference", "n", "text"),
    [
        (0.0125, 100, "1.25 points above"),
        (-0.5, 10_000, "50.00 points below"),
        (-2 / 12, 12, "2 images below"),
        (1 / 99, 99, "1 image above"),
        (0, 12, "equal to"),
        (0, 1000, "equal to"),
    ],
)
def test_a_difference_is_in_points_and_of_few_images_in_images(difference, n, text):
    assert points_text(difference, n) == text


def test_another_mode_is_compared_with_plain():
    beside = {"mode": "plain", "top1": 0.92, "loss": None}
    result = {"mode": "flip", "top1": 0.93, "n": 1000, "beside": beside}
    assert mode_text(result) == ("mode flip: 1.00 points above plain (92.00 %, loss not a number)")
    assert mode_text({"mode": "plain", "top1": 0.93, "beside": None}) == ""


def test_a_comparison_of_two_runs_has_the_p_value():
    against = {
        "n": 60_000,
        "first": "mine",
        "second": "yours",
        "difference": -0.02,
        "top1_second": 0.9,
        "only_first": [*range(1200)],
        "only_second": [1],
        "p": 0.0312,
        "split": "test",
        "dataset_changed": False,
        "trained_on_pictures": 0,
    }
    assert comparison_text(against) == (
        "mine is 2.00 points below yours (90.00 %): only mine is right on 1,200 "
        "images, only yours on 1 image\ntwo equally good networks would differ as much or more in "
        "3.12 % of such tests (McNemar's exact test)"
    )
    assert "in fewer than 0.01 % of" in chance_text(1e-9)
    assert "in 100.00 % of" in chance_text(1)


@pytest.mark.parametrize(
    ("changed", "count", "split", "text"),
    [
        (None, None, "test", ""),
        (False, 0, "test", ""),
        (False, 1350, "train", ""),
        (True, 0, "test", "note: the dataset has changed since training"),
        (
            False,
            1200,
            "val",
            "note: 1,200 of the 2,000 validation images were trained on, so the score may be too "
            "good",
        ),
        (
            True,
            1,
            "test",
            "note: the dataset has changed since training; 1 of the 2,000 test images was trained "
            "on, so the score may be too good",
        ),
    ],
)
def test_a_score_says_what_is_to_be_known_about_its_images(changed, count, split, text):
    result = {"n": 2000, "split": split, "dataset_changed": changed, "trained_on_pictures": count}
    assert image_notes(result) == text


def test_each_corruption_has_a_line():
    result = {
        "run": "mine",
        "split": "test",
        "dataset_changed": None,
        "trained_on_pictures": None,
        "n": 2000,
        "top1": 0.9,
        "kinds": {"blur": [0.9, 0.8, 0.7, 0.65, 0.5], "noise": [1, 0.9, 0.8, 0.7, 0]},
    }
    head, *lines = robustness_text(result, (0.886, 0.9124)).splitlines()
    assert "(2,000 images; undamaged 90.00 %, 95 % interval 88.60 % to 91.24 %)" in head
    assert [line.replace(" %", "").split() for line in lines] == [
        ["blur", "90.0", "80.0", "70.0", "65.0", "50.0"],
        ["noise", "100.0", "90.0", "80.0", "70.0", "0.0"],
    ]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a cat, 50 %: fine.", "a cat, 50 %: fine."),
        ("*a* _b_ `c`", r"\*a\* \_b\_ \`c\`"),
        ("[x](y) ![](z) <b>", r"\[x\](y) \!\[\](z) \<b\>"),
        ("a | b ~ c $d$ &lt; \\", r"a \| b \~ c \$d\$ \&lt; \\"),
        ("http://x9 HTTPS://x9", r"http\://x9 HTTPS\://x9"),
        ("www.x9.org WWW.x9.org", r"www\.x9.org WWW\.x9.org"),
        ("a@x9.org", r"a\@x9.org"),
        ("one\n\n# two\r\n three", "one # two three"),
    ],
)
def test_markdown_marks_and_addresses_in_foreign_text_are_escaped(text, markdown):
    assert escape_markdown(text) == markdown


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start):
    assert csv_safe(f"{start}1+2") == f"'{start}1+2"


def test_other_csv_values_stay_as_they_are():
    assert [csv_safe(value) for value in ("cat", "", "1-2", -3, 0.5, None)] == [
        "cat",
        "",
        "1-2",
        -3,
        0.5,
        None,
    ]


def test_an_accuracy_over_few_images_is_a_count():
    assert accuracy_text(11 / 12, 12) == "11 of 12"
    assert accuracy_text(0.938, 1000) == "93.80 %"
    assert accuracy_text(0.938, 0) == "93.80 %"  # an older log does not say of how many


def test_of_few_images_no_line_of_an_evaluation_has_a_percentage_of_them():
    result = {"run": "mine", "dataset": "pets", "split": "test", "n": 12, "top1": 11 / 12}
    result |= {"interval": (0.6461, 0.9851), "loss": 0.5, "macro_f1": 0.9, "beside": None}
    result |= {"dataset_changed": True, "trained_on_pictures": 1, "mode": "plain"}
    result |= {"confusion": [[6, 0], [1, 5]]}
    result |= {"calibration": {"count": [12], "confidence": [0.8], "accuracy": [11 / 12]}}
    result["calibration"]["error"] = 0.1167
    cat = {"label": "cat", "precision": 6 / 7, "recall": 1.0, "f1": 12 / 13, "support": 6}
    dog = {"label": "dog", "precision": 1.0, "recall": 5 / 6, "f1": 10 / 11, "support": 6}
    assert evaluation_text({**result, "per_class": [cat, dog]}).splitlines() == [
        "mine on pets test (12 images): top-1 11 of 12, 95 % interval 65 % to 99 %; loss 0.5000",
        "note: the dataset has changed since training; 1 of the 12 test images was trained on, so "
        "the score may be too good",
        "mean F1 over all classes 90.00 %",
        "mean confidence 80 %, calibration error 12 %",
        "  cat              precision  6 of 7  recall  6 of 6  F1  92.3 %  images 6",
        "  dog              precision  5 of 5  recall  5 of 6  F1  90.9 %  images 6",
    ]
    one = {**result, "n": 1, "top1": 1.0, "interval": (0.2065, 1.0), "dataset_changed": False}
    one |= {"trained_on_pictures": 0, "per_class": [cat, dog], "confusion": [[1, 0], [0, 0]]}
    assert evaluation_text(one).startswith("mine on pets test (1 image): top-1 1 of 1, 95 % ")


def test_of_few_images_comparison_and_robustness_count():
    about = {"split": "test", "dataset_changed": None, "trained_on_pictures": None, "n": 12}
    against = {"first": "mine", "second": "yours", "difference": 2 / 12, "top1_second": 9 / 12}
    against |= {"only_first": [1, 2, 5], "only_second": [7], "p": 0.625, **about}
    assert comparison_text(against).startswith(
        "mine is 2 images above yours (9 of 12): only mine is right on 3 images, only yours on 1 "
        "image\n"
    )
    robust = {"run": "mine", "top1": 11 / 12, "kinds": {"blur": [n / 12 for n in (11, 9, 4, 1, 0)]}}
    head, line = robustness_text({**robust, **about}, (0.6461, 0.9851)).splitlines()
    assert head.endswith("(12 images; undamaged 11 of 12, 95 % interval 65 % to 99 %):")
    words = "blur 11 of 12 9 of 12 4 of 12 1 of 12 0 of 12"
    assert line.split() == words.split()


def test_a_missing_share_is_a_dash():
    assert (share_text(None), share_text(0.0)) == ("–", "0.0 %")


@pytest.mark.parametrize(
    ("curve", "end"),
    [
        ([[50, 180, 244], [100, 205, 244], [200, 230, 244]], "brought 10.2 %, so more would help"),
        (
            [[50, 225, 244], [100, 230, 244], [200, 232, 244]],
            "so more of the same kind may not help",
        ),
        ([[1, 2, 4], [1, 2, 4], [2, 3, 4]], "these are too few to say what more would bring"),
    ],
)
def test_a_learning_curve_is_one_sentence_with_its_counts(curve, end):
    text = learning_curve_text(curve)
    assert text.startswith(f"{curve[0][1]} of {curve[0][2]} right with {curve[0][0]}, ")
    assert text.endswith(end)
    assert learning_curve_text([]) == learning_curve_text(curve[:1]) == ""


def test_the_embedding_pass_and_the_head_have_a_line_each():
    at = {"step": 0, "epoch": 0}
    line = event_text(Embedding(**at, done=64, total=1244, images_per_s=23.6))
    assert line == "embedded 64 of 1,244 images, 24 images/s"
    facts = {"weight_decay": 0.3, "val_loss": 0.1, "val_top1": 0.95, "curve": [], "seconds": 2.0}
    line = event_text(Head(**at, folds=5, **facts))
    assert (
        line == "head: weight decay 0.3, cross-validation in 5 parts loss 0.1000, accuracy 95.00 %"
    )
    assert "validation loss" in event_text(Head(**at, folds=0, **facts))
