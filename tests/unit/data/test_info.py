"""Pixel statistics of a dataset."""

import numpy as np

from resnet_demo.data.info import MIN_STD, PixelStatistics


def test_statistics_are_those_of_numpy_for_any_chunks():
    images = np.random.RandomState(0).randint(0, 256, (30, 9, 7, 3)).astype(np.uint8)
    statistics = PixelStatistics()
    for start in range(0, 30, 7):
        statistics.add(images[start : start + 7])
    scaled = images / 255
    np.testing.assert_allclose(statistics.mean(), scaled.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(statistics.std(), scaled.std((0, 1, 2)), atol=1e-6)
    each = scaled.std((1, 2), ddof=1).mean(0)
    np.testing.assert_allclose(statistics.per_image_std(), each, atol=1e-6)


def test_the_sums_of_many_pixels_are_exact():
    images = np.full((5, 300, 301, 3), 255, np.uint8)  # more than one chunk; 2**32 in the squares
    statistics = PixelStatistics()
    statistics.add(images)
    count = 5 * 300 * 301
    assert statistics.total.tolist() == [255 * count] * 3
    assert statistics.squares.tolist() == [255**2 * count] * 3


def test_the_deviation_of_a_constant_channel_is_not_zero():
    statistics = PixelStatistics()
    statistics.add(np.full((2, 8, 8, 3), 255, np.uint8))
    assert statistics.mean() == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(statistics.std(), MIN_STD, atol=1e-6)
    np.testing.assert_allclose(statistics.per_image_std(), MIN_STD, atol=1e-6)
