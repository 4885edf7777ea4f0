"""The kinds of jobs: one record each, from which the worker learns how to do a job and what follows from its end.

Rooms above this one do the work of a kind or use its result. Their functions are named by dotted paths and loaded when
they are needed, so that this room imports none of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from django.utils.module_loading import import_string

from trainingapp.contract.messages import Message, MessageError
from trainingapp.models import Job

DAY_S = 24 * 3600.0
HOUR_S = 3600.0


class Lane(Enum):
    """A worker does the jobs of one lane one after the other; jobs of different lanes do not wait for each other."""

    #: Predictions, in a process that keeps its model between jobs.
    WARM = "warm"
    #: Seconds of work that a user waits for.
    SHORT = "short"
    IMPORT = "import"
    #: Copies to the object store, which may take hours and need little but the network.
    STORE = "store"
    #: Everything else, which may take minutes.
    LONG = "long"


class ReportProgress(Protocol):
    """Called by work in the worker's process: reports progress, and raises JobStopped where the work is to end."""

    def __call__(self, done: int, total: int, phase: Message) -> None: ...


#: Work in the worker's process. Called again after a lost worker, so it must be safe to repeat.
Work = Callable[[Job, ReportProgress], Mapping[str, object]]
#: Stores the result of a job. Called again after a crash, so it must be safe to repeat.
OnDone = Callable[[Job, Mapping[str, object]], None]
#: Stores that a job failed or was cancelled, with the message of the reason; False where its result exists already.
OnFailed = Callable[[Job, Message], bool]


class JobRefused(MessageError):
    """The work cannot be done; the message says why and is shown as it is."""


class JobStopped(Exception):
    """The job was cancelled, was claimed by another worker, or the worker shuts down."""


@dataclass(frozen=True)
class JobKind:
    """How a kind of job is done. Its label is that of `Job.Kind`."""

    name: str
    lane: Lane
    #: Dotted path of the Work; empty: an engine process does it.
    work_path: str = ""
    on_done_path: str = ""
    on_failed_path: str = ""
    #: Attempts whose worker was lost before the job fails; a worker that shuts down in order costs none.
    max_tries: int = 2
    #: Seconds after which the job is ended; None: no limit.
    max_s: float | None = 1800.0
    #: Seconds that the job and its files stay after its end.
    kept_s: float = DAY_S
    #: Whether it computes on a GPU where one is free; its engine process gets the name of the device.
    uses_gpu: bool = False
    #: Shows the result on the page of the job.
    template: str = "jobs/_done.html"

    @property
    def work(self) -> Work | None:
        """None where an engine process does it."""
        found: Work | None = import_string(self.work_path) if self.work_path else None
        return found

    def on_done(self, job: Job, result: Mapping[str, object]) -> None:
        """Store what the job made where it belongs."""
        if self.on_done_path:
            import_string(self.on_done_path)(job, result)

    def on_failed(self, job: Job, message: Message) -> bool:
        """Store that the job made nothing; False where its result exists already."""
        return not self.on_failed_path or bool(import_string(self.on_failed_path)(job, message))


_WEIGHTS = "trainingapp.weights.model_files"
_IMPORTS = "trainingapp.datasets.imports"
_PUBLISHED = "trainingapp.weights.published"

JOB_KINDS = {
    kind.name: kind
    for kind in (
        JobKind(Job.Kind.PREFLIGHT, Lane.LONG, uses_gpu=True, template="jobs/_preflight.html"),
        JobKind(Job.Kind.EXPORT, Lane.LONG, on_done_path=f"{_WEIGHTS}.note_export", template="jobs/_export.html"),
        JobKind(Job.Kind.PREDICT, Lane.WARM, template="jobs/_predict.html"),
        JobKind(Job.Kind.PREDICT_MANY, Lane.LONG, uses_gpu=True, template="jobs/_predict_many.html"),
        JobKind(
            Job.Kind.CHECK_WEIGHTS,
            Lane.LONG,
            on_done_path=f"{_WEIGHTS}.take_file",
            on_failed_path=f"{_WEIGHTS}.note_failure",
        ),
        JobKind(
            Job.Kind.SAVE_WEIGHTS,
            Lane.SHORT,
            on_done_path=f"{_WEIGHTS}.take_file",
            on_failed_path=f"{_WEIGHTS}.note_failure",
        ),
        JobKind(Job.Kind.BATCH_PREVIEW, Lane.SHORT, max_s=120.0, kept_s=HOUR_S, template="jobs/_batch_preview.html"),
        # An import may take hours, and a machine that is switched off again and again must not make it fail soon.
        JobKind(
            Job.Kind.INSPECT_DATASET,
            Lane.IMPORT,
            work_path=f"{_IMPORTS}.inspect",
            on_failed_path=f"{_IMPORTS}.note_failure",
            max_tries=5,
            max_s=None,
        ),
        JobKind(
            Job.Kind.IMPORT_DATASET,
            Lane.IMPORT,
            work_path=f"{_IMPORTS}.import_images",
            on_done_path="trainingapp.datasets.storing.store_imported",
            on_failed_path=f"{_IMPORTS}.note_failure",
            max_tries=5,
            max_s=None,
        ),
        JobKind(
            Job.Kind.STORE_DATASET,
            Lane.STORE,
            work_path="trainingapp.datasets.storing.store",
            on_done_path="trainingapp.datasets.storing.note_stored",
            max_tries=5,
            max_s=None,
        ),
        # A download ends when no byte comes for a while.
        JobKind(
            Job.Kind.FETCH_PUBLISHED,
            Lane.LONG,
            work_path=f"{_PUBLISHED}.fetch",
            max_s=None,
            template="jobs/_published.html",
        ),
        JobKind(
            Job.Kind.IMPORT_PUBLISHED,
            Lane.LONG,
            work_path=f"{_PUBLISHED}.import_files",
            on_done_path=f"{_PUBLISHED}.drop_upload",
            on_failed_path=f"{_PUBLISHED}.drop_failed_upload",
            max_s=None,
            template="jobs/_published.html",
        ),
        JobKind(
            Job.Kind.INTERVALS,
            Lane.LONG,
            work_path="trainingapp.runs.interval_jobs.intervals",
            template="jobs/_intervals.html",
        ),
    )
}


def kind_of(job: Job) -> JobKind:
    """The record of the job's kind. A kind of a later version has none: the engine refuses it with a message."""
    return JOB_KINDS.get(job.kind) or JobKind(job.kind, Lane.LONG)


def kinds_in(lane: Lane) -> list[str]:
    """The names of the kinds of a lane."""
    return [name for name, kind in JOB_KINDS.items() if kind.lane is lane]
