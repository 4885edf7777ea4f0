"""Metrics equal those of scikit-learn."""

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, top_k_accuracy_score
from torch.nn import functional as F

from trainingapp.engine.tasks.classification.metrics import ClassificationMeter, class_table, macro_f1

CLASSES = 7


@pytest.fixture
def guesses() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (203,), generator=generator)
    logits = torch.randn(203, CLASSES, generator=generator) + 2 * F.one_hot(labels, CLASSES)
    return logits, labels


@pytest.fixture
def meter(guesses) -> ClassificationMeter:
    meter = ClassificationMeter(CLASSES, torch.device("cpu"), validation=True)
    for logits, labels in zip(*(part.split(32) for part in guesses), strict=True):
        meter.update(F.cross_entropy(logits, labels), logits, labels)
    return meter


def test_values_equal_scikit_learn(guesses, meter) -> None:
    logits, labels = guesses
    best, values = logits.argmax(1), meter.values()
    assert values["top1"] == pytest.approx(accuracy_score(labels, best))
    assert values["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert values["macro_f1"] == pytest.approx(f1_score(labels, best, average="macro"))
    assert values["loss"] == pytest.approx(log_loss(labels, logits.softmax(1)), rel=1e-5)
    assert int(meter.confusion().sum()) == 203
    assert (meter.confusion().numpy() == confusion_matrix(labels, best)).all()


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    labels, best = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 1, 1, 0])
    confusion = torch.from_numpy(confusion_matrix(labels, best, labels=range(5)))
    assert macro_f1(confusion) == pytest.approx(f1_score(labels, best, average="macro"))
    table = class_table(confusion, [*"abcde"])
    assert [row["recall"] for row in table] == [0.5, 1.0, None, 0.0, None]
    assert [row["precision"] for row in table] == [0.5, 0.5, None, None, None]
    assert [row["images"] for row in table] == [2, 1, 0, 1, 0]
    assert macro_f1(torch.zeros(3, 3, dtype=torch.int64)) == 0


def test_two_classes_have_a_top5_of_one() -> None:
    meter = ClassificationMeter(2, torch.device("cpu"), validation=True)
    logits, labels = torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 1])
    meter.update(F.cross_entropy(logits, labels), logits, labels)
    assert meter.values()["top5"] == 1
    assert meter.values()["top1"] == 0.5


def test_state_continues_in_a_restored_meter(guesses, meter) -> None:
    other = ClassificationMeter(CLASSES, torch.device("cpu"), validation=True)
    other.load_state_dict(meter.state_dict())
    assert other.values() == meter.values()
    other.reset()
    assert other.training_values() == {"loss": 0.0, "top1": 0.0}
    assert int(meter.confusion().sum()) == 203
