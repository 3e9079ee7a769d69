"""The synthetic dataset shapes10."""

import numpy as np
import pytest

from resnet_demo.config import make_config
from resnet_demo.data import shapes
from resnet_demo.data.digests import picture_digests
from resnet_demo.data.info import PixelStatistics
from resnet_demo.data.store import Datasets


@pytest.fixture(scope="module")
def made():
    return shapes.make_shapes10()


@pytest.mark.parametrize("split", ["train", "test"])
def test_both_splits_are_balanced_and_of_the_stated_size(made, split):
    images, labels = made[split]
    count = getattr(shapes.INFO, split)
    assert (images.shape, images.dtype) == ((count, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((count,), np.int64)
    assert np.bincount(labels).tolist() == [count // 10] * 10


def test_the_stated_mean_and_deviations_are_the_measured_ones(made):
    statistics = PixelStatistics()
    statistics.add(made["train"][0])
    for name in ("mean", "std", "per_image_std"):
        measured = getattr(statistics, name)()
        np.testing.assert_allclose(getattr(shapes.INFO, name), measured, atol=1e-5)


def test_the_same_seed_makes_the_same_images_and_another_seed_others(monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", {"train": 20, "test": 10})
    make = shapes.make_shapes10.__wrapped__  # not the cached result
    np.testing.assert_array_equal(make(3)["train"][0], make(3)["train"][0])
    assert (make(3)["train"][0] != make(4)["train"][0]).any()
    assert (make(3)["train"][0][:10] != make(3)["test"][0]).any()


def test_no_image_is_in_both_splits(made):
    train, test = ({image.tobytes() for image in made[split][0]} for split in ("train", "test"))
    assert len(train) == 10_000
    assert not train & test


def test_a_caller_may_write_to_what_it_loads(made, tmp_path):
    datasets = Datasets(tmp_path)
    images, labels = datasets.load("shapes10", "test")
    images[:] = 0
    labels[:] = 0
    again, labels_again = datasets.load("shapes10", "test")
    assert again.any()
    assert labels_again.any()


def test_a_split_to_read_is_not_copied(made, tmp_path):
    config = make_config({"dataset": "shapes10", "stratify": True})
    (images, *_), (same, *_) = (
        Datasets(tmp_path).load_split(config, split) for split in ("train", "val")
    )
    assert images is same is made["train"][0]
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    digests = Datasets(tmp_path).digests("shapes10", "test")
    assert (digests[:9] == picture_digests(made["test"][0][:9])).all()


def test_every_outline_is_about_as_large_as_the_unit_circle():
    axis = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    for name, outline in shapes.OUTLINES.items():
        inside = outline(x, y) < 0
        reach = np.hypot(x, y)[inside].max()
        assert 0.8 < reach < 1.2, name
        assert 0.5 < inside.sum() * 0.01**2 < 2.6, name
