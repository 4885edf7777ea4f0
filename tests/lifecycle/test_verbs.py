"""Start, pause, resume, stop: what each does in each state, asked once, twice and by two at once."""

from collections.abc import Callable

import pytest

from tests.threads import in_threads
from trainingapp import lifecycle
from trainingapp.lifecycle import VerbError
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import Status

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db

#: (verb, status before) -> (status after, wish after); what is not here is refused.
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
}
VERBS = {name: getattr(lifecycle, f"{name}_run") for name in ("start", "pause", "resume", "stop")}


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
    assert (stored.status, stored.wanted) == (run.status, run.wanted) == EFFECTS[verb, status]


@pytest.mark.parametrize(("verb", "status"), EFFECTS)
def test_asking_again_changes_nothing(make: MAKE, verb: str, status: str) -> None:
    run = make(status)
    VERBS[verb](run)
    events = RunEvent.objects.count()
    stored = TrainingRun.objects.get()
    VERBS[verb](run)
    again = TrainingRun.objects.get()
    assert (again.status, again.wanted) == (stored.status, stored.wanted)
    assert RunEvent.objects.count() == events


def test_a_wish_is_an_event_that_names_who_asked(make: MAKE) -> None:
    lifecycle.pause_run(make("running"), by="ada")
    event = RunEvent.objects.get()
    assert (event.type, event.data) == ("status", {"wanted": "pause", "by": "ada"})


def test_stop_overrules_pause_and_not_the_other_way(make: MAKE) -> None:
    run = lifecycle.stop_run(lifecycle.pause_run(make("running")))
    assert run.wanted == "stop"
    with pytest.raises(VerbError):
        lifecycle.pause_run(run)


def test_a_run_that_is_ending_cannot_be_resumed_yet(make: MAKE) -> None:
    run = lifecycle.pause_run(make("running"))
    with pytest.raises(VerbError, match="still ending"):
        lifecycle.resume_run(run)


def test_resuming_forgets_the_error_and_the_recoveries(make: MAKE) -> None:
    run = make("failed", recoveries=3, error_class="error", error_message="no", error_lines=["x"], worker="a:1:2")
    run = TrainingRun.objects.get(pk=lifecycle.resume_run(run).pk)
    assert (run.recoveries, run.error_class, run.error_message, run.error_lines, run.worker) == (0, "", "", [], "")


def test_a_verb_looks_at_the_row_and_not_at_an_old_object(make: MAKE) -> None:
    old = make("queued")
    lifecycle.stop_run(TrainingRun.objects.get())
    with pytest.raises(VerbError, match="is stopped"):
        lifecycle.pause_run(old)
    assert old.status == "stopped"


def test_a_deleted_run_takes_no_verb(run: TrainingRun) -> None:
    TrainingRun.objects.all().delete()
    with pytest.raises(VerbError, match="was deleted"):
        lifecycle.start_run(run)


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("wanted", ["", "pause", "stop"])
def test_the_possible_verbs_do_something(make: MAKE, status: str, wanted: str) -> None:
    run = make(status, wanted=wanted if status == "running" else "")
    for verb in set(lifecycle.possible_verbs(run)) - {"delete"}:
        before = (run.status, run.wanted)
        copy = VERBS[verb](TrainingRun.objects.get())
        assert (copy.status, copy.wanted) != before
        TrainingRun.objects.update(status=before[0], wanted=before[1])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_many_who_ask_at_once_are_all_answered(make: MAKE, verb: str) -> None:
    run = make("queued")
    copies = [TrainingRun.objects.get(pk=run.pk) for _ in range(4)]
    results = in_threads([lambda copy=copy: VERBS[verb](copy).status for copy in copies])
    assert set(results) == {{"pause": "paused", "stop": "stopped"}[verb]}
    assert RunEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_pause_and_claim_at_once_leave_a_sound_run(make: MAKE) -> None:
    from trainingapp.scheduler import claim_next

    for _ in range(10):
        run = make("queued")
        in_threads([lambda run=run: lifecycle.pause_run(run), lambda: claim_next("here", "here:1:2")])
        run.refresh_from_db()
        assert (run.status, run.wanted) in {("paused", ""), ("running", "pause")}


def test_name_and_priority_can_be_changed(run: TrainingRun) -> None:
    lifecycle.update_run(run, name=" better ", priority=5)
    stored = TrainingRun.objects.get()
    assert (stored.name, stored.priority) == ("better", 5)
    for wrong in ({"name": " "}, {"name": "x" * 121}, {"priority": 1001}):
        with pytest.raises(VerbError):
            lifecycle.update_run(run, **wrong)
