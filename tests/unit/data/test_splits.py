"""The split of the training images."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_demo.config import TrainConfig
from resnet_demo.data import split_indices
from resnet_demo.data.splits import (
    check_split,
    config_split,
    held_out_counts,
    split_sizes,
    steps_per_epoch,
    stratified_split,
)
from resnet_demo.errors import ConfigError


@pytest.mark.parametrize("n", [50_000, 1_001])
def test_the_split_is_that_of_the_tutorials_code(n: int):
    indices = list(range(n))
    split = int(np.floor(0.1 * n))
    np.random.seed(42)
    np.random.shuffle(indices)
    train, val = split_indices(n, 0.1, 42)
    assert train.tolist() == indices[split:]
    assert val.tolist() == indices[:split]
    assert train.dtype == val.dtype == np.int64


def test_the_global_random_state_is_unchanged():
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    split_indices(100, 0.1, 42)
    assert np.random.rand() == expected


def test_both_parts_are_non_empty_even_for_a_few_images():
    assert [len(part) for part in split_indices(5, 0.01, 0)] == [4, 1]
    assert [len(part) for part in split_indices(2, 0.99, 0)] == [1, 1]
    assert [len(part) for part in split_indices(1, 0.5, 0)] == [1, 0]
    assert [len(part) for part in split_indices(5, 0.0, 0)] == [5, 0]
    assert [len(part) for part in split_indices(0, 0.1, 0)] == [0, 0]


def test_another_seed_gives_another_split():
    assert split_indices(100, 0.1, 1)[1].tolist() != split_indices(100, 0.1, 2)[1].tolist()


@pytest.mark.parametrize("counts", [(50, 50), (100, 10, 31), (2, 3, 200), (1, 5, 15)])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_stratified_split_holds_out_the_share_of_each_class(counts, share):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    train, val = stratified_split(labels, share, 7)
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert train.dtype == val.dtype == np.int64
    held_out = np.bincount(labels[val], minlength=len(counts))
    for count, held in zip(counts, held_out, strict=True):
        assert abs(held - share * count) <= 0.5 or held == 1 or (count, held) == (1, 0)
        assert held < count
        assert held or count == 1
    assert held_out.tolist() == held_out_counts(counts, share)
    again, other = (stratified_split(labels, share, seed)[0].tolist() for seed in (7, 8))
    assert train.tolist() == again != other
    assert train.tolist() != sorted(train.tolist())  # the first ones are a random sample


def test_few_training_images_of_a_stratified_split_are_as_many_of_each_class():
    labels = np.random.default_rng(0).choice(3, 400, p=[0.7, 0.2, 0.1])
    config = TrainConfig(stratify=True, val_share=0.2, seed=5)
    whole, val = config_split(400, config, labels=labels)
    few, same = config_split(400, replace(config, train_images=30), labels=labels)
    assert np.bincount(labels[few]).tolist() == [10, 10, 10]
    assert same.tolist() == val.tolist()
    assert few.tolist() == [place for place in whole if place in few]  # the shuffled order
    # A class with fewer gives all that it has; more images contain the fewer ones.
    more, _ = config_split(400, replace(config, train_images=200), labels=labels)
    counts = np.bincount(labels[more])
    assert (len(more), counts[2]) == (200, np.bincount(labels[whole])[2])
    assert set(few) <= set(more)


def test_with_one_image_a_class_a_stratified_split_is_the_plain_one():
    for mine, plain in zip(
        stratified_split(np.arange(9), 0.2, 3), split_indices(9, 0.2, 3), strict=True
    ):
        assert mine.tolist() == plain.tolist()


def test_only_three_splits_exist():
    with pytest.raises(ConfigError, match="split must be one of test, val, train, got 'all'"):
        check_split("all")


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"), [(6, 3, 2), (5, 3, 2), (4, 3, 1), (3, 1, 3), (1, 1, 1)]
)
def test_an_epoch_has_a_smaller_last_batch_but_none_of_a_single_image(images, batch_size, steps):
    assert steps_per_epoch(images, batch_size) == steps


def test_a_stored_validation_split_leaves_all_training_images_to_train_on():
    config = TrainConfig(val_share=0.5, seed=3, stratify=False)
    train, val = config_split(8, config, 5)
    assert (sorted(train.tolist()), len(val)) == (list(range(8)), 0)
    assert split_sizes(config, 8, stored_val=5) == (8, 5)
    stratified = replace(config, stratify=True)
    again, _ = config_split(8, stratified, 5)
    assert again.tolist() == train.tolist()
    assert split_sizes(config, 8) == tuple(map(len, config_split(8, config))) == (4, 4)
