import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from resnet_demo.inference import neighbours
from resnet_demo.inference.neighbours import embed_images, nearest
from resnet_demo.models import build_model

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (7, 16, 16, 3), dtype=torch.uint8, generator=GENERATOR)
LIBRARY = torch.randn(50, 8, generator=GENERATOR) * torch.linspace(0.1, 30, 50)[:, None]
QUERIES = torch.randn(4, 8, generator=GENERATOR)


def prepare(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("resnet20", 7).train()


@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_the_head_makes_logits_of_what_it_is_given(model, batch_size):
    features = embed_images(model, prepare, IMAGES, batch_size)
    assert model.training
    assert (features.shape, features.requires_grad) == ((7, 64), False)
    logits = model.eval()(prepare(IMAGES))
    torch.testing.assert_close(model.head(features), logits)


def test_features_are_float32_whatever_the_network_computes_in(model):
    features = embed_images(model.bfloat16(), lambda images: prepare(images).bfloat16(), IMAGES)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_nearest_are_scikit_learn_s(k):
    similarity, places = nearest(QUERIES, LIBRARY, k)
    oracle = NearestNeighbors(n_neighbors=k, metric="cosine").fit(LIBRARY)
    distances, expected = oracle.kneighbors(QUERIES)
    assert places.tolist() == expected.tolist()
    torch.testing.assert_close(1 - similarity, torch.tensor(distances), rtol=1e-4, atol=1e-5)


def test_the_whole_library_is_all_there_is():
    assert nearest(QUERIES[:1], LIBRARY[:3], 10)[1].shape == (1, 3)


def test_a_query_of_the_library_finds_itself():
    similarity, places = nearest(LIBRARY, LIBRARY, 1)
    assert places.flatten().tolist() == list(range(50))
    assert similarity.max() <= 1


def test_nothing_is_like_nothing_and_nan_is_never_near():
    library = torch.tensor([[float("nan"), 0.0], [0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    similarity, places = nearest(torch.tensor([[1.0, 1.0]]), library, 4)
    assert places.tolist() == [[2, 1, 3, 0]]
    assert similarity[0].tolist() == pytest.approx([1, 0, -(0.5**0.5), -1])


def test_a_library_compared_in_parts_gives_the_same(monkeypatch):
    whole = nearest(QUERIES, LIBRARY, 5)
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    for part, expected in zip(nearest(QUERIES, LIBRARY, 5), whole, strict=True):
        torch.testing.assert_close(part, expected)
