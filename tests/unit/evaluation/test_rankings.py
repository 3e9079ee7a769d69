import pytest
import sklearn.metrics as oracle
import torch

from resnet_demo.evaluation.metrics import confusion_matrix
from resnet_demo.evaluation.rankings import in_cell, least_certain, macro_f1, worst_mistakes

# shares of three classes, and the truth
SHARES = torch.tensor(
    [[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.1, 0.45, 0.45], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]]
)
LOGITS, LABELS = SHARES.double().log(), torch.tensor([1, 1, 2, 1, 0])


def test_a_cell_shows_its_images_the_most_confident_first():
    assert in_cell(LOGITS, LABELS, truth=1, said=0).tolist() == [1, 0]
    assert in_cell(LOGITS, LABELS, truth=0, said=0).tolist() == [4]
    assert in_cell(LOGITS, LABELS, truth=0, said=2).tolist() == []


def test_every_cell_has_as_many_images_as_the_confusion_matrix_counts():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(100, 4, generator=generator), torch.arange(100) % 4
    counted = confusion_matrix(labels, logits.argmax(1), 4)
    for truth in range(4):
        for said in range(4):
            assert len(in_cell(logits, labels, truth, said)) == counted[truth, said]


def test_the_worst_mistakes_are_the_most_confident():
    labels = torch.tensor([1, 1, 0, 1, 0])
    assert worst_mistakes(LOGITS, labels).tolist() == [1, 0, 2]
    assert worst_mistakes(LOGITS, labels, 2).tolist() == [1, 0]


def test_the_least_certain_hesitate_between_two():
    assert least_certain(LOGITS).tolist() == [2, 0, 4, 3, 1]  # margins 0, .3, .5, .6, .85
    assert least_certain(LOGITS, 1).tolist() == [2]


def test_equals_stand_in_the_order_of_the_split():
    logits = torch.zeros(40, 3)
    logits[:, 1] = 1
    assert worst_mistakes(logits, torch.zeros(40).long()).tolist() == list(range(40))
    assert least_certain(logits).tolist() == list(range(40))


def test_nan_is_the_least_certain_and_the_least_of_the_mistakes():
    logits, labels = LOGITS.clone(), torch.tensor([1, 1, 0, 0, 1])
    logits[3] = float("nan")
    labels[3] = (logits[3:4].topk(3).indices[0, 0] + 1) % 3  # whatever is said, it is wrong
    assert least_certain(logits)[:2].tolist() == [2, 3]  # both have margin 0
    assert worst_mistakes(logits, labels)[-1] == 3


def test_one_image_of_one_class():
    logits, labels = torch.zeros(1, 1), torch.zeros(1).long()
    assert least_certain(logits).tolist() == in_cell(logits, labels, 0, 0).tolist() == [0]
    assert worst_mistakes(logits, labels).tolist() == []


def test_macro_f1_is_scikit_learn_s_over_all_classes():
    generator = torch.Generator().manual_seed(0)
    labels, said = torch.randint(0, 5, (2, 200), generator=generator)
    confusion = confusion_matrix(labels, said, 6)  # the sixth is neither there nor said
    expected = oracle.f1_score(labels, said, labels=range(6), average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)
    assert macro_f1(confusion.tolist()) == pytest.approx(expected)
