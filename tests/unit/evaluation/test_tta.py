"""Test-time augmentation, compared with airbench."""

import pytest
import torch
import torch.nn.functional as F

from resnet_demo.evaluation.modes import MODES
from resnet_demo.evaluation.tta import VIEWS, apply_view, mean_logits

IMAGES = torch.randint(
    0, 256, (3, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def airbench(x, net):
    """Return the mean of `infer_mirror_translate` in airbench94.py. x: (B, 3, H, W)."""

    def infer_mirror(inputs):
        return 0.5 * net(inputs) + 0.5 * net(inputs.flip(-1))

    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), "reflect")
    shifted = [padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
    shifted = torch.stack([infer_mirror(inputs) for inputs in shifted]).mean(0)
    return 0.5 * infer_mirror(x) + 0.5 * shifted


def net(x):
    """Return logits that depend on the position of each pixel: (B, 3, H, W) -> (B, 5)."""
    weight = torch.randn(5, x[0].numel(), generator=torch.Generator().manual_seed(1))
    return (x.flatten(1) @ weight.T).relu()


def channels_first(images):
    return images.permute(0, 3, 1, 2).float()


def test_flip_and_shift_is_the_mean_of_airbench():
    logits = [
        net(channels_first(apply_view(IMAGES, steps))) for _, steps in VIEWS["flip-and-shift"]
    ]
    assert len(logits) == 6
    expected = airbench(channels_first(IMAGES), net)
    torch.testing.assert_close(mean_logits(logits, "flip-and-shift"), expected)


def test_flip_is_the_mean_of_the_image_and_its_mirror_image():
    logits = [net(channels_first(apply_view(IMAGES, steps))) for _, steps in VIEWS["flip"]]
    x = channels_first(IMAGES)
    torch.testing.assert_close(mean_logits(logits, "flip"), (net(x) + net(x.flip(3))) / 2)


def test_five_shifts_use_every_row_and_column_from_minus_2_to_2_once_and_mirrored():
    shifts = [(0, 0), (1, 2), (-2, 1), (-1, -2), (2, -1)]
    assert sorted(down for down, _ in shifts) == [-2, -1, 0, 1, 2]
    assert sorted(right for _, right in shifts) == [-2, -1, 0, 1, 2]
    padded = F.pad(channels_first(IMAGES), (2, 2, 2, 2), "reflect")
    height, width = IMAGES.shape[1:3]
    expected = []
    for down, right in shifts:
        x = padded[:, :, 2 - down : 2 - down + height, 2 - right : 2 - right + width]
        expected += [net(x), net(x.flip(3))]
    views = VIEWS["flip-and-five-shifts"]
    logits = [net(channels_first(apply_view(IMAGES, steps))) for _, steps in views]
    mean = torch.stack(expected).mean(0)
    torch.testing.assert_close(mean_logits(logits, "flip-and-five-shifts"), mean)


@pytest.mark.parametrize("mode", VIEWS)
def test_weights_sum_to_one_and_the_plain_view_comes_first(mode):
    assert sum(weight for weight, _ in VIEWS[mode]) == pytest.approx(1)
    assert torch.equal(apply_view(IMAGES, VIEWS[mode][0][1]), IMAGES)


def test_every_mode_except_article_has_views():
    assert {*VIEWS, "article"} == {*MODES}
