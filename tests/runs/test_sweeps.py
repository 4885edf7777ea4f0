"""A sweep from its first trial to its last: what is created, pruned and ended, decided from the rows alone."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.sweeps import begin, make_sweep, measure, train
from trainingapp.models import AuditEntry, Dataset, Notification, Sweep, TrainingRun, Trial
from trainingapp.models.sweep import Origin, Pruner, Sampler, SweepStatus, TrialState
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.presentation.messages import rendered_data
from trainingapp.runs.control import pause_run, resume_run, start_run, stop_run
from trainingapp.runs.forks import clone_run
from trainingapp.runs.records import delete_run
from trainingapp.runs.sweeps.advance import TRIAL_PRIORITY, advance, due_sweeps
from trainingapp.runs.sweeps.verbs import (
    change_sweep,
    delete_sweep,
    enqueue_trial,
    pause_sweep,
    resume_sweep,
    share_sweep,
    stop_sweep,
)
from trainingapp.scheduling.placement import queued_runs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake-ups go nowhere: these tests advance the sweeps themselves."""
    monkeypatch.setattr("trainingapp.worker.tasks.advance_sweeps", lambda: None)


def queued(sweep: Sweep) -> TrainingRun:
    """The run that the sweep has queued."""
    return TrainingRun.objects.get(trial__sweep=sweep, status="queued")


def finish(sweep: Sweep, most: int = 100) -> list[Trial]:
    """Train what the sweep creates, until it creates nothing."""
    for _count in range(most):
        advance(sweep.pk)
        run = TrainingRun.objects.filter(trial__sweep=sweep, status="queued").first()
        if run is None:
            break
        train(run)
    sweep.refresh_from_db()
    return list(sweep.trials.order_by("number"))


def test_every_trial_is_tried_once(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, sampler=Sampler.TPE, max_trials=12)
    trials = finish(sweep)
    assert [trial.number for trial in trials] == list(range(12))
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert [trial.value for trial in trials] == [trial.run and trial.run.best_metric for trial in trials]
    assert all(trial.curve[-1] == [3, trial.value] for trial in trials)
    assert [trial.origin for trial in trials] == [Origin.BASE] + [Origin.SUGGESTED] * 11
    assert trials[0].params == {"learning_rate": 0.001}
    assert sweep.status == SweepStatus.COMPLETED
    assert rendered_data(sweep.reason_data) == "All 12 trials are finished."
    assert due_sweeps() == []


def test_a_trial_is_a_run_of_its_owner_below_other_runs(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, config={"batch_size": 16})
    share_sweep(sweep, "private")
    advance(sweep.pk)
    run = queued(sweep)
    assert (run.name, run.owner, run.visibility) == ("search #0", user, "private")
    assert run.config["batch_size"] == 16
    assert run.priority == TRIAL_PRIORITY
    own = start_run(
        TrainingRun.objects.create(owner=user, name="mine", dataset=dataset, config=run.config, task=run.task)
    )
    assert list(queued_runs()) == [own, run]


def test_a_copy_of_a_trial_is_a_run_like_others(user_client: Client, user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset)
    advance(sweep.pk)
    run = queued(sweep)
    assert clone_run(run, owner=user).priority == 0
    form = user_client.get(f"{reverse('run_new')}?clone={run.pk}").context["form"]
    assert form["priority"].value() == 0


def test_people_share_the_devices_whatever_their_concurrency(user: User, dataset: Dataset) -> None:
    """A person with many running trials waits behind one with few."""
    other = User.objects.create_user("bo")
    large, small = make_sweep(user, dataset, concurrency=4), make_sweep(other, dataset)
    for _count in range(3):
        advance(large.pk)
        begin(queued(large))
    advance(large.pk)
    advance(small.pk)
    assert list(queued_runs()) == [queued(small), queued(large)]


def test_as_many_trials_as_allowed_and_one_that_waits(user: User, dataset: Dataset) -> None:
    """Only one trial waits for a device: the next is chosen when it starts, with all that is known then."""
    sweep = make_sweep(user, dataset, concurrency=2)
    advance(sweep.pk)
    assert sweep.trials.filter(run__isnull=False).count() == 1
    assert due_sweeps() == []
    begin(queued(sweep))
    assert due_sweeps() == [sweep.pk]
    advance(sweep.pk)
    begin(queued(sweep))
    advance(sweep.pk)
    assert sweep.trials.count() == 2


def test_a_failed_run_is_a_failed_trial(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=2)
    advance(sweep.pk)
    begin(queued(sweep))
    TrainingRun.objects.get(trial__sweep=sweep).transition("failed")
    trial = sweep.trials.get(number=0)
    assert (trial.state, trial.value) == (TrialState.FAILED, None)


def test_a_sweep_whose_trials_all_fail_is_paused(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=50)
    for _count in range(5):
        advance(sweep.pk)
        train(queued(sweep), "failed")
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert sweep.status == SweepStatus.PAUSED
    assert sweep.trials.count() == 5
    assert "the last 5 trials failed" in rendered_data(sweep.reason_data)
    resume_sweep(sweep)
    advance(sweep.pk)
    assert sweep.trials.count() == 6


def test_values_that_do_not_go_together_cost_no_training(user: User, dataset: Dataset) -> None:
    """Nothing of the studio's own metadata rules this out before: the check of the configuration does."""
    sweep = make_sweep(user, dataset, max_trials=3)
    Trial.objects.filter(sweep=sweep, number=0).update(params={"learning_rate": 99.0})
    advance(sweep.pk)
    first = sweep.trials.get(number=0)
    assert (first.state, first.run) == (TrialState.FAILED, None)
    assert first.problem == "learning_rate: Must be at most 10."
    assert queued(sweep).trial.number == 1  # type: ignore[attr-defined]


# Budgets


def test_hours_end_a_sweep_when_its_trials_have_ended(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_hours=1.0)
    advance(sweep.pk)
    Sweep.objects.filter(pk=sweep.pk).update(running_since=timezone.now() - timedelta(hours=2))
    assert due_sweeps() == []
    train(queued(sweep))
    assert due_sweeps() == [sweep.pk]
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert (sweep.status, sweep.trials.count()) == (SweepStatus.COMPLETED, 1)
    assert rendered_data(sweep.reason_data) == "The budget of 1 h is used up."


def test_device_hours_count_the_trials_that_train(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_device_hours=0.1, concurrency=2, max_trials=50)
    advance(sweep.pk)
    run = queued(sweep)
    begin(run)
    measure(run, 7)  # 7 minutes
    advance(sweep.pk)
    assert sweep.trials.count() == 1
    run.transition("completed")
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert sweep.status == SweepStatus.COMPLETED


def test_a_pause_does_not_use_up_hours(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_hours=1.0)
    Sweep.objects.filter(pk=sweep.pk).update(running_since=timezone.now() - timedelta(minutes=30))
    pause_sweep(sweep)
    assert sweep.running_s(timezone.now() + timedelta(hours=9)) == pytest.approx(1800, abs=60)


# Pruning


@pytest.fixture
def pruned(user: User, dataset: Dataset) -> Sweep:
    """A sweep with five completed trials and one that trains and is worse than all of them."""
    sweep = make_sweep(user, dataset, pruner=Pruner.MEDIAN, max_trials=9, config={"warmup_epochs": 0})
    for _count in range(5):
        advance(sweep.pk)
        train(queued(sweep))
    advance(sweep.pk)
    run = queued(sweep)
    begin(run)
    for epoch in (1, 2):
        measure(run, epoch, 0.001)
    return sweep


def test_a_hopeless_trial_is_stopped(pruned: Sweep) -> None:
    assert due_sweeps() == [pruned.pk]
    advance(pruned.pk)
    trial = pruned.trials.get(number=5)
    assert trial.pruned_at
    assert trial.run
    assert trial.run.requested_action == "stop"
    trial.run.transition("stopped")
    trial.refresh_from_db()
    assert (trial.state, trial.value, trial.curve) == (TrialState.PRUNED, 0.001, [[1, 0.001], [2, 0.001]])
    advance(pruned.pk)
    assert pruned.trials.count() == 7


def test_a_pruned_trial_that_is_resumed_ends_as_one_that_was_not(pruned: Sweep) -> None:
    """It is not pruned a second time, and has the result of its whole training."""
    advance(pruned.pk)
    run = TrainingRun.objects.get(trial__number=5)
    run.transition("stopped")
    resume_run(run)
    assert pruned.trials.get(number=5).state == TrialState.RUNNING
    begin(run)
    measure(run, 3, 0.002)
    advance(pruned.pk)
    run.refresh_from_db()
    assert not run.requested_action
    measure(run, 9, 0.9)
    run.transition("completed")
    advance(pruned.pk)
    trial = pruned.trials.get(number=5)
    assert (trial.state, trial.value) == (TrialState.COMPLETED, 0.9)
    assert [epoch for epoch, _value in trial.curve] == [1, 2, 3, 9]


def test_a_trial_that_a_person_stops_is_not_pruned(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset)
    advance(sweep.pk)
    stop_run(queued(sweep))
    assert sweep.trials.get(number=0).state == TrialState.STOPPED


# Verbs


def test_pausing_pauses_the_trials_and_resuming_resumes_them(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset)
    advance(sweep.pk)
    run = queued(sweep)
    pause_sweep(sweep)
    run.refresh_from_db()
    assert (sweep.status, run.status) == (SweepStatus.PAUSED, "paused")
    assert due_sweeps() == []
    resume_sweep(sweep)
    run.refresh_from_db()
    assert (sweep.status, run.status) == (SweepStatus.RUNNING, "queued")


def test_a_trial_that_a_person_pauses_holds_nothing_up(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=2)
    advance(sweep.pk)
    paused = queued(sweep)
    pause_run(paused)
    advance(sweep.pk)
    train(queued(sweep))
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert sweep.status == SweepStatus.RUNNING  # one trial is not finished
    resume_run(paused)
    train(paused)
    assert due_sweeps() == [sweep.pk]


def test_stopping_stops_the_trials(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, concurrency=2)
    advance(sweep.pk)
    begin(queued(sweep))
    enqueue_trial(sweep, {"learning_rate": 0.5})
    stop_sweep(sweep)
    run = TrainingRun.objects.get(trial__number=0)
    assert run.requested_action == "stop"
    assert sweep.trials.get(number=1).state == TrialState.STOPPED
    run.transition("stopped")
    advance(sweep.pk)
    assert sweep.trials.count() == 2


def test_entered_values_are_tried_next(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset)
    enqueue_trial(sweep, {"learning_rate": 0.5, "weight_decay": 0.1})
    trials = finish(sweep)
    assert [trial.origin for trial in trials[:3]] == [Origin.BASE, Origin.ENQUEUED, Origin.SUGGESTED]
    run = trials[1].run
    assert run
    assert (run.config["learning_rate"], run.config["weight_decay"]) == (0.5, 0.1)
    assert len(trials) == 5


@pytest.mark.parametrize(
    ("values", "field"), [({"learning_rate": 99}, "learning_rate"), ({"epochs": 3}, "epochs"), ({"x": 1}, "x")]
)
def test_entered_values_are_checked(user: User, dataset: Dataset, values: dict[str, Any], field: str) -> None:
    sweep = make_sweep(user, dataset)
    with pytest.raises(FieldError) as caught:
        enqueue_trial(sweep, values)
    assert caught.value.field == field
    assert sweep.trials.count() == 1


def test_a_sweep_can_be_continued_with_more_trials(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=2)
    finish(sweep)
    with pytest.raises(VerbError, match="Raise them first"):
        resume_sweep(sweep)
    with pytest.raises(FieldError, match="2 trials already"):
        change_sweep(sweep, max_trials=1)
    change_sweep(sweep, max_trials=4)
    resume_sweep(sweep)
    assert len(finish(sweep)) == 4


def test_a_grid_ends_when_it_is_exhausted(user: User, dataset: Dataset) -> None:
    space = {"dimensions": [{"kind": "choice", "field": "optimizer", "values": ["SGD", "Adam", "RMSprop"]}]}
    sweep = make_sweep(user, dataset, sampler=Sampler.GRID, space=space, max_trials=100)
    trials = finish(sweep)
    assert [trial.params["optimizer"] for trial in trials] == ["AdamW", "SGD", "Adam", "RMSprop"]
    assert rendered_data(sweep.reason_data) == "Every combination of the grid was tried."


def test_repeated_seeds(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, sampler=Sampler.REPEAT, max_trials=3, config={"seed": 5})
    trials = finish(sweep)
    assert [trial.run and trial.run.config["seed"] for trial in trials] == [5, 6, 7]
    assert not sweep.space["dimensions"]


def test_a_deleted_sweep_leaves_its_runs(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=1)
    advance(sweep.pk)
    with pytest.raises(VerbError, match="Stop it before deleting"):
        delete_sweep(sweep)
    finish(sweep)
    delete_sweep(sweep)
    assert not Trial.objects.exists()
    assert TrainingRun.objects.get().name == "search #0"


def test_a_sweep_is_deleted_with_its_runs(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=2)
    finish(sweep)
    delete_sweep(sweep, with_runs=True)
    assert not TrainingRun.objects.exists()


def test_a_result_outlives_its_run(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=2)
    trials = finish(sweep)
    assert trials[1].run
    delete_run(trials[1].run)
    kept = sweep.trials.get(number=1)
    assert (kept.run, kept.value, kept.state) == (None, trials[1].value, TrialState.COMPLETED)


def test_each_change_has_an_entry_in_the_audit_trail(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset)
    for verb in (pause_sweep, resume_sweep):
        verb(sweep, by="ada")
    change_sweep(sweep, concurrency=2, by="ada")
    enqueue_trial(sweep, {"learning_rate": 0.5}, by="ada")
    stop_sweep(sweep, by="ada")
    delete_sweep(sweep, by="ada")
    entries = AuditEntry.objects.filter(kind="sweep").order_by("pk").values_list("verb", flat=True)
    assert list(entries) == ["create", "start", "pause", "resume", "change", "enqueue", "stop", "delete"]


def test_verbs_that_are_not_possible_say_so(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, start=False)
    for verb in (pause_sweep, resume_sweep):
        with pytest.raises(VerbError, match="is pending and cannot be"):
            verb(sweep)
    stop_sweep(sweep)
    assert stop_sweep(sweep).status == SweepStatus.STOPPED
    with pytest.raises(VerbError, match="cannot be extended"):
        enqueue_trial(sweep, {})


def test_without_optuna_the_error_names_the_extra(
    user: User, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainingapp.runs.sweeps.sampling.has_optuna", lambda: False)
    with pytest.raises(VerbError, match=r"cvstudio\[sweeps\]"):
        make_sweep(user, dataset, sampler=Sampler.TPE)
    assert make_sweep(user, dataset, sampler=Sampler.RANDOM).is_running


def test_a_trial_whose_run_was_deleted_before_its_end_has_no_result(user: User, dataset: Dataset) -> None:
    sweep = make_sweep(user, dataset, max_trials=1)
    advance(sweep.pk)
    run = queued(sweep)
    pause_run(run)
    delete_run(run)
    assert due_sweeps() == [sweep.pk]
    advance(sweep.pk)
    sweep.refresh_from_db()
    assert (sweep.status, sweep.trials.get().state) == (SweepStatus.COMPLETED, TrialState.STOPPED)


def test_the_end_of_a_sweep_is_announced_and_that_of_its_trials_is_not(user: User, dataset: Dataset) -> None:
    finish(make_sweep(user, dataset, max_trials=2))
    told = Notification.objects.filter(user=user).select_related("occurrence")
    assert [rendered_data(each.occurrence.message_data) for each in told] == [
        "The sweep “search” has ended. All 2 trials are finished."
    ]
