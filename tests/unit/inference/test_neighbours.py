"""Embeddings, the index of the training images, and the nearest of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from resnet_demo.data.pictures import FITS
from resnet_demo.data.splits import stratified_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, StoppedError
from resnet_demo.inference import neighbours
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.neighbours import embed_images, index_training_images, nearest
from resnet_demo.models import build_model

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (7, 16, 16, 3), dtype=torch.uint8, generator=GENERATOR)
LIBRARY = torch.randn(50, 8, generator=GENERATOR) * torch.linspace(0.1, 30, 50)[:, None]
QUERIES = torch.randn(4, 8, generator=GENERATOR)
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def prepare(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("resnet20", 7).train()


@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_the_head_turns_embeddings_into_logits(model, batch_size):
    embeddings = embed_images(model, prepare, IMAGES, batch_size)
    assert model.training
    assert (embeddings.shape, embeddings.requires_grad) == ((7, 64), False)
    logits = model.eval()(prepare(IMAGES))
    torch.testing.assert_close(model.head(embeddings), logits)


def test_embeddings_are_float32_whatever_the_network_computes_in(model):
    embeddings = embed_images(model.bfloat16(), lambda images: prepare(images).bfloat16(), IMAGES)
    assert embeddings.dtype == torch.float32


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_nearest_match_scikit_learn(k):
    similarity, rows = nearest(QUERIES, LIBRARY, k)
    oracle = NearestNeighbors(n_neighbors=k, metric="cosine").fit(LIBRARY)
    distances, expected = oracle.kneighbors(QUERIES)
    assert rows.tolist() == expected.tolist()
    torch.testing.assert_close(1 - similarity, torch.tensor(distances), rtol=1e-4, atol=1e-5)


def test_a_small_library_is_returned_completely():
    assert nearest(QUERIES[:1], LIBRARY[:3], 10)[1].shape == (1, 3)


def test_a_query_in_the_library_finds_itself():
    similarity, rows = nearest(LIBRARY, LIBRARY, 1)
    assert rows.flatten().tolist() == list(range(50))
    assert similarity.max() <= 1


def test_a_zero_vector_has_similarity_0_and_nan_minus_1():
    library = torch.tensor([[float("nan"), 0.0], [0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    similarity, rows = nearest(torch.tensor([[1.0, 1.0]]), library, 4)
    assert rows.tolist() == [[2, 1, 3, 0]]
    assert similarity[0].tolist() == pytest.approx([1, 0, -(0.5**0.5), -1])


def test_comparing_in_chunks_gives_the_same(monkeypatch):
    whole = nearest(QUERIES, LIBRARY, 5)
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    for part, expected in zip(nearest(QUERIES, LIBRARY, 5), whole, strict=True):
        torch.testing.assert_close(part, expected)


# --- the index of a run


@pytest.fixture(scope="module")
def classifier(finished):
    return Classifier.load(finished)


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture(scope="module")
def index(finished, datasets):
    return index_training_images(Classifier.load(finished), datasets)


def test_the_index_holds_the_embeddings_of_the_training_split_only(
    finished, datasets, index, classifier
):
    images, labels = datasets.load("colours", "train")
    config = finished.config()
    train, _ = stratified_split(labels, config.val_share, config.seed)
    assert index.places.tolist() == sorted(train)
    np.testing.assert_array_equal(index.labels, labels[index.places])
    assert (index.features.dtype, index.weights) == (torch.float16, classifier.saved.sha256)
    chosen = torch.from_numpy(images[index.places.numpy()])
    model, prepare = classifier.saved.model, classifier.preprocessing.prepare
    expected = embed_images(model, prepare, chosen).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(index.features.float(), expected, atol=2e-3)


@pytest.mark.parametrize("fit", FITS)
def test_similar_images_have_the_largest_cosines_by_numpy(classifier, index, datasets, fit):
    seen = torch.tensor(classifier.classify(PICTURE, fit=fit).seen)[None]
    query = embed_images(classifier.saved.model, classifier.preprocessing.prepare, seen)
    library, query = index.features.double().numpy(), query[0].double().numpy()
    cosines = library @ query / np.linalg.norm(library, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines, kind="stable")[:5]
    found = classifier.similar_images(PICTURE, index, fit)
    assert [cosine for _, cosine, _ in found] == pytest.approx(cosines[best], abs=1e-3)
    classes, labels = classifier.saved.classes, datasets.load("colours", "train")[1]
    for position, cosine, label in found:
        row = index.places.tolist().index(position)
        assert cosine == pytest.approx(cosines[row], abs=1e-3)
        assert label == classes[labels[position]]


def test_a_training_image_is_most_similar_to_itself(classifier, index, datasets):
    images, _ = datasets.load("colours", "train")
    for position in index.places[:5].tolist():
        [(_, cosine, _)] = classifier.similar_images(images[position], index, limit=1)
        assert cosine == pytest.approx(1, abs=1e-3)


def test_an_index_of_other_weights_is_refused(classifier, index):
    with pytest.raises(ConfigError, match="made with other weights"):
        classifier.similar_images(PICTURE, replace(index, weights="0" * 64))


def test_indexing_reports_progress_after_each_batch_and_can_be_stopped(
    finished, datasets, monkeypatch
):
    monkeypatch.setattr(neighbours, "evaluation_batch_size", lambda _: 50)
    progress = []
    index = index_training_images(
        Classifier.load(finished), datasets, lambda *done: progress.append(done)
    )
    assert progress == [(50, 135), (100, 135), (135, 135)]
    assert len(index.features) == 135

    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        index_training_images(Classifier.load(finished), datasets, stop)


def test_an_index_needs_the_images(finished, tmp_path):
    with pytest.raises(NotFoundError, match="got 'colours'"):
        index_training_images(Classifier.load(finished), Datasets(tmp_path))
