import numpy as np

from resnet_demo.data.info import MIN_STD, PixelStatistics


def test_moments_are_numpys_however_the_images_are_cut_into_chunks():
    images = np.random.RandomState(0).randint(0, 256, (30, 9, 7, 3)).astype(np.uint8)
    moments = PixelStatistics()
    for start in range(0, 30, 7):
        moments.add(images[start : start + 7])
    scaled = images / 255
    np.testing.assert_allclose(moments.mean(), scaled.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(moments.std(), scaled.std((0, 1, 2)), atol=1e-6)
    each = scaled.std((1, 2), ddof=1).mean(0)
    np.testing.assert_allclose(moments.per_image_std(), each, atol=1e-6)


def test_a_channel_that_never_varies_can_still_be_divided_by():
    moments = PixelStatistics()
    moments.add(np.full((2, 8, 8, 3), 255, np.uint8))
    assert moments.mean() == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(moments.std(), MIN_STD, atol=1e-6)
    np.testing.assert_allclose(moments.per_image_std(), MIN_STD, atol=1e-6)
