"""Start, pause, resume, stop, force stop: the effect in each state, repeated and concurrent."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.threads import in_threads
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db

#: (verb, status before) -> (status after, requested action after); other combinations are refused.
EFFECTS = {
    ("start", "pending"): ("queued", ""),
    ("start", "queued"): ("queued", ""),
    ("start", "running"): ("running", ""),
    ("pause", "queued"): ("paused", ""),
    ("pause", "running"): ("running", "pause"),
    ("pause", "paused"): ("paused", ""),
    ("resume", "queued"): ("queued", ""),
    ("resume", "running"): ("running", ""),
    ("resume", "paused"): ("queued", ""),
    ("resume", "failed"): ("queued", ""),
    ("resume", "stopped"): ("queued", ""),
    ("stop", "queued"): ("stopped", ""),
    ("stop", "running"): ("running", "stop"),
    ("stop", "paused"): ("stopped", ""),
    ("stop", "stopped"): ("stopped", ""),
    ("force_stop", "queued"): ("stopped", ""),
    ("force_stop", "running"): ("running", "kill"),
    ("force_stop", "paused"): ("stopped", ""),
    ("force_stop", "stopped"): ("stopped", ""),
}
VERBS = {name: getattr(run_verbs, f"{name}_run") for name in ("start", "pause", "resume", "stop", "force_stop")}


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_in_each_state(make: MAKE, verb: str, status: str) -> None:
    run = make(status)
    if (verb, status) not in EFFECTS:
        with pytest.raises(VerbError, match="cannot be"):
            VERBS[verb](run)
        assert TrainingRun.objects.get().status == status
        return
    assert VERBS[verb](run) is run
    stored = TrainingRun.objects.get()
    assert (stored.status, stored.requested_action) == (run.status, run.requested_action) == EFFECTS[verb, status]


@pytest.mark.parametrize(("verb", "status"), EFFECTS)
def test_repeating_a_verb_changes_nothing(make: MAKE, verb: str, status: str) -> None:
    run = make(status)
    VERBS[verb](run)
    events = RunEvent.objects.count()
    stored = TrainingRun.objects.get()
    VERBS[verb](run)
    again = TrainingRun.objects.get()
    assert (again.status, again.requested_action) == (stored.status, stored.requested_action)
    assert RunEvent.objects.count() == events


def test_a_request_is_an_event_with_the_user_name(make: MAKE) -> None:
    run_verbs.pause_run(make("running"), by="ada")
    event = RunEvent.objects.get()
    assert (event.type, event.data) == ("status", {"wanted": "pause", "by": "ada"})


def test_stop_overrides_pause_but_not_vice_versa(make: MAKE) -> None:
    run = run_verbs.stop_run(run_verbs.pause_run(make("running")))
    assert run.requested_action == "stop"
    with pytest.raises(VerbError):
        run_verbs.pause_run(run)


def test_force_stop_overrides_everything_and_cannot_be_overridden(make: MAKE) -> None:
    run = run_verbs.force_stop_run(run_verbs.stop_run(make("running")))
    assert (run.requested_action, run.shown_status) == ("kill", "silent")
    assert run_verbs.stop_run(run).requested_action == "kill"
    with pytest.raises(VerbError):
        run_verbs.pause_run(run)
    with pytest.raises(VerbError, match="still ending"):
        run_verbs.resume_run(run)


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def test_force_stop_is_offered_once_the_trainer_does_not_respond(make: MAKE) -> None:
    run = make("running", heartbeat_at=timezone.now(), last_event_at=timezone.now())
    assert run_verbs.possible_verbs(run) == ["pause", "stop"]
    run_verbs.pause_run(run)
    assert run_verbs.possible_verbs(run) == ["stop"]
    run.requested_at = ago(6)
    assert run_verbs.possible_verbs(run) == ["stop", "force_stop"]
    run_verbs.stop_run(run)
    assert run_verbs.possible_verbs(run) == []
    run.requested_at = ago(6)
    assert run_verbs.possible_verbs(run) == ["force_stop"]
    assert run.shown_status == "stopping"
    run_verbs.force_stop_run(run)
    run.requested_at = ago(60)
    assert run_verbs.possible_verbs(run) == []
    assert run.shown_status == "stopping"


def test_force_stop_is_offered_for_a_quiet_trainer_or_a_lost_worker(make: MAKE) -> None:
    assert "force_stop" in run_verbs.possible_verbs(make("running", heartbeat_at=ago(0), last_event_at=ago(61)))
    assert "force_stop" in run_verbs.possible_verbs(make("running", heartbeat_at=ago(60), last_event_at=ago(61)))


def test_the_wait_before_a_retry_can_be_skipped(make: MAKE) -> None:
    run = make("queued", not_before=ago(-60), recoveries=2)
    assert claim_next("here", "here:1:2") is None
    assert run_verbs.possible_verbs(run) == ["resume", "pause", "stop"]
    run_verbs.resume_run(run, by="ada")
    run_verbs.resume_run(run, by="ada")
    assert RunEvent.objects.get().data == {"waits": False, "by": "ada"}
    claimed = claim_next("here", "here:1:2")
    assert claimed == run
    assert claimed is not None
    assert claimed.recoveries == 2


def test_a_run_that_is_ending_cannot_be_resumed_yet(make: MAKE) -> None:
    run = run_verbs.pause_run(make("running"))
    with pytest.raises(VerbError, match="still ending"):
        run_verbs.resume_run(run)


def test_resuming_resets_the_error_and_the_recoveries(make: MAKE) -> None:
    run = make("failed", recoveries=3, error_class="error", error_message="no", error_lines=["x"], worker="a:1:2")
    run = TrainingRun.objects.get(pk=run_verbs.resume_run(run).pk)
    assert (run.recoveries, run.error_class, run.error_message, run.error_lines, run.worker) == (0, "", "", [], "")


def test_a_verb_reads_the_row_again(make: MAKE) -> None:
    old = make("queued")
    run_verbs.stop_run(TrainingRun.objects.get())
    with pytest.raises(VerbError, match="is stopped"):
        run_verbs.pause_run(old)
    assert old.status == "stopped"


def test_verbs_on_a_deleted_run_are_refused(run: TrainingRun) -> None:
    TrainingRun.objects.all().delete()
    with pytest.raises(VerbError, match="was deleted"):
        run_verbs.start_run(run)


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("wanted", ["", "pause", "stop", "kill"])
def test_possible_verbs_have_an_effect(make: MAKE, status: str, wanted: str) -> None:
    run = make(status, requested_action=wanted if status == "running" else "")
    for verb in set(run_verbs.possible_verbs(run)) - {"delete"}:
        before = (run.status, run.requested_action)
        copy = VERBS[verb](TrainingRun.objects.get())
        assert (copy.status, copy.requested_action) != before
        TrainingRun.objects.update(status=before[0], requested_action=before[1])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_concurrent_verbs_all_succeed(make: MAKE, verb: str) -> None:
    run = make("queued")
    copies = [TrainingRun.objects.get(pk=run.pk) for _ in range(4)]
    results = in_threads([lambda copy=copy: VERBS[verb](copy).status for copy in copies])
    assert set(results) == {{"pause": "paused", "stop": "stopped"}[verb]}
    assert RunEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_concurrent_pause_and_claim_leave_a_consistent_run(make: MAKE) -> None:
    for _ in range(10):
        run = make("queued")
        in_threads([lambda run=run: run_verbs.pause_run(run), lambda: claim_next("here", "here:1:2")])
        run.refresh_from_db()
        assert (run.status, run.requested_action) in {("paused", ""), ("running", "pause")}


def test_name_and_priority_can_be_changed(run: TrainingRun) -> None:
    run_verbs.update_run(run, name=" better ", priority=5)
    stored = TrainingRun.objects.get()
    assert (stored.name, stored.priority) == ("better", 5)
    for wrong in ({"name": " "}, {"name": "x" * 121}, {"priority": 1001}):
        with pytest.raises(VerbError):
            run_verbs.update_run(run, **wrong)


def test_limits_can_be_changed_and_reset_to_those_of_the_studio(run: TrainingRun, settings: Any) -> None:
    settings.SOFT_TIME_LIMIT_HOURS, settings.HARD_TIME_LIMIT_HOURS, settings.MAX_RECOVERIES = 12, 24, 3
    assert (run.soft_limit_s, run.hard_limit_s, run.allowed_recoveries) == (43_200, 86_400, 3)
    run_verbs.update_run(run, soft_limit_h=0.5, hard_limit_h=1, max_recoveries=0)
    stored = TrainingRun.objects.get()
    assert (stored.soft_limit_s, stored.hard_limit_s, stored.allowed_recoveries) == (1800, 3600, 0)
    run_verbs.update_run(run, name="other")
    assert TrainingRun.objects.get().soft_limit_h == 0.5
    run_verbs.update_run(run, hard_limit_h=run_verbs.STUDIO_LIMIT, max_recoveries=run_verbs.STUDIO_LIMIT)
    stored = TrainingRun.objects.get()
    assert (stored.soft_limit_h, stored.hard_limit_h, stored.max_recoveries) == (0.5, None, None)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"soft_limit_h": -1}, "soft_limit_h"),
        ({"hard_limit_h": float("nan")}, "hard_limit_h"),
        ({"hard_limit_h": 8761}, "hard_limit_h"),
        ({"soft_limit_h": True}, "soft_limit_h"),
        ({"soft_limit_h": 25}, "soft_limit_h .25. must not be above hard_limit_h .24."),
        ({"soft_limit_h": 3, "hard_limit_h": 2}, "above hard_limit_h"),
        ({"max_recoveries": 101}, "max_recoveries"),
        ({"max_recoveries": 1.5}, "max_recoveries"),
    ],
)
def test_an_invalid_limit_is_refused_by_name(run: TrainingRun, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(VerbError, match=named):
        run_verbs.update_run(run, **wrong)
    stored = TrainingRun.objects.get()
    assert (stored.soft_limit_h, stored.hard_limit_h, stored.max_recoveries) == (None, None, None)


def test_zero_means_no_limit(run: TrainingRun) -> None:
    run_verbs.update_run(run, soft_limit_h=100, hard_limit_h=0)
    assert TrainingRun.objects.get().hard_limit_s == 0


def test_resuming_restarts_the_time_limit(make: MAKE) -> None:
    run = run_verbs.resume_run(make("stopped", spent_s=99.0, retries={"hang": 1}, not_before=ago(-9)))
    stored = TrainingRun.objects.get(pk=run.pk)
    assert (stored.spent_s, stored.retries, stored.not_before) == (0, {}, None)
