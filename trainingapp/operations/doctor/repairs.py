"""What `manage.py doctor --fix` does. Each function returns a sentence about what was done."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.contract.storage.sizes import unneeded_packs
from trainingapp.models import Checkpoint, RunShare, TrainingRun, trash
from trainingapp.models.run import Status
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.checkpoint_files import BusyError, held
from trainingapp.supervision import recover_run


def remove(path: Path) -> str:
    """Remove a file or a folder with its contents. Raises OSError."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return _("%(path)s was removed.") % {"path": path}


def remove_checkpoint_row(pk: int) -> str:
    saved = Checkpoint.objects.get(pk=pk)
    name = str(saved)
    saved.delete()
    return _("The row of %(name)s was removed.") % {"name": name}


def remove_checkpoint_file(run: TrainingRun, path: Path) -> str:
    """Remove a file that is no checkpoint, and the packs that it alone needed. Raises ValueError beside a trainer."""
    folder = run.folder / "checkpoints"
    with _without_trainer(run):
        others = unneeded_packs(folder)
        done = [remove(path)]
        done += [remove(pack) for pack in unneeded_packs(folder) if pack not in others]
    return " ".join(done)


def remove_pack(run: TrainingRun, path: Path) -> str:
    """Remove a pack that no checkpoint needs. Raises ValueError beside a trainer."""
    with _without_trainer(run):
        # A trainer may have started and ended since the examination, and its checkpoints may need the pack.
        if path not in unneeded_packs(run.folder / "checkpoints"):
            return _("%(path)s is needed now and was not removed.") % {"path": path}
        return remove(path)


@contextmanager
def _without_trainer(run: TrainingRun) -> Iterator[None]:
    try:
        with held(run):
            yield
    except BusyError:
        raise ValueError(_("A trainer works on run %(id)d.") % {"id": run.pk}) from None


def finish_deletions() -> str:
    trash.sweep()
    return _("The deletions were finished.")


def recover(run: TrainingRun) -> str:
    recover_run(run)
    run.refresh_from_db()
    values = {"id": run.pk, "name": run.name, "status": Status(run.status).label}
    return _("Run %(id)d “%(name)s” is now %(status)s.") % values


def end_share(pk: int) -> str:
    """Store that a share of a run has ended, unless that is stored by now."""
    RunShare.objects.filter(pk=pk, ended_at=None).update(ended_at=timezone.now())
    return _("The share was stored as ended.")


def force_stop(run: TrainingRun) -> str:
    run_verbs.force_stop_run(run, by="doctor")
    return _("Run %(id)d “%(name)s” is being stopped.") % {"id": run.pk, "name": run.name}
