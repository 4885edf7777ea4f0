"""Time limits with a real trainer: the soft one saves, the hard one does not wait."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.helpers.studio import TINY
from tests.helpers.tiny import make_run
from trainingapp.models import Dataset, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, supervise, worker_id

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

SECOND_H = 1 / 3600


@pytest.fixture
def trained(user: User, tints: Dataset) -> Callable[..., TrainingRun]:
    """`trained(soft_limit_h=..., ...)` trains a long run until something ends it."""

    def train(**limits: Any) -> TrainingRun:
        run = make_run(user, tints, **{**TINY, "epochs": 5000})
        run_verbs.update_run(run, **limits)
        run_verbs.start_run(run)
        claimed = claim_next(HOST, worker_id())
        assert claimed is not None
        supervise(claimed)
        run.refresh_from_db()
        return run

    return train


def test_the_soft_limit_saves_stops_and_can_be_resumed(trained: Callable[..., TrainingRun]) -> None:
    run = trained(soft_limit_h=SECOND_H)
    assert (run.status, run.error_class, run.requested_action) == ("stopped", "time_limit", "")
    assert run.spent_s >= 1
    assert "saved a checkpoint and stopped" in run.error_message
    assert run.checkpoints.get(is_last=True).reason == "stop"
    assert run.checkpoints.get(is_last=True).step == run.step
    run_verbs.resume_run(run)
    assert (run.status, run.spent_s, run.error_class) == ("queued", 0, "")


def test_the_hard_limit_ends_it_at_once(trained: Callable[..., TrainingRun]) -> None:
    run = trained(hard_limit_h=SECOND_H, soft_limit_h=0)
    assert (run.status, run.error_class, run.pid) == ("stopped", "time_limit", None)
    assert "hard time limit" in run.error_message
    assert not run.checkpoints.exists()
