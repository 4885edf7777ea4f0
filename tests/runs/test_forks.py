"""Clones, forks from a checkpoint, and retries."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from trainingapp.contract.config import parse_config
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def saved(run: TrainingRun, **fields: object) -> Checkpoint:
    values = {"file": "epoch_5.pt", "attempt": 1, "epoch": 5, "step": 50, "reason": "epoch", "size_bytes": 1}
    return Checkpoint.objects.create(run=run, sha256="0" * 64, created_at=timezone.now(), **{**values, **fields})


def test_a_clone_has_the_same_configuration_and_another_owner(make: MAKE, other_user: User) -> None:
    run = make("completed")
    clone = run_verbs.clone_run(run, owner=other_user)
    assert (clone.status, clone.config, clone.forked_from, clone.owner) == ("pending", run.config, run, other_user)
    assert clone.name == "try (copy)"


def test_a_fork_continues_from_the_checkpoint(make: MAKE, user: User) -> None:
    run = make("completed")
    config = parse_config({**run.config, "epochs": 30, "learning_rate": 0.01})
    fork = run_verbs.fork_run(run, saved(run), owner=user, config=config)
    assert (fork.forked_from, fork.forked_checkpoint, fork.config["start_from"]) == (run, "epoch_5.pt", "")
    assert fork.config["learning_rate"] == 0.01


def test_a_fork_may_take_only_the_weights(make: MAKE, user: User) -> None:
    run = make("completed")
    config = parse_config({**run.config, "optimizer": "SGD"})
    fork = run_verbs.fork_run(run, saved(run), owner=user, config=config, mode="weights")
    assert (fork.forked_checkpoint, fork.config["start_from"]) == ("", f"run/{run.pk}/epoch_5.pt")


@pytest.mark.parametrize("changes", [{"optimizer": "SGD"}, {"model": "resnet18"}, {"ema_decay": 0.9}])
def test_fields_that_the_state_depends_on_must_not_change(make: MAKE, user: User, changes: dict[str, object]) -> None:
    run = make("completed")
    base = {**run.config, "model": "mobilenet_v3_small"}
    TrainingRun.objects.update(config=base)
    run.refresh_from_db()
    with pytest.raises(VerbError, match=next(iter(changes))):
        run_verbs.fork_run(run, saved(run), owner=user, config=parse_config({**base, **changes}))
    assert TrainingRun.objects.count() == 1


@pytest.mark.parametrize(("reason", "least"), [("epoch", 6), ("pause", 5)])
def test_a_fork_has_something_left_to_train(make: MAKE, user: User, reason: str, least: int) -> None:
    run = make("completed")
    checkpoint = saved(run, reason=reason)
    with pytest.raises(VerbError, match=f"epochs: Must be at least {least}: the checkpoint is from epoch 5"):
        run_verbs.fork_run(run, checkpoint, owner=user, config=parse_config({**run.config, "epochs": least - 1}))
    run_verbs.fork_run(run, checkpoint, owner=user, config=parse_config({**run.config, "epochs": least}))


def test_a_corrupted_or_foreign_checkpoint_is_refused(make: MAKE, user: User) -> None:
    run, other = make("completed"), make("completed")
    config = parse_config(run.config)
    with pytest.raises(VerbError, match="not a valid checkpoint"):
        run_verbs.fork_run(run, saved(run, damage="its hash does not hold"), owner=user, config=config)
    with pytest.raises(VerbError, match="not a valid checkpoint"):
        run_verbs.fork_run(run, saved(other), owner=user, config=config)


def test_a_failed_run_is_retried(make: MAKE) -> None:
    run = make("failed", error_class="lost_worker", recoveries=3)
    run_verbs.retry_run(run)
    run_verbs.retry_run(run)
    assert (run.status, run.recoveries, run.error_class) == ("queued", 0, "")


@pytest.mark.parametrize("status", ["pending", "paused", "completed", "stopped"])
def test_only_failed_runs_are_retried(make: MAKE, status: str) -> None:
    with pytest.raises(VerbError, match="retried"):
        run_verbs.retry_run(make(status))
