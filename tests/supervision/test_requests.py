"""Requests are sent to the trainer once per attempt, and removed when it confirms them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from tests.helpers.events import write
from tests.helpers.studio import TINY, wait_for
from tests.helpers.tiny import make_run
from tests.helpers.world import stored_events
from trainingapp.contract.events import Ended, EventLog
from trainingapp.models import Dataset, RunEvent, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.control import send_request
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, shutting_down, supervise, worker_id
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.outcome import End
from trainingapp.supervision.supervision import settle

MAKE = Callable[..., TrainingRun]
WORKER = "here:1:2"


@pytest.fixture
def running(make: MAKE) -> TrainingRun:
    orders = [{"id": 1, "command": "checkpoint"}, {"id": 2, "command": "evaluate"}]
    run = make("running", attempt=1, worker=WORKER, requests=orders, request_seq=2)
    run.folder.mkdir(parents=True)
    return run


def log_of(run: TrainingRun) -> EventLog:
    return EventLog(run.folder / "events.jsonl", 1)


def confirm(log: EventLog, number: int, command: str, **data: Any) -> None:
    write(log, "status", epoch=1, step=3, state="request_done", id=number, command=command, result="done", **data)


@pytest.mark.django_db
def test_a_confirmed_request_is_removed(running: TrainingRun) -> None:
    log = log_of(running)
    confirm(log, 1, "checkpoint")
    confirm(log, 1, "checkpoint")
    EventStore(running).pull_all()
    assert [order["id"] for order in TrainingRun.objects.get().requests] == [2]


@pytest.mark.django_db
def test_the_number_of_epochs_is_that_of_the_confirmation(running: TrainingRun) -> None:
    order = {"id": 3, "command": "epochs", "epochs": 1}
    TrainingRun.objects.update(requests=[order], config={**running.config, "epochs": 1})
    confirm(log_of(running), 3, "epochs", epochs=2)
    EventStore(running).pull_all()
    run = TrainingRun.objects.get()
    assert (run.requests, run.config["epochs"]) == ([], 2)


@pytest.mark.django_db
def test_a_newer_request_is_not_overwritten_by_the_confirmation_of_an_older_one(running: TrainingRun) -> None:
    orders = [{"id": 3, "command": "epochs", "epochs": 5}, {"id": 4, "command": "epochs", "epochs": 9}]
    TrainingRun.objects.update(requests=orders, config={**running.config, "epochs": 9})
    confirm(log_of(running), 3, "epochs", epochs=5)
    EventStore(running).pull_all()
    assert TrainingRun.objects.get().config["epochs"] == 9


@pytest.mark.django_db
@pytest.mark.parametrize(("state", "kept"), [("completed", []), ("paused", []), ("", [1, 2, 3])])
def test_unconfirmed_requests_are_dropped_with_a_message_unless_another_trainer_takes_over(
    running: TrainingRun, state: str, kept: list[int]
) -> None:
    orders = [*running.requests, {"id": 3, "command": "epochs", "epochs": 9}]
    TrainingRun.objects.update(requests=orders)
    final = Ended.model_validate({"state": state}) if state else None
    settle(EventStore(running), End(final, exit_code=0))
    run = TrainingRun.objects.get()
    assert [order["id"] for order in run.requests] == kept
    lines = [event.data["message"] for event in run.events.filter(type="log", level="warning")]
    assert [("checkpoint" in line, "evaluate" in line) for line in lines] == (
        [] if kept else [(True, False), (False, True)]
    )
    assert list(run.events.values_list("seq", flat=True)) == list(range(1, run.event_seq + 1))


@pytest.mark.django_db
def test_the_result_of_a_resume_check_is_kept_until_the_next_attempt(running: TrainingRun) -> None:
    log = log_of(running)
    told = {"verdict": "near", "difference": 0.0002, "reason": "the device was cpu, now cuda:0"}
    write(log, "status", epoch=1, step=7, state="resume_check", level="info", message="It differs.", **told)
    EventStore(running).pull_all()
    run = TrainingRun.objects.get()
    assert run.resume_check == {**told, "changes": [], "attempt": 1, "step": 7}
    write(log, "status", epoch=1, step=9, state="started", device="cpu", environment={"python": "CPython 3.11.7"})
    EventStore(run).pull_all()
    run = TrainingRun.objects.get()
    assert (run.resume_check, run.environment) == ({}, {"python": "CPython 3.11.7"})
    assert RunEvent.objects.get(data__state="resume_check").level == "info"


@contextmanager
def supervised(run: TrainingRun) -> Iterator[None]:
    """supervise() in a thread, which must have ended by itself at the end."""

    def work() -> None:
        try:
            supervise(run)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
        thread.join(60)
        assert not thread.is_alive()
    finally:
        shutting_down.set()
        thread.join(60)
        shutting_down.clear()


def order(run: TrainingRun, command: str, **data: Any) -> None:
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update().get(pk=run.pk)
        send_request(locked, command, "ada", **data)


def claimed() -> TrainingRun:
    run = claim_next(HOST, worker_id())
    assert run is not None
    return run


@pytest.mark.django_db(transaction=True)
def test_a_trainer_executes_each_request_once_and_a_resumed_run_is_verified(user: User, tints: Dataset) -> None:
    run = make_run(user, tints, start=True, **{**TINY, "epochs": 500, "keep_checkpoints": 1000})

    def stored() -> TrainingRun:
        return TrainingRun.objects.get(pk=run.pk)

    with supervised(claimed()):
        wait_for(lambda: stored().step >= 2, 60, "the run trains")
        order(run, "checkpoint")
        order(run, "evaluate")
        order(run, "epochs", epochs=600)
        wait_for(lambda: not stored().requests, 60, "every order is confirmed")
        wait_for(lambda: stored().total_epochs == 600, 60, "the progress follows")
        run_verbs.pause_run(stored())
    confirmations = {event.data["id"]: event.data["result"] for event in run.events.filter(data__state="request_done")}
    assert sorted(confirmations) == [1, 2, 3]
    assert run.checkpoints.filter(reason="epochs").exists()
    is_at_an_epochs_end = (
        "has just been validated" in confirmations[2]
    )  # then the validation of the epoch is the answer
    extra = [event for event in stored_events(run.pk, "metrics") if event.data.get("extra")]
    assert len(extra) == (0 if is_at_an_epochs_end else 1)
    assert stored().config["epochs"] == 600
    assert stored().environment["packages"]["torch"]
    run_verbs.resume_run(stored())
    with supervised(claimed()):
        wait_for(lambda: stored().resume_check, 60, "the proof is told")
        run_verbs.stop_run(stored())
    proof = stored().resume_check
    assert (proof["verdict"], proof["attempt"]) == ("exact", 2)
