"""The text of a run's events and stored messages, one line each, in the active language."""

from collections.abc import Mapping

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext

from trainingapp.contract.messages import from_data
from trainingapp.contract.messages.runs import COMPLETED, PAUSED, STOPPED
from trainingapp.models import Checkpoint, JournalEntry, RunEvent, TrainingRun, Weights
from trainingapp.presentation.labels import REQUESTS, status_label
from trainingapp.presentation.messages import rendered_data, text_of

#: Messages that repeat the status that they are stored with: not shown. Version 0.1 stored the English text alone.
_SAME_AS_STATUS = (COMPLETED, PAUSED, STOPPED)


def event_text(event: RunEvent) -> str:
    """One event as a line of the log; empty for an event without a text, such as metrics."""
    data = event.data
    if event.type == RunEvent.Type.CHECKPOINT:
        return _checkpoint_text(data)
    if event.type != RunEvent.Type.STATUS:
        return rendered_data(data)
    if "to" in data:
        return _transition_text(data)
    if requested := data.get("wanted"):
        texts = {
            "pause": gettext("Pause requested"),
            "stop": gettext("Stop requested"),
            "kill": gettext("Forced stop requested"),
        }
        return _sentence(texts.get(requested, requested), data)
    if "order" in data:
        number = f": {data['epochs']}" if "epochs" in data else ""
        return _sentence(f"{REQUESTS.get(data['order'], data['order'])}{number}", data)
    if data.get("waits") is False:
        return _sentence(gettext("Immediate retry requested"), data)
    return _state_text(event)


def _transition_text(data: Mapping[str, object]) -> str:
    status = str(status_label(str(data["to"]))).lower()
    text = _sentence(gettext("The run is now %(status)s") % {"status": status}, data)
    message = data.get("message", "")
    if not message or any(data.get("code") == same.code or message == same.text for same in _SAME_AS_STATUS):
        return text
    return f"{text} {rendered_data(data)}"


def _sentence(text: str, data: Mapping[str, object]) -> str:
    """`text` as a sentence, with the name of the user who caused it."""
    by = gettext(" (%(name)s)") % {"name": data["by"]} if data.get("by") else ""
    return gettext("%(sentence)s.") % {"sentence": f"{text}{by}"}


def _checkpoint_text(data: Mapping[str, object]) -> str:
    text = gettext("Saved %(file)s (%(size)s).") % {
        "file": data["file"],
        "size": filesizeformat(str(data["size_bytes"])),
    }
    best = gettext("The best so far.")
    return f"{text} {best}" if data.get("is_best") else text


def _state_text(event: RunEvent) -> str:
    """A status event of the trainer. "order" and "proof" are the names of version 0.1."""
    data, state = event.data, event.data.get("state", "")
    if state in ("request_done", "order"):
        return gettext("Request carried out: %(result)s") % {"result": rendered_data(data, fallback="result")}
    if state in ("resume_check", "proof"):
        return rendered_data(data)
    if state == "failed":
        return gettext("The trainer failed: %(message)s") % {"message": rendered_data(data)}
    if state != "started":
        return gettext("The trainer exited: %(state)s.") % {"state": status_label(state)}
    values = {"attempt": event.attempt, "device": data.get("device", ""), "step": event.step}
    if data.get("resumed_from"):
        text = gettext("Attempt %(attempt)s resumes from step %(step)s on %(device)s, with %(file)s.")
        return text % (values | {"file": data["resumed_from"]})
    return gettext("Attempt %(attempt)s starts on %(device)s.") % values


def marks_attempt(event: RunEvent) -> bool:
    """Whether a trainer process starts with this event."""
    return event.type == RunEvent.Type.STATUS and event.data.get("state") == "started"


def failure_text(run: TrainingRun) -> str:
    """The message of the run's failure or time limit; empty without one."""
    return _with_data(run.error_message_data, run.error_message)


def journal_text(entry: JournalEntry) -> str:
    """The action of the journal entry."""
    return _with_data(entry.message_data, entry.message)


def damage_text(item: Checkpoint | Weights) -> str:
    """What is wrong with the stored file, as the predicate of a sentence ("is missing"); empty for a valid one."""
    return _with_data(item.damage_data, item.damage)


def resume_check_reason(check: Mapping[str, object]) -> str:
    """Why the results of a resume check may differ; a check of version 0.1 has the English text alone."""
    changes = check.get("changes")
    texts = [text_of(change) for change in changes] if isinstance(changes, list) else []
    return ", ".join(texts) or str(check.get("reason") or "")


def _with_data(data: Mapping[str, object], text: str) -> str:
    """The message of `data` where there is one; a row of version 0.1 has the English `text` alone."""
    return rendered_data({**data, "message": text}) if text and from_data(data) else text
