import pytest
import torch

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.evaluation.intervals import wilson
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import predict
from resnet_demo.learn.surgery_accuracy import Patient
from resnet_demo.models.zoo import build_model
from resnet_demo.paths import Paths


@pytest.fixture(scope="module")
def patient(finished, colours):
    return Patient.of(Classifier.of(finished), Datasets(colours))


def test_untouched_it_does_as_an_evaluation_says(patient):
    model, prepare = patient.classifier.saved.model, patient.classifier.preprocessing.prepare
    right = int((predict(model, prepare, patient.images).argmax(1) == patient.labels).sum())
    outcome = patient.after()
    assert (outcome.top1, outcome.n) == (right / 30, 30)  # all there are
    assert outcome.interval == wilson(right, 30)


def test_an_operation_counts_the_operated_networks_answers(patient):
    model = patient.classifier.saved.model
    one = patient.after(0.0, ["stages.0.1"])
    assert one.top1 == patient.after(0.0).top1  # at strength 0 no branch is left to leave out
    outcomes = dict(patient.each_dropped())
    assert list(outcomes) == patient.blocks
    assert len(outcomes) == 9
    assert outcomes["stages.0.1"] == patient.after(dropped=["stages.0.1"])
    assert patient.classifier.saved.model is model


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), None, "1", True])
def test_a_strength_that_cannot_be_is_refused(patient, strength):
    with pytest.raises(ConfigError, match="strength must be a number from 0 to 2, got"):
        patient.after(strength)


def test_a_network_without_blocks_is_no_patient(patient, colours):
    classifier = patient.classifier
    saved = classifier.saved
    bare = type(saved)(**{**vars(saved), "model": build_model("vgg16", 3)})
    with pytest.raises(ConfigError, match="has no blocks to operate on"):
        Patient.of(Classifier(classifier.run, bare), Datasets(colours))


def test_without_the_images_it_says_how_to_get_them(patient, tmp_path):
    empty = Paths(tmp_path / "runs", tmp_path / "data")
    with pytest.raises(NotFoundError):
        Patient.of(patient.classifier, Datasets(empty.data))


def test_images_are_the_same_every_time(patient, colours):
    again = Patient.of(patient.classifier, Datasets(colours))
    assert torch.equal(again.images, patient.images)
