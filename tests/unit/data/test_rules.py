import pytest

from resnet_demo.config import make_config
from resnet_demo.data.splits import check_split, steps_per_epoch
from resnet_demo.data.store import Datasets, check_data
from resnet_demo.errors import ConfigError


@pytest.fixture
def check(colours):
    """Check knobs against `colours`: 150 training images of 12 pixels, 135 after the split."""
    base = {"dataset": "colours", "batch_size": 16}
    return lambda **knobs: check_data(make_config({**base, **knobs}), Datasets(colours))


def test_a_config_that_fits_gives_its_dataset(check):
    assert check(batch_size=135, crop=11, cutout=12).name == "colours"


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"batch_size": 136}, "batch_size must be at most the 135 images of colours's .* got 136"),
        ({"crop": 12}, "crop must be less than 12, .* got 12"),
        ({"cutout": 13}, "cutout must be at most 12, .* got 13"),
        ({"dataset": "nope"}, "dataset must be one of .*colours.* got 'nope'"),
    ],
)
def test_a_config_that_does_not_fit_is_told_field_rule_and_value(check, knobs, words):
    with pytest.raises(ConfigError, match=words) as error:
        check(**knobs)
    assert error.value.field in knobs


def test_there_is_no_fourth_split():
    with pytest.raises(ConfigError, match="split must be one of test, val, train, got 'all'"):
        check_split("all")


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"), [(6, 3, 2), (5, 3, 2), (4, 3, 1), (3, 1, 3), (1, 1, 1)]
)
def test_an_epoch_has_a_smaller_last_batch_but_none_of_a_single_image(images, batch_size, steps):
    assert steps_per_epoch(images, batch_size) == steps
