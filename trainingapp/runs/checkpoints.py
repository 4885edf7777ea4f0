"""The verbs of checkpoints: delete, clean up, pin, verify, copy.

While a run trains, only its trainer writes to its checkpoints, so verbs that change them are refused.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.contract import retention
from trainingapp.contract.retention import LEAST_VALID, Policy
from trainingapp.contract.storage.durable import CorruptedFile
from trainingapp.contract.storage.exporting import ExportForm, export_file
from trainingapp.contract.storage.reading import open_checkpoint
from trainingapp.contract.storage.sizes import Removal, plan_removal
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import VerbError, locked
from trainingapp.runs import checkpoint_files as housekeeping
from trainingapp.runs.checkpoint_files import BusyError, CleanUp, Known

Result = TypeVar("Result")


def checkpoint_policy(run: TrainingRun) -> Policy:
    """The retention policy of the run's configuration."""
    return housekeeping.policy_of(run)


def checkpoints_deletion(run: TrainingRun, files: Collection[str]) -> Removal:
    """The files and bytes that deleting these checkpoints would free. Parts that others share are kept."""
    return _with_messages(run, lambda: plan_removal(run.folder / "checkpoints", files))


def delete_checkpoints(run: TrainingRun, files: Collection[str], *, by: str = "") -> Removal:
    """Delete checkpoints with their files. A checkpoint that is already gone is no error.

    Refused while the run trains, for pinned checkpoints, and where fewer than two valid ones would be left of a run
    that can be resumed.
    """
    return _removed(run, lambda: _checked(run, files), by, "delete")


def plan_clean_up(run: TrainingRun, policy: Policy) -> CleanUp:
    """Which checkpoints a policy would delete, and how many bytes that frees."""
    return _with_messages(run, lambda: housekeeping.plan_clean_up(run, policy))


def clean_up(run: TrainingRun, policy: Policy, *, by: str = "") -> Removal:
    """Delete what the policy does not keep. Refused while the run trains."""
    return _removed(run, lambda: housekeeping.plan_clean_up(run, policy).choice.removed, by, "clean_up")


def pin_checkpoint(checkpoint: Checkpoint, *, is_pinned: bool = True) -> Checkpoint:
    """Pin a checkpoint, so that no policy deletes it, or unpin it; also while the run trains."""
    with locked(checkpoint.run):
        row = Checkpoint.objects.filter(pk=checkpoint.pk).first()
        if row is None or not checkpoint.run.folder.is_dir():
            raise VerbError(_("The checkpoint %(file)s no longer exists.") % {"file": checkpoint.file})
        # Its trainer reads the pins before each deletion, so a pin counts at once.
        with retention.held_pins(checkpoint.run.folder) as pins:
            if is_pinned and not checkpoint.path.exists():
                raise VerbError(_("The checkpoint %(file)s no longer exists.") % {"file": checkpoint.file})
            (pins.add if is_pinned else pins.discard)(checkpoint.file)
        if row.is_pinned != is_pinned:
            row.is_pinned = is_pinned
            row.save(update_fields=["is_pinned"])
            audit.record("pin" if is_pinned else "unpin", row)
    checkpoint.is_pinned = is_pinned
    return checkpoint


def verify_checkpoint(checkpoint: Checkpoint, known: Known | None = None) -> str:
    """Verify its hashes now; returns what is wrong, or an empty text. The log of the run records it too."""
    wrong = housekeeping.compare(checkpoint, known)
    audit.record("verify", checkpoint, details={"damage": wrong} if wrong else {})
    return wrong


def copy_checkpoint(checkpoint: Checkpoint, target: Path, form: ExportForm = "pt") -> int:
    """Write it as a file for torch.load, or its weights as safetensors; returns the size in bytes. Raises VerbError."""
    if not checkpoint.path.is_file():
        raise VerbError(_("The checkpoint %(file)s no longer exists.") % {"file": checkpoint.file})
    try:
        size = export_file(open_checkpoint(checkpoint.path), form, target)
    except CorruptedFile as error:
        raise VerbError(f"{checkpoint.file} {error}.") from None
    except OSError as error:
        message = _("%(path)s cannot be written: %(error)s")
        raise VerbError(message % {"path": target, "error": error.strerror}) from None
    audit.record("copy", checkpoint, details={"to": str(target), "bytes": size})
    return size


def _checked(run: TrainingRun, files: Collection[str]) -> list[str]:
    """Those of `files` that exist. Raises VerbError where one of them must be kept."""
    rows = list(run.checkpoints.order_by("step", "pk"))
    going = [row for row in rows if row.file in files]
    for row in going:
        if row.is_pinned:
            raise VerbError(_("The checkpoint %(file)s is pinned. Unpin it first.") % {"file": row.file})
    staying = [row for row in rows if row.file not in files and not row.damage]
    valid_removed = [row for row in going if not row.damage]
    if housekeeping.may_resume(run) and valid_removed and len(staying) < LEAST_VALID:
        message = _("The run “%(name)s” can be resumed, so at least %(count)d valid checkpoints must be kept.")
        raise VerbError(message % {"name": run.name, "count": LEAST_VALID})
    return [row.file for row in going]


def _removed(run: TrainingRun, choose: Callable[[], Collection[str]], by: str, verb: str) -> Removal:
    run.refresh_from_db()
    if run.status == Status.RUNNING:
        raise _busy(run)
    removal = _with_messages(run, lambda: housekeeping.remove(run, choose, by=by, verb=verb))
    if left := removal.left(run.folder / "checkpoints"):
        raise VerbError(_("These files still exist: %(files)s.") % {"files": ", ".join(left)})
    return removal


def _with_messages(run: TrainingRun, work: Callable[[], Result]) -> Result:
    """Do it, and raise its errors as a VerbError with a message for users."""
    try:
        return work()
    except BusyError:
        raise _busy(run) from None
    except VerbError:
        raise
    except ValueError as error:
        message = _("The list of checkpoints of “%(name)s” is corrupted (%(error)s). Resuming the run repairs it.")
        raise VerbError(message % {"name": run.name, "error": error}) from None
    except OSError as error:
        raise VerbError(_("The checkpoints cannot be changed: %(error)s") % {"error": error}) from None


def _busy(run: TrainingRun) -> VerbError:
    message = _("The run “%(name)s” is running. Pause it before you change its checkpoints.")
    return VerbError(message % {"name": run.name})
