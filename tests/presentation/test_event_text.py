"""Events, failures and journal entries are shown in the reader's language by their codes; old rows unchanged."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone, translation

from tests.helpers.world import line, store_events
from trainingapp.contract.events import message_fields
from trainingapp.contract.messages import VERBATIM, Message, sentences
from trainingapp.contract.messages import runs as messages
from trainingapp.contract.messages.storage import FILE_MISSING
from trainingapp.contract.messages.training import SAVED_AS, VALUE_CHANGED
from trainingapp.models import Checkpoint, JournalEntry, RunEvent, TrainingRun, Weights
from trainingapp.presentation.event_text import (
    damage_text,
    event_text,
    failure_text,
    journal_text,
    resume_check_reason,
)

CHINESE = "zh-hans"
#: Three words in Latin letters in a row: English.
ENGLISH = re.compile(r"[A-Za-z]{2,}(?:[ ,]+[A-Za-z]{2,}){2,}")
LOST = sentences(messages.WORKER_LOST(host="barn"), messages.RESTART_PLANNED(number=1, max=3))


def status(**data: Any) -> RunEvent:
    return RunEvent(type="status", attempt=2, step=7, data=data)


def in_chinese(event: RunEvent) -> str:
    with translation.override(CHINESE):
        return event_text(event)


@pytest.mark.parametrize(
    ("event", "english"),
    [
        (RunEvent(type="log", data=message_fields(LOST)), str(LOST)),
        (status(to="queued", **message_fields(LOST)), f"The run is now queued. {LOST}"),
        (status(to="paused", by="ada", **message_fields(messages.PAUSED())), "The run is now paused (ada)."),
        (status(wanted="pause", by="ada"), "Pause requested (ada)."),
        (status(order="epochs", epochs=30), "Change of the number of epochs requested: 30."),
        (status(waits=False, by="ada"), "Immediate retry requested (ada)."),
        (
            status(state="request_done", result="Saved as a.pt.", **SAVED_AS(file="a.pt").as_data()),
            "Request carried out: Saved as a.pt.",
        ),
        (
            status(state="failed", **message_fields(messages.DISK_FULL())),
            "The trainer failed: The disk is full. Free some space, then resume the run.",
        ),
        (status(state="completed"), "The trainer exited: Completed."),
        (status(state="started", device="cpu"), "Attempt 2 starts on cpu."),
        (
            status(state="started", device="cpu", resumed_from="a.pt"),
            "Attempt 2 resumes from step 7 on cpu, with a.pt.",
        ),
        (
            RunEvent(type="checkpoint", data={"file": "a.pt", "size_bytes": 2048, "is_best": True}),
            "Saved a.pt (2.0\xa0KB). The best so far.",
        ),
    ],
)
def test_an_event_is_shown_in_the_readers_language(event: RunEvent, english: str) -> None:
    assert event_text(event) == english
    chinese = in_chinese(event)
    assert chinese != english
    assert not ENGLISH.search(chinese)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (RunEvent(type="log", data={"message": "Saved as a.pt."}), "Saved as a.pt."),
        (status(state="proof", message="It is the same bit by bit."), "It is the same bit by bit."),
        (status(state="order", result="Saved as a.pt."), "Saved as a.pt."),
        (status(to="queued", message="It hung."), "It hung."),
    ],
)
def test_the_english_text_of_version_0_1_is_shown_as_it_was_stored(event: RunEvent, text: str) -> None:
    assert event_text(event).endswith(text)
    assert in_chinese(event).endswith(text)


def test_the_text_of_a_code_from_a_later_version_is_shown_as_it_was_stored() -> None:
    event = RunEvent(type="log", data={"message": "Said later.", "code": "from_the_future", "params": {"a": 1}})
    assert in_chinese(event) == "Said later."


@pytest.mark.parametrize("message", ["Completed.", "Paused.", "Stopped."])
def test_a_message_that_repeats_the_status_is_left_out(message: str) -> None:
    assert event_text(status(to="completed", message=message)) == "The run is now completed."


def stored(message: Message | None, text: str) -> list[tuple[Callable[[Any], str], Any]]:
    data = dict(message.as_data()) if message else {}
    report = {"scrub": {"damage": text, "damage_data": data}}
    return [
        (failure_text, TrainingRun(error_message=text, error_message_data=data)),
        (journal_text, JournalEntry(message=text, message_data=data, found_at=timezone.now())),
        (damage_text, Checkpoint(damage=text, damage_data=data)),
        (damage_text, Weights(report=report)),
    ]


@pytest.mark.parametrize(("read", "row"), stored(FILE_MISSING(), "is missing"))
def test_stored_messages_are_rendered_by_their_code(read: Callable[[Any], str], row: Any) -> None:
    assert read(row) == "is missing"
    with translation.override(CHINESE):
        assert not re.search("[a-z]", read(row))


@pytest.mark.parametrize(("read", "row"), stored(None, "The trainer was lost."))
def test_stored_messages_of_version_0_1_are_shown_unchanged(read: Callable[[Any], str], row: Any) -> None:
    with translation.override(CHINESE):
        assert read(row) == "The trainer was lost."


@pytest.mark.parametrize(("read", "row"), stored(FILE_MISSING(), ""))
def test_a_row_without_a_message_has_no_text(read: Callable[[Any], str], row: Any) -> None:
    assert read(row) == ""


def test_a_text_from_outside_is_the_same_in_every_language() -> None:
    failed = VERBATIM(text="KeyError: 'blue cat'.")
    message = sentences(failed, messages.RESTARTS_USED(count=2))
    run = TrainingRun(error_message=str(message), error_message_data=message.as_data())
    with translation.override(CHINESE):
        shown = failure_text(run)
    assert shown.startswith("KeyError: 'blue cat'.")
    assert not ENGLISH.search(shown)


def test_the_reasons_of_a_resume_check_are_rendered() -> None:
    changes = [VALUE_CHANGED(name="torch", before="2.8", now="2.9").as_data()]
    assert resume_check_reason({"changes": changes, "reason": "old"}) == "torch was 2.8, now 2.9"
    assert resume_check_reason({"reason": "torch was 2.8, now 2.9"}) == "torch was 2.8, now 2.9"


@pytest.mark.django_db
def test_the_log_of_a_page_is_in_its_language(user_client: Client, run: TrainingRun) -> None:
    result = {"result": "Saved as step_9.pt.", **SAVED_AS(file="step_9.pt").as_data()}
    store_events(
        run,
        line("The disk hums."),
        {"type": "log", "step": 7, "data": dict(message_fields(LOST))},
        {"type": "status", "step": 9, "data": {"state": "request_done", **result}},
    )
    html = user_client.get(f"/runs/{run.pk}/log/", headers={"accept-language": CHINESE}).content.decode()
    assert "The disk hums." in html
    assert "barn" in html
    assert "step_9.pt" in html
    assert "was lost" not in html
    assert "Saved as" not in html
