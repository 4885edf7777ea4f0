"""Creating runs: what is stored, and what is refused with an explanation."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from trainingapp.contract.config import correct_config, parse_config
from trainingapp.contract.messages import from_data
from trainingapp.models import Dataset, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs

pytestmark = pytest.mark.django_db


def create(user: User, dataset: Dataset, **fields: Any) -> TrainingRun:
    given = {"name": "try", "config": parse_config({"epochs": 7}), **fields}
    return run_verbs.create_run(owner=user, dataset=dataset, **given)


def test_a_new_run_is_pending_and_complete(user: User, dataset: Dataset) -> None:
    _config, corrections = correct_config({"image_size": 60})
    run = create(user, dataset, corrections=corrections, priority=3)
    run.refresh_from_db()
    assert (run.status, run.total_epochs, run.priority) == ("pending", 7, 3)
    assert [from_data(stored) for stored in run.corrections] == corrections
    assert run.config["learning_rate"] == 0.001, "defaults are stored: a later default changes no old run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "importing"}, "not ready"),
        ({"status": "refused"}, "not ready"),
        ({"tasks": ["detection"]}, "is for detection"),
        ({"images": {"train": 8, "val": 0}}, "for training and for validation"),
        ({"images": {"val": 8}}, "for training and for validation"),
        ({"classes": ["blue"]}, r"too few classes for this task \(at least 2\)"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_is_refused(
    user: User, dataset: Dataset, change: dict[str, Any], message: str
) -> None:
    Dataset.objects.update(**change)
    dataset.refresh_from_db()
    with pytest.raises(VerbError, match=message):
        create(user, dataset)
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize("fields", [{"name": "  "}, {"name": "x" * 121}, {"priority": -1001}])
def test_a_wrong_name_or_priority_is_refused(user: User, dataset: Dataset, fields: dict[str, Any]) -> None:
    with pytest.raises(VerbError):
        create(user, dataset, **fields)
