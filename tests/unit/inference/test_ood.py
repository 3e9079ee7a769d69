"""Energies, thresholds and AUROC against oracles, and the synthetic images."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_distances

from resnet_demo.inference.ood import (
    OOD_IMAGES,
    auroc,
    energy,
    energy_threshold,
    flat_colours,
    neighbour_distance,
    neighbour_metric,
    ood_metric,
    sample_known,
)

NAN, INF = float("nan"), float("inf")
LOGITS = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) * 4


def test_the_energy_matches_scipy():
    np.testing.assert_allclose(energy(LOGITS), -logsumexp(LOGITS.double().numpy(), axis=1))
    assert energy(torch.tensor([[900.0, 900.0]])).item() == pytest.approx(-900 - np.log(2))


def test_the_distance_is_the_cosine_distance_to_the_nearest():
    x, known = LOGITS[:20], LOGITS[20:]
    expected = cosine_distances(x.numpy(), known.numpy()).min(1)
    np.testing.assert_allclose(neighbour_distance(x, known), expected, atol=1e-6)
    assert neighbour_distance(torch.full((1, 7), NAN), known).item() == 2


def test_the_limit_of_the_distance_is_set_without_comparing_an_image_with_itself():
    labels = torch.arange(200) % 4
    metric, known = neighbour_metric(LOGITS, labels, None)
    assert torch.equal(known, LOGITS.half())
    distances = cosine_distances(known.float().numpy())
    np.fill_diagonal(distances, 2)
    limit = np.quantile(distances.min(1), 0.95, method="inverted_cdf")
    assert metric["threshold"] == pytest.approx(limit, abs=1e-6)
    held_out = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    metric, known = neighbour_metric(LOGITS, labels, held_out)
    flagged = neighbour_distance(held_out, known) > metric["threshold"]
    assert (metric["n"], int(flagged.sum())) == (50, 2)
    assert neighbour_metric(LOGITS[:1], labels[:1], None) is None
    assert "left_out" not in neighbour_metric(LOGITS[:2], labels[:2], None)[0]


def test_each_class_is_left_out_to_count_what_the_distance_misses():
    labels = torch.arange(200) % 4
    metric, known = neighbour_metric(LOGITS, labels, None)
    missed = 0
    for label in range(4):
        rest, new = known[labels != label].float(), known[labels == label].float()
        within = cosine_distances(rest.numpy())
        np.fill_diagonal(within, 2)
        limit = np.quantile(within.min(1), 0.95, method="inverted_cdf")
        missed += int((cosine_distances(new.numpy(), rest.numpy()).min(1) <= limit).sum())
    assert metric["left_out"] == {"missed": missed, "n": 200}
    assert 150 < missed < 200  # these classes have no meaning
    apart = LOGITS + 100 * torch.eye(7)[labels]
    assert neighbour_metric(apart, labels, None)[0]["left_out"] == {"missed": 0, "n": 200}


def test_the_known_images_are_a_sample_of_a_fixed_seed():
    chosen = sample_known(1200, seed=3)
    assert torch.equal(chosen, sample_known(1200, seed=3))
    assert len(set(chosen.tolist())) == 1000
    assert torch.equal(chosen, chosen.sort().values)
    assert sample_known(7, seed=3).tolist() == [*range(7)]


def test_nan_has_the_highest_energy():
    rows = [[NAN, 1.0], [-INF, -INF], [INF, 0.0]]
    assert energy(torch.tensor(rows)).tolist() == [INF, INF, -INF]


@pytest.mark.parametrize("share", [0, 0.01, 0.05, 0.3, 1])
@pytest.mark.parametrize("n", [1, 20, 33, 200])
def test_at_most_the_allowed_share_exceeds_the_threshold(share, n):
    threshold = energy_threshold(LOGITS[:n], share)
    energies = energy(LOGITS[:n])
    assert (energies > threshold).double().mean() <= share
    assert (energies >= threshold).double().mean() > share or share == 1  # a lower one would not do


def test_the_threshold_is_numpys_95th_percentile():
    expected = np.quantile(energy(LOGITS).numpy(), 0.95, method="inverted_cdf")
    assert energy_threshold(LOGITS) == expected


def test_the_stored_metric_holds_threshold_share_and_number_of_images():
    assert ood_metric(LOGITS) == {
        "threshold": energy_threshold(LOGITS, 0.05),
        "false_alarms": 0.05,
        "n": 200,
    }


@pytest.mark.parametrize("logits", [torch.zeros(0, 3), LOGITS * NAN, LOGITS * INF, -LOGITS * INF])
def test_no_metric_is_stored_without_images_or_for_nan(logits):
    assert ood_metric(logits) is None


@pytest.mark.parametrize(("n", "m", "levels"), [(1, 1, 2), (40, 30, 5), (300, 7, 1000)])
def test_auroc_matches_scikit_learn_also_with_ties(n, m, levels):
    generator = torch.Generator().manual_seed(n)
    inside = torch.randint(0, levels, (n,), generator=generator)
    outside = torch.randint(0, levels, (m,), generator=generator) + levels // 4
    truth = [0] * n + [1] * m
    expected = roc_auc_score(truth, torch.cat([inside, outside]))
    assert auroc(inside, outside) == pytest.approx(expected)
    assert auroc(outside, inside) == pytest.approx(1 - expected)


def test_nan_counts_as_the_highest_score():
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([NAN])) == 1
    assert auroc(torch.tensor([NAN]), torch.tensor([INF])) == 0.5


@pytest.mark.parametrize("name", OOD_IMAGES)
@pytest.mark.parametrize("n", [1, 3])
def test_synthetic_images_are_determined_by_the_seed(name, n):
    first, same, other = (OOD_IMAGES[name](n, 32, seed) for seed in (0, 0, 1))
    assert (first.shape, first.dtype) == ((n, 32, 32, 3), torch.uint8)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert all(not torch.equal(first[0], image) for image in first[1:])


def test_noise_is_uniform():
    counts = OOD_IMAGES["uniform noise"](4, 64, 0).flatten().bincount(minlength=256)
    assert ((counts - 192).abs() < 6 * 192**0.5).all()  # six standard deviations of 192


def test_flat_colours_are_flat():
    pictures = flat_colours(5, 9, 0)
    assert torch.equal(pictures, pictures[:, :1, :1].expand(5, 9, 9, 3))


def test_screenshots_are_mostly_background_with_contrasting_text():
    for page in OOD_IMAGES["screenshots of text"](3, 256, 0):
        colours, counts = page.flatten(0, 1).unique(dim=0, return_counts=True)
        paper, ink = colours[counts.topk(2).indices].int()
        assert 0.6 < counts.max() / 256**2 < 0.99
        assert (paper - ink).abs().min() > 100
