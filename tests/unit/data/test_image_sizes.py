"""Progressive resizing: sizes, where they change, and what they cost."""

import pytest

from resnet_demo.architectures import MODELS, smallest_image
from resnet_demo.config import make_config
from resnet_demo.data.image_sizes import GROWTH_SHARE, image_size_at, image_sizes, relative_cost


def growing_sizes(**settings):
    return image_sizes(make_config({"grow_from": 0.625, **settings}))


def test_images_grow_in_four_even_sizes_to_image_size():
    assert growing_sizes() == [20, 24, 28, 32]
    assert growing_sizes(image_size=64) == [40, 48, 56, 64]


def test_without_growth_there_is_one_size():
    assert growing_sizes(grow_from=1.0) == [32]
    assert growing_sizes(model="vgg16") == [32]  # it takes no smaller one


def test_no_size_is_smaller_than_the_network_takes():
    for model in MODELS:
        for stem in ("small", "imagenet"):
            minimum = smallest_image(model, stem)
            for size in (minimum, minimum + 1, minimum + 2, 2 * minimum):
                sizes = growing_sizes(model=model, stem=stem, image_size=size, grow_from=0.25)
                assert sizes == sorted(set(sizes))
                assert (min(sizes) >= minimum, sizes[-1]) == (True, size)


def test_each_size_takes_a_fifth_of_the_run_and_the_last_one_the_rest():
    sizes = [20, 24, 28, 32]
    sizes_at = [image_size_at(sizes, step / 100) for step in range(100)]
    assert sizes_at == [20] * 20 + [24] * 20 + [28] * 20 + [32] * 40
    assert image_size_at(sizes, 1.0) == 32
    assert [image_size_at([32], done) for done in (0.0, 0.5, 1.0)] == [32] * 3


def test_relative_cost_is_the_sum_of_the_pixels_of_each_step():
    sizes = [20, 24, 28, 32]
    steps = [(image_size_at(sizes, step / 100) / 32) ** 2 for step in range(100)]
    for done in (0, 1, 20, 33, 60, 99, 100):
        assert relative_cost(sizes, done, 100) == pytest.approx(sum(steps[:done]))
    assert relative_cost(sizes) == pytest.approx(sum(steps) / 100)
    assert relative_cost([32], 7, 12) == 7
    assert GROWTH_SHARE == 0.6
