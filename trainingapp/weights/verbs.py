"""The verbs of stored models: save, upload, change, delete, export, predict."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from PIL import Image
from pydantic import ValidationError

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import visible_to
from trainingapp.accounts.users import AnyUser
from trainingapp.contract import weight_files
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.deep_images import Conversion, bands_to_read
from trainingapp.contract.evaluation import read_evaluation
from trainingapp.contract.export_options import ExportOptions
from trainingapp.contract.limits import LICENCE_LENGTH, MAX_CLASSES
from trainingapp.contract.model_card import EXPORT_FILES, NORMALISATIONS
from trainingapp.contract.pretrained import settled_config
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.contract.tiff_bands import read_header
from trainingapp.datasets.images.decoding import FORMATS, MOST_PIXELS
from trainingapp.datasets.import_rights import may_import_from
from trainingapp.jobs.kinds import JOB_KINDS
from trainingapp.jobs.verbs import cancel_job, prepared_job, submit_job
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun, Weights
from trainingapp.models.run import Status
from trainingapp.models.trash import moved, trash_name
from trainingapp.models.verbs import (
    DeletionSize,
    VerbError,
    changed_meanwhile,
    checked_name,
    folder_size,
    refresh_locked,
    remove_trash,
    require_task,
)
from trainingapp.presentation.event_text import damage_text
from trainingapp.presentation.messages import rendered
from trainingapp.presentation.validation_errors import error_text
from trainingapp.runs import checkpoint_files as housekeeping
from trainingapp.weights import aliases, model_files

MOST_IMAGES = 50
#: Exports of a user that the page of a model lists.
EXPORTS_LISTED = 20
MOST_IMAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class WeightsUses:
    """What was made from an entry, as far as the reader may see it; the rest is counted."""

    children: list[Weights]
    runs: list[TrainingRun]
    hidden: int = 0
    hidden_waiting: int = 0

    @property
    def waiting(self) -> list[TrainingRun]:
        """Runs that have yet to read the file."""
        return [run for run in self.runs if _has_yet_to_start(run)]


#: Attempts to store a version: each concurrent first version may conflict once.
TRIES = 10


def _has_yet_to_start(run: TrainingRun) -> bool:
    """A run that was paused in the queue has no checkpoint to resume from."""
    is_in_work = run.status in (Status.PENDING, Status.QUEUED, Status.RUNNING)
    return is_in_work or (run.status == Status.PAUSED and not run.checkpoints.exists())


def save_weights(
    run: TrainingRun, *, file: str | None = None, name: str, note: str = "", licence: str = "", by: User
) -> Weights:
    """Take the run's best checkpoint, or another one, into the library as the next version of `name`.

    The entry is pending until a worker has written the file. The same checkpoint under the same name is saved once.
    """
    checkpoint = _checkpoint(run, file)
    fields = {"name": checked_name(name), "run": run, "checkpoint_file": checkpoint.file, "epoch": checkpoint.epoch}
    unfailed = Weights.objects.filter(metrics=checkpoint.metrics, **fields).exclude(state=Weights.State.FAILED)
    if found := unfailed.first():
        return found
    # Before the end of its epoch, a checkpoint has the thresholds of the validation before it.
    evaluation = read_evaluation(run.folder, checkpoint.epoch) or {}
    earlier = evaluation or read_evaluation(run.folder, checkpoint.epoch - 1) or {}
    kind, _slash, number = run.config.get("start_from", "").partition("/")
    weights = Weights(
        owner=by,
        note=note.strip(),
        licence=_checked_licence(licence),
        task=run.task,
        architecture=run.config["model"],
        classes=run.dataset.classes,
        image_size=run.config["image_size"],
        normalisation=NORMALISATIONS["imagenet"],  # until the worker has read that of the checkpoint
        conversion=run.dataset.reading.get("conversion", {}),
        config=settled_config(run.config, run.environment),
        metrics=checkpoint.metrics,
        report={
            "best_confidence": evaluation.get("best_confidence"),
            "thresholds": earlier.get("thresholds"),
        },
        run_name=run.name,
        dataset=run.dataset,
        dataset_name=run.dataset.name,
        dataset_fingerprint=run.dataset.fingerprint,
        parent=Weights.objects.filter(pk=int(number)).first() if kind == "weights" else None,
        **fields,
    )
    job = prepared_job(Job.Kind.SAVE_WEIGHTS, owner=by, params={"checkpoint": str(checkpoint.path)})
    return _store(weights, job)


def _checkpoint(run: TrainingRun, file: str | None) -> Checkpoint:
    found = run.checkpoints.filter(is_best=True) if file is None else run.checkpoints.filter(file=file)
    checkpoint = found.first()
    if checkpoint is None and file is None:
        raise VerbError(_("The run “%(name)s” has no best checkpoint yet.") % {"name": run.name})
    if checkpoint is None:
        raise VerbError(_("The run “%(name)s” has no checkpoint %(file)s.") % {"name": run.name, "file": file})
    return checkpoint


def _store(weights: Weights, job: Job) -> Weights:
    """Store a pending entry as the next version of its name, and have a worker make its file."""
    for tries_left in reversed(range(TRIES)):
        try:
            with transaction.atomic():
                weights.version = _next_version(weights.name)
                job.params = {**job.params, "card": weights.card()}
                weights.job = submit_job(job)
                weights.save(force_insert=True)
                audit.record("save", weights, by=weights.owner)
            break
        except IntegrityError:  # beside a first version, which was no row to lock yet; the next try has one
            if not tries_left:
                raise
    return weights


def _next_version(name: str) -> int:
    """Under the lock of the oldest version, so that concurrent saves get a number each.

    The newest version differs for a later caller: two callers would hold different locks and take the same number.
    """
    list(Weights.objects.filter(name=name).order_by("pk").select_for_update()[:1])
    return (Weights.objects.filter(name=name).aggregate(last=Max("version"))["last"] or 0) + 1


def upload_weights(
    *,
    owner: User,
    path: Path,
    file_name: str,
    name: str,
    task: str,
    architecture: str,
    image_size: int,
    classes: Sequence[str],
    normalisation: str = "imagenet",
    label_mode: LabelMode = "single",
    note: str = "",
    licence: str = "",
) -> Weights:
    """Take a file of weights into the library; it is moved away from `path`. A worker finds out how much of it fits."""
    suffix = check_weights_file(path, file_name)
    config = _uploaded_config(task, architecture, image_size, label_mode)
    weights = Weights(
        name=checked_name(name),
        owner=owner,
        source=Weights.Source.UPLOAD,
        note=note.strip(),
        licence=_checked_licence(licence),
        task=task,
        architecture=architecture,
        classes=_checked_classes(classes, task),
        image_size=image_size,
        normalisation=NORMALISATIONS[normalisation],
        config=config,
    )
    job = prepared_job(Job.Kind.CHECK_WEIGHTS, owner=owner, params={"file": f"upload{suffix}"})
    shutil.move(path, job.folder / f"upload{suffix}")
    return _store(weights, job)


def check_weights_file(path: Path, file_name: str) -> str:
    """The suffix by which the engine reads a file of weights. Raises VerbError, naming what the file is instead."""
    problem = weight_files.refusal(path, file_name)
    if problem is not None:
        raise VerbError(rendered(problem))
    return ".safetensors" if weight_files.is_safetensors(path) else ".pt"


def _uploaded_config(task: str, architecture: str, image_size: int, label_mode: LabelMode) -> dict[str, object]:
    values = {"task": task, "model": architecture, "image_size": image_size}
    if label_mode == "multi":
        if TASKS[task].annotation != "labels":
            raise VerbError(_("Only classification models can have several labels per image."))
        values["label_mode"] = label_mode
    try:
        config = parse_config(values)
    except ValidationError as error:
        found = error.errors()[0]
        field = ".".join(map(str, found["loc"]))
        raise VerbError(f"{'architecture' if field == 'model' else field}: {error_text(found)}") from None
    return config.model_dump(mode="json")


def _checked_classes(classes: Sequence[str], task: str) -> list[str]:
    names = [name.strip() for name in classes if name.strip()]
    if len(names) < TASKS[task].least_classes:
        raise VerbError(_("Name the classes, in the order of the network's outputs."))
    if len(set(names)) != len(names):
        raise VerbError(_("Two classes have the same name."))
    if len(names) > MAX_CLASSES:
        raise VerbError(_("There are more than %(count)d classes.") % {"count": MAX_CLASSES})
    return names


def _checked_licence(licence: str) -> str:
    if len(licence.strip()) > LICENCE_LENGTH:
        raise VerbError(_("The licence has more than %(count)d characters.") % {"count": LICENCE_LENGTH})
    return licence.strip()


def weights_tag(weights: Weights) -> str:
    """The version of the description of a model, as an ETag: it changes with each change."""
    description = "\0".join((weights.name, str(weights.version), weights.note, weights.licence))
    return hashlib.sha256(description.encode()).hexdigest()[:16]


def update_weights(
    weights: Weights,
    *,
    name: str | None = None,
    note: str | None = None,
    licence: str | None = None,
    tag: str | None = None,
) -> Weights:
    """Change the description of a model. Under another name it becomes the next version of that name, with its aliases.

    With `tag`, that of the entry as the caller read it: raises VersionError where it was changed since.
    """
    with transaction.atomic():
        refresh_locked(weights)
        if tag is not None and tag != weights_tag(weights):
            raise changed_meanwhile(weights)
        before = {field: getattr(weights, field) for field in ("name", "version", "note", "licence")}
        if name is not None and checked_name(name) != weights.name:
            weights.name = checked_name(name)
            weights.version = _next_version(weights.name)
            aliases.take_along(weights)
        weights.note = weights.note if note is None else note.strip()
        weights.licence = weights.licence if licence is None else _checked_licence(licence)
        changed = [field for field, value in before.items() if getattr(weights, field) != value]
        if changed:
            weights.save(update_fields=changed)
            audit.record("change", weights, details={"fields": changed})
    return weights


def weights_uses(weights: Weights, reader: AnyUser | None = None) -> WeightsUses:
    """The models that were made from it, and the runs that start from it; those that the reader may see, or all."""
    runs = list(TrainingRun.objects.filter(config__start_from=weights.start_name).order_by("pk"))
    children = list(weights.children.all())
    if reader is None:
        return WeightsUses(children, runs)
    visible_runs = set(visible_to(reader, TrainingRun.objects.filter(config__start_from=weights.start_name)))
    visible_children = list(visible_to(reader, weights.children.all()))
    hidden = [run for run in runs if run not in visible_runs]
    return WeightsUses(
        visible_children,
        [run for run in runs if run in visible_runs],
        hidden=len(hidden) + len(children) - len(visible_children),
        hidden_waiting=sum(map(_has_yet_to_start, hidden)),
    )


def weights_deletion_size(weights: Weights) -> DeletionSize:
    """What deleting the entry would free."""
    return folder_size(weights.folder)


def delete_weights(weights: Weights) -> DeletionSize:
    """Remove the entry and its file. Refused while a run has yet to read it; what was made from it stays."""
    size = weights_deletion_size(weights)
    trash = trash_name(weights.folder)
    with transaction.atomic():
        refresh_locked(weights)
        _check_unneeded(weights)
        job = weights.job
        named = [each.alias for each in weights.aliases.all()]
        audit.record("delete", weights, details={"bytes": size.bytes, **({"aliases": named} if named else {})})
        with moved(weights.folder, trash):
            weights.delete()
    if job is not None and job.kind in model_files.MAKING:
        cancel_job(job)
    remove_trash(trash)
    return size


def _check_unneeded(weights: Weights) -> None:
    uses = weights_uses(weights, weights.owner)
    waiting = [run.name for run in uses.waiting]
    if not waiting and uses.hidden_waiting:
        raise VerbError(_("Runs that are not shared with you will start from this model."))
    if not waiting:
        return
    listed = ", ".join(waiting[:5]) + (", …" if len(waiting) > 5 else "")
    message = ngettext(
        "The run %(names)s will start from this model. Delete it or wait until it ends.",
        "The runs %(names)s will start from this model. Delete them or wait until they end.",
        len(waiting),
    )
    raise VerbError(message % {"names": listed})


def check_usable(weights: Weights) -> None:
    """Raises VerbError where the entry cannot predict (yet)."""
    require_task(weights.task)
    if not weights.is_ready:
        raise VerbError(_("“%(name)s” is %(state)s.") % {"name": weights, "state": weights.get_state_display()})
    check_undamaged(weights)
    if not weights.is_whole:
        raise VerbError(
            _("“%(name)s” is not a complete network and can only be used as initial weights.") % {"name": weights}
        )


def check_undamaged(weights: Weights) -> None:
    """Raises VerbError where the file was found to be another one than was written, or gone."""
    if weights.damage:
        message = _("The file of “%(name)s” %(wrong)s. Restore it from a backup, or save the model again.")
        raise VerbError(message % {"name": weights, "wrong": damage_text(weights)})


def verify_weights(weights: Weights) -> str:
    """Compare the file with its hash now; returns what is wrong, or nothing. Runs that start from it log it."""
    if not weights.is_ready:
        raise VerbError(_("“%(name)s” is %(state)s.") % {"name": weights, "state": weights.get_state_display()})
    wrong = housekeeping.compare_weights(weights)
    weights.refresh_from_db()
    audit.record("verify", weights, details={"damage": wrong} if wrong else {})
    return wrong


def export_weights(weights: Weights, *, formats: Sequence[str], options: ExportOptions | None = None, by: User) -> Job:
    """Have a worker pack the model in these formats. The zip is kept as long as its job is.

    `options` are about ONNX and OpenVINO. Raises VerbError for a choice that no network of the task has; what the
    architecture does not allow, the job finds out.
    """
    check_usable(weights)
    options = options or ExportOptions()
    if problem := options.problem(weights.task):
        raise VerbError(rendered(problem))
    unknown = [name for name in formats if name not in EXPORT_FILES]
    if unknown or not formats:
        known = ", ".join(EXPORT_FILES)
        raise VerbError(_("Choose one or more of the formats %(known)s.") % {"known": known})
    dataset = weights.dataset
    ordered = [name for name in EXPORT_FILES if name in formats]
    params = {
        **_job_params(weights),
        "formats": ordered,
        "options": options.as_data(),
        "dataset_dir": str(dataset.folder) if dataset and dataset.status == Dataset.Status.READY else "",
    }
    job = prepared_job(Job.Kind.EXPORT, owner=by, params=params, total=len(ordered) + 2)
    changed = {name: value for name, value in options.as_data().items() if value != ExportOptions().as_data()[name]}
    return _submitted(job, "export", weights, formats=ordered, **changed)


def _submitted(job: Job, verb: str, weights: Weights, **details: object) -> Job:
    """Store the job that does this with the entry."""
    with transaction.atomic():
        audit.record(verb, weights, by=job.owner.get_username(), details=details)
        return submit_job(job)


@dataclass(frozen=True)
class OwnExport:
    """An export that a user has asked for, and when its zip is removed; None while it is not packed."""

    job: Job
    formats: list[str]
    expires_at: datetime | None


def exports_of(weights: Weights, user: AnyUser) -> list[OwnExport]:
    """The user's exports of a model that are still kept, newest first."""
    kept = timedelta(seconds=JOB_KINDS[Job.Kind.EXPORT].kept_s)
    rows = Job.objects.filter(kind=Job.Kind.EXPORT, owner_id=user.pk, params__weights_id=weights.pk)
    return [
        OwnExport(job, list(job.params["formats"]), job.finished_at + kept if job.finished_at else None)
        for job in rows[:EXPORTS_LISTED]
    ]


def _job_params(weights: Weights) -> dict[str, object]:
    return {"weights_id": weights.pk, "card": weights.card(), "weights": str(weights.path)}


def predict(weights: Weights, *, images: Sequence[tuple[str, BinaryIO]], by: User) -> Job:
    """Have a worker look at a few images, (name, open file) each. They are copied, and go with the job."""
    check_usable(weights)
    if not images:
        raise VerbError(_("Choose at least one image."))
    if len(images) > MOST_IMAGES:
        raise VerbError(_("At most %(count)d images at once.") % {"count": MOST_IMAGES})
    job = prepared_job(Job.Kind.PREDICT, owner=by, params=_job_params(weights), total=len(images))
    try:
        conversion = Conversion.from_data(weights.conversion)
        job.params["images"] = [_stored_image(job, number, *one, conversion) for number, one in enumerate(images)]
    except BaseException:
        shutil.rmtree(job.folder, ignore_errors=True)
        raise
    return _submitted(job, "predict", weights, images=len(images))


def _stored_image(job: Job, number: int, name: str, content: BinaryIO, conversion: Conversion | None) -> dict[str, str]:
    """Copy an image into the job's folder. Only its header is read here: a worker decodes it."""
    folder = job.folder / "images"
    folder.mkdir(exist_ok=True)
    path = folder / str(number)
    shown = Path(name).name[:200] or str(number)
    with path.open("wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
            if file.tell() > MOST_IMAGE_BYTES:
                limit = MOST_IMAGE_BYTES // 1024**2
                raise VerbError(_("%(name)s is larger than %(limit)d MB.") % {"name": shown, "limit": limit})
    _check_header(path, shown, conversion)
    return {"file": path.name, "name": shown}


def _check_header(path: Path, name: str, conversion: Conversion | None) -> None:
    try:
        with path.open("rb") as file:
            header = read_header(file) if conversion else None
        if header and conversion and bands_to_read(header, conversion.bands):  # many of these Pillow cannot open
            width, height = header.width, header.height
        else:
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise VerbError(_("%(name)s has too many pixels.") % {"name": name}) from None
    except (OSError, SyntaxError, ValueError, EOFError):
        known = ", ".join(FORMATS)
        message = _("%(name)s is not a supported image. Supported formats: %(known)s.")
        raise VerbError(message % {"name": name, "known": known}) from None
    if width * height > MOST_PIXELS:
        message = _("%(name)s has %(width)d × %(height)d pixels, which is too many.")
        raise VerbError(message % {"name": name, "width": width, "height": height})


def predict_dataset(weights: Weights, dataset: Dataset, *, split: str, by: User) -> Job:
    """Have a worker look at a split of a dataset ("train", "val" or "all"), and measure where there are labels."""
    check_usable(weights)
    if dataset.status != Dataset.Status.READY:
        raise VerbError(_("The dataset “%(name)s” is not ready.") % {"name": dataset.name})
    if split not in ("train", "val", "all"):
        raise VerbError(_("The split must be train, val or all."))
    params = {**_job_params(weights), "dataset_dir": str(dataset.folder), "split": split, "of": dataset.name}
    job = prepared_job(Job.Kind.PREDICT_MANY, owner=by, params=params)
    return _submitted(job, "predict", weights, dataset=dataset.name, split=split)


def predict_folder(weights: Weights, folder: Path, *, by: User, from_shell: bool = False) -> Job:
    """Have a worker look at all images below a folder of the server."""
    check_usable(weights)
    folder = folder.resolve()
    if not from_shell and not may_import_from(by, folder):
        raise VerbError(_("Images cannot be read from %(folder)s.") % {"folder": folder})
    if not folder.is_dir():
        raise VerbError(_("The folder %(folder)s does not exist on the server.") % {"folder": folder})
    params = {**_job_params(weights), "folder": str(folder), "of": str(folder)}
    job = prepared_job(Job.Kind.PREDICT_MANY, owner=by, params=params)
    return _submitted(job, "predict", weights, folder=str(folder))
