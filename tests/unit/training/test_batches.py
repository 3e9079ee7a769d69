"""Batches as a function of seed, epoch and step; the shares of several ranks."""

import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.training.batches import Batches, check_rank_batches, rank_share
from tests.unit.training.two_ranks import BASE

CPU = torch.device("cpu")


def test_validation_images_are_never_trained_on(datasets, tiny):
    batches = Batches.load(tiny(val_share=0.2), datasets, CPU)
    train = {image.tobytes() for image in batches.train_images[:].numpy()}
    val = {image.tobytes() for image in batches.val_images[:].numpy()}
    assert (len(train), len(val)) == (120, 30)
    assert not train & val


def test_a_stored_validation_split_is_validated_on_and_all_of_train_is_trained_on(
    datasets, tiny, tmp_path
):
    images, labels = datasets.load("colours", "train")
    with new_dataset(tmp_path, "colours") as folder:
        parts = {"train": slice(0, 100), "val": slice(100, 140), "test": slice(140, 150)}
        statistics = {
            split: write_split(folder, split, [images[part]], labels[part], 12)
            for split, part in parts.items()
        }
        write_info(folder, describe("colours", ("a", "b", "c"), 12, statistics, "a test"))
    batches = Batches.load(tiny(val_share=0.2), Datasets(tmp_path), CPU)
    assert len(batches.train_labels) == 100
    assert (batches.val_images[:].numpy() == images[100:140]).all()
    assert batches.val_labels.tolist() == labels[100:140].tolist()


def test_an_epoch_shows_every_training_image_once(datasets, tiny):
    config = tiny(flip=False, crop=0)
    batches = Batches.load(config, datasets, CPU)
    plan = batches.plan(3)
    assert sorted(plan.order.tolist()) == list(range(135))
    assert plan.order.tolist() != batches.plan(4).order.tolist()
    counts = [len(batches.train_batch(plan, i)[1]) for i in range(batches.steps_per_epoch)]
    assert counts == [20] * 6 + [15]


def test_a_last_batch_of_one_image_is_left_out(datasets, tiny):
    batches = Batches.load(tiny(batch_size=67), datasets, CPU)  # 135 = 2 x 67 + 1
    assert batches.steps_per_epoch == 2


@pytest.mark.parametrize(("images", "ranks"), [(21, 2), (128, 8), (9, 4), (3, 3)])
def test_rank_shares_cover_a_batch_and_differ_by_one_image_at_most(images, ranks):
    shares = [range(images)[rank_share(images, rank, ranks)] for rank in range(ranks)]
    assert [place for part in shares for place in part] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ranks_together_see_the_pixels_that_a_single_process_sees(datasets):
    config = make_config({**BASE, "flip": True, "image_size": 16})
    load = [config, datasets, CPU]
    whole, parts = Batches.load(*load), [Batches.load(*load, rank, 3) for rank in range(3)]
    plan = whole.plan(2)
    for index in (0, whole.steps_per_epoch - 1):
        x, labels = whole.train_batch(plan, index)
        shares = [part.train_batch(plan, index) for part in parts]
        assert torch.equal(torch.cat([share for share, _ in shares]), x)
        assert torch.equal(torch.cat([share for _, share in shares]), labels)


def test_a_batch_size_that_leaves_a_rank_without_images_is_refused():
    check_rank_batches(135, 44, 1)
    check_rank_batches(135, 20, 7)  # 15 are left for the last step
    with pytest.raises(ConfigError, match=r"for each of 8 devices .* it leaves 15 for the last"):
        check_rank_batches(135, 20, 8)
