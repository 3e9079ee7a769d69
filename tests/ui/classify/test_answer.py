import math

import pytest

from resnet_demo.inference.classification import Missed, OodVerdict
from resnet_demo.ui.classify.answer import class_list, fit_text, gauge, needle_position

HOSTILE = "<img src=x onerror=alert(1)> *x* ${1}"


def verdict(energy, threshold=-3.0):
    return OodVerdict(energy, threshold, 0.05, 5000)


def test_the_needle_passes_the_limit_exactly_when_the_picture_is_flagged():
    energies = [-30, -6, -3.001, -3, -2.999, -2.5, 4]
    positions = [needle_position(verdict(energy), 10) for energy in energies]
    assert positions == sorted(positions)
    flagged = [verdict(energy).is_ood for energy in energies]
    assert [position > 200 / 3 for position in positions] == flagged
    assert (positions[0], positions[-1]) == (1, 99)
    all_zero = needle_position(verdict(-math.log(10)), 10)  # logits that are all 0
    assert all_zero == pytest.approx(99)


def test_the_needle_of_a_distance_passes_the_limit_when_the_picture_is_flagged():
    def distance(score):
        return OodVerdict(score, 0.5, 0.05, 244, "distance")

    scores = [0, 0.2, 0.499, 0.5, 0.501, 0.7, 1]
    positions = [needle_position(distance(score), 10) for score in scores]
    assert positions == sorted(positions)
    assert [position > 200 / 3 for position in positions] == [distance(s).is_ood for s in scores]
    assert (positions[0], positions[-1]) == (1, 99)
    flagged = gauge(distance(0.7), 2)
    assert "5 % of the images of the classes are flagged, too." in flagged
    assert "Here it is 0.70, above the limit of 0.50" in flagged
    assert (
        "In a test that left out each class in turn, <strong>26 of 90 pictures of the class left "
        "out</strong> were not flagged either."
    ) in gauge(distance(0.2), 2, Missed(26, 90, is_left_out=True))


def test_the_gauge_says_what_it_means_and_how_often_it_is_wrong():
    missed = Missed(38, 100)
    flagged, not_flagged = gauge(verdict(-2.5), 10, missed), gauge(verdict(-5), 10, missed)
    assert "This may be none of the classes" in flagged
    assert "5 % of the validation images are flagged, too." in flagged
    assert "38 of 100" not in flagged
    assert "−2.50, above the limit of −3.00" in flagged
    assert "none of the classes" not in not_flagged
    assert "Not flagged" in not_flagged
    assert "38 of 100 pictures of other things</strong> (plain colours, text) were" in not_flagged
    assert "−5.00, not above the limit" in not_flagged
    for html in (flagged, not_flagged):
        assert "5 % of the 5,000 validation images exceed it" in html
    assert "No warning possible" in gauge(None, 10)


def test_the_gauge_takes_the_same_space_before_its_misses_are_counted():
    assert '<p class="error-rate">&nbsp;</p>' in gauge(verdict(-5), 10)


def test_class_names_are_shown_as_text():
    text = class_list((HOSTILE, "a\nb", "_c_"))
    assert text.startswith("3 classes: ")
    assert r"*\<img src=x onerror=alert(1)\> \*x\* \${1}*" in text
    assert r"*a b* *\_c\_*" in text


def test_the_text_on_the_fits_is_right_for_the_picture():
    wide = fit_text(300, 450, 30)
    assert "450 × 300 pixels, reduced to 30 × 30" in wide
    assert "each covers 10 × 10" in wide
    assert "cuts off 33 %, the sides" in wide
    assert "distorted 1.5 times" in wide
    tall = fit_text(60, 30, 30)
    assert "cuts off 50 %, the top and bottom" in tall
    assert "each covers" not in tall
    assert "all three ways are the same" in fit_text(32, 32, 32)
