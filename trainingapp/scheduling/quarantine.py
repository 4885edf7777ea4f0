"""GPUs that get no more runs: after errors of several runs, after a trainer that cannot be ended, and by hand.

A GPU that fails at once is free at once: without a quarantine it would attract one run after the other. It is released
when it passes a check (supervision/device_checks.py), or by an administrator.
"""

from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.notifications import events, outbox
from trainingapp.accounts.users import AnyUser
from trainingapp.contract.limits import REASON_LENGTH
from trainingapp.contract.messages import VERBATIM, Message, sentences
from trainingapp.contract.messages import devices as messages
from trainingapp.contract.messages import notifications as notices
from trainingapp.models import Device, DeviceHold, TrainingRun
from trainingapp.models.verbs import VerbError

#: Runs that must fail one after the other with an error of the GPU.
RUNS_NEEDED = 2
#: Attempts that are looked at for that.
SEARCHED = 20
#: The first wait for a check; doubled with each quarantine that follows, up to the last one.
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(days=1)

#: Classes of failures that are errors of the GPU; those after which it is checked whether torch can use it at all.
GPU_FAILURES = frozenset({"device_error"})
UNUSABLE_FAILURES = frozenset({"device_unavailable", "driver"})


def note_end(run: TrainingRun, error_class: str, stuck_process: Mapping[str, object] | None = None) -> None:
    """Store how the present attempt of the run ended on its devices, and what follows for each of them.

    Of several GPUs it is not known which one failed: each counts as failed, and a check releases those that work.

    `error_class` is empty for an attempt that did not fail. `stuck_process` has the "pid" and the "create_time" of a
    trainer that does not end. Call it in the transaction that ends the attempt, before its holds are closed.
    """
    holds = list(DeviceHold.objects.filter(run=run, released_at=None))
    for hold in holds:
        hold.error_class = error_class[:40]
        hold.save(update_fields=["error_class"])
    for device_id in sorted(hold.device_id for hold in holds):
        device = Device.objects.select_for_update().select_related("host").get(pk=device_id)
        if device.kind == Device.Kind.GPU:
            _judge(device, run, error_class, stuck_process)


def _judge(device: Device, run: TrainingRun, error_class: str, stuck_process: Mapping[str, object] | None) -> None:
    """What the end of an attempt means for a GPU that it had."""
    if stuck_process:
        device.stuck_process = dict(stuck_process)
        reason = messages.QUARANTINED_AS_STUCK(pid=int(str(stuck_process["pid"])))
        _isolate(device, Device.Cause.STUCK, reason, {"run": run.pk})
    elif error_class in GPU_FAILURES:
        runs = failed_in_a_row(device)
        if len(runs) >= RUNS_NEEDED:
            reason = messages.QUARANTINED_FOR_ERRORS(count=len(runs))
            _isolate(device, Device.Cause.ERRORS, reason, {"runs": sorted(runs)})
    elif error_class in UNUSABLE_FAILURES:
        _check_anew(device)
    elif not error_class and device.quarantines:
        device.quarantines = 0
        device.save(update_fields=["quarantines"])


def failed_in_a_row(device: Device) -> set[int]:
    """The runs whose last attempts on the device failed with an error of the GPU, since one ended without a failure.

    Other failures prove nothing about it. Errors from before the last release do not count.
    """
    holds = device.holds.order_by("-taken_at", "-pk")
    if device.released_at:
        holds = holds.filter(taken_at__gt=device.released_at)
    runs: set[int] = set()
    for hold in holds[:SEARCHED]:
        if hold.released_at is not None and not hold.error_class:
            break
        if hold.error_class in GPU_FAILURES:
            runs.add(hold.run_id or -hold.pk)  # a run that was deleted was another one
    return runs


def _isolate(device: Device, cause: Device.Cause, reason: Message, details: Mapping[str, object]) -> None:
    """Quarantine without a request by a person. A GPU that is in quarantine already stays as it is."""
    if device.quarantined_at is not None and cause != Device.Cause.STUCK:
        return
    is_new = device.quarantined_at is None
    device.quarantines += is_new
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(device.quarantines - 1, 30))
    device.check_at = timezone.now() + wait
    _write(device, cause, reason)
    if is_new:
        audit.record("quarantine", device, details={"cause": str(cause), **details})
        notice = notices.DEVICE_QUARANTINED(
            device=device.torch_name, name=device.name, host=device.host.name, reason=reason
        )
        outbox.announce(events.DEVICE_QUARANTINED, notice)


def _write(device: Device, cause: Device.Cause, reason: Message) -> None:
    device.quarantined_at = device.quarantined_at or timezone.now()
    device.quarantine_cause, device.quarantine_data = cause, reason.as_data()
    device.save(
        update_fields=[
            "quarantined_at",
            "quarantine_cause",
            "quarantine_data",
            "quarantines",
            "check_at",
            "stuck_process",
        ]
    )


def quarantine(device: Device, reason: str = "", *, by: AnyUser | str = "") -> Device:
    """Give the GPU no more runs until somebody releases it. Runs that are on it continue. Raises VerbError."""
    reason = reason.strip()
    if device.kind != Device.Kind.GPU:
        raise VerbError(_("Only GPUs can be put in quarantine."))
    if len(reason) > REASON_LENGTH:
        raise VerbError(_("The reason has more than %(count)d characters.") % {"count": REASON_LENGTH})
    with transaction.atomic():
        row = _locked(device)
        if row.quarantined_at is not None and row.quarantine_cause == Device.Cause.MANUAL:
            raise VerbError(_("%(device)s is already in quarantine.") % {"device": row})
        row.check_at = None
        entry = audit.record("quarantine", row, by=by, details={"reason": reason} if reason else {})
        explained = VERBATIM(text=reason) if reason else None
        _write(row, Device.Cause.MANUAL, sentences(messages.QUARANTINED_BY(name=entry.username), explained))
    return row


def release(device: Device, *, by: AnyUser | str = "") -> Device:
    """End the quarantine, and have the GPU checked now: it gets runs again when torch can use it. Raises VerbError."""
    with transaction.atomic():
        row = _locked(device)
        if row.kind != Device.Kind.GPU or row.is_usable or row.problem == Device.Problem.UNCHECKED:
            raise VerbError(_("%(device)s can be used, or is being checked.") % {"device": row})
        end_quarantine(row)
        row.quarantines = 0
        row.save(update_fields=["quarantines"])
        _check_anew(row)
        audit.record("release", row, by=by)
    return row


def end_quarantine(device: Device) -> None:
    """Give the GPU runs again; the caller holds the lock of its row."""
    device.quarantined_at, device.released_at, device.check_at = None, timezone.now(), None
    device.quarantine_cause, device.quarantine_data, device.stuck_process = "", {}, {}
    device.save(
        update_fields=[
            "quarantined_at",
            "released_at",
            "check_at",
            "quarantine_cause",
            "quarantine_data",
            "stuck_process",
        ]
    )


def _check_anew(device: Device) -> None:
    """Have a worker check the GPU as if it were new; the caller holds the lock of its row."""
    device.problem, device.problem_data = Device.Problem.UNCHECKED, messages.GPU_UNCHECKED().as_data()
    device.checked_as = ""
    device.save(update_fields=["problem", "problem_data", "checked_as"])


def _locked(device: Device) -> Device:
    row = Device.objects.select_for_update().select_related("host").filter(pk=device.pk).first()
    if row is None:
        raise VerbError(_("“%(name)s” was deleted.") % {"name": device})
    return row
