"""What the API takes and gives about runs."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from trainingapp.api.controls import ControlRequest, request_model
from trainingapp.api.paging import MOST_ID, Page, Paging, Text
from trainingapp.contract.events import Level
from trainingapp.contract.limits import (
    CONDITIONS_LENGTH,
    FILE_NAME_LENGTH,
    LICENCE_LENGTH,
    MAX_JSON_INTEGER,
    MAX_LIMIT_HOURS,
    MAX_PRIORITY,
    MAX_RECOVERIES,
    NAME_LENGTH,
    NOTE_LENGTH,
    SEARCH_LENGTH,
    TAG_LENGTH,
    USER_NAME_LENGTH,
)
from trainingapp.contract.tasks.registry import TaskName
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.run import LARGE_COLUMNS_OF_DATASET
from trainingapp.presentation.event_text import event_text, failure_text
from trainingapp.presentation.messages import rendered_list
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.columns import shown_columns
from trainingapp.runs.conditions import ConditionError, conditions

StatusName = Literal["pending", "queued", "running", "paused", "completed", "failed", "stopped"]
WeightsState = Literal["pending", "ready", "failed"]
VisibilityName = Literal["everybody", "team", "private"]
EventType = Literal["log", "metrics", "checkpoint", "sample", "status"]
#: Numbers above 2^53 - 1 are no numbers for every reader of JSON.
Number = Annotated[int, Field(ge=1, le=MAX_JSON_INTEGER)]

Hours = Annotated[float, Field(ge=0, le=MAX_LIMIT_HOURS)]
Count = Annotated[int, Field(ge=0, le=MAX_RECOVERIES)]
SOFT = "Hours after which the run saves and stops; 0: never."
HARD = "Hours after which its trainer is killed; 0: never."
RESTARTS = "Times that it resumes automatically after a crash."
#: Takes the studio's limit again.
Studio = Literal["studio"]

#: Values are taken as what they are: "3" is no number.
TAKEN = ConfigDict(extra="forbid", strict=True)


def _known_order(name: str) -> str:
    if name.removeprefix("-") not in shown_columns():
        raise PydanticCustomError("unknown_column", "Choose a column of the list of runs, such as -best")
    return name


def _valid_conditions(text: str) -> str:
    try:
        conditions(text)
    except ConditionError as error:
        raise PydanticCustomError("conditions", "{problem}", {"problem": str(error)}) from None
    return text


#: A column of the list of runs; a minus turns the order round.
RunOrder = Annotated[Text, AfterValidator(_known_order)]
#: Conditions as on the page of the runs.
Conditions = Annotated[Text, AfterValidator(_valid_conditions)]


class RunFilters(Paging):
    """Query parameters of the list of runs."""

    status: StatusName | None = Field(None, description="Only runs of this status.")
    task: TaskName | None = Field(None, description="Only runs of this task.")
    dataset: int | None = Field(None, ge=1, le=MOST_ID, description="Only runs on this dataset, by its number.")
    owner: Text | None = Field(None, max_length=USER_NAME_LENGTH, description="Only runs of this person, by user name.")
    tag: Text | None = Field(None, max_length=TAG_LENGTH, description="Only runs with this tag.")
    sweep: int | None = Field(None, ge=1, le=MOST_ID, description="Only trials of this sweep, by its number.")
    archived: bool = Field(False, description="true: only archived runs; otherwise they are left out.")
    starred: bool = Field(False, description="true: only runs that you have starred.")
    q: Conditions | None = Field(
        None,
        max_length=CONDITIONS_LENGTH,
        description="Only runs with these words in their name or dataset's name, or conditions: `lr<0.1 and best>0.9`.",
    )
    order: RunOrder = Field(
        "-created",
        max_length=SEARCH_LENGTH,
        description="The column that they are ordered by, such as `created`, `name`, `best`, `val_loss`, `lr`, "
        "`val/ap50` or `weight_decay`; a minus turns it round.",
    )


class TrainingRunCreate(Schema):
    """A new run. Fields of `config` that are left out take the values that suit the network."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "birds, first try",
                    "dataset": 1,
                    "config": {"task": "classification", "model": "resnet18", "epochs": 20, "batch_size": 32},
                    "start": True,
                }
            ]
        }
    )

    name: str = Field(min_length=1, max_length=NAME_LENGTH, description="Identifies the run in lists.")
    dataset: Number = Field(description="Number of a ready dataset.")
    config: dict[str, object] = Field({}, description="The configuration: one of those below, by its `task`.")
    priority: int = Field(0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Runs with a higher priority start first.")
    start: bool = Field(False, description="Queue it at once.")
    soft_limit_h: Hours | None = Field(None, description=f"{SOFT} Null: as the studio says.")
    hard_limit_h: Hours | None = Field(None, description=f"{HARD} Null: as the studio says.")
    max_recoveries: Count | None = Field(None, description=f"{RESTARTS} Null: as the studio says.")


class TrainingCheckRequest(Schema):
    """A run to try a few steps of."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"dataset": 1, "config": {"batch_size": 64}}]})

    dataset: Number = Field(description="Number of a ready dataset.")
    config: dict[str, object] = Field({}, description="The configuration, as for a new run.")


class TrainingRunUpdate(Schema):
    """The fields that can be changed. A missing field or null leaves the value unchanged."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"name": "birds, again", "priority": 5}]})

    name: str | None = Field(None, min_length=1, max_length=NAME_LENGTH)
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    soft_limit_h: Hours | Studio | None = Field(None, description=f"{SOFT} studio: as the studio says.")
    hard_limit_h: Hours | Studio | None = Field(None, description=f"{HARD} studio: as the studio says.")
    max_recoveries: Count | Studio | None = Field(None, description=f"{RESTARTS} studio: as the studio says.")


class TrainingStatusResponse(Schema):
    """The status of a run in short."""

    id: int
    status: StatusName
    shown_status: str = Field(description="As people read it: one of the statuses, or pausing, stopping or silent.")
    wanted: str = Field(description="The requested action that is not carried out yet: pause, stop, kill or empty.")
    progress: float = Field(description="Share of the steps done, 0 to 1.")
    epoch: int
    total_epochs: int
    step: int
    total_steps: int
    phase: str = Field(description="What the trainer does now: starting, train, validate, save.")
    saving: str = Field(description="The checkpoint that is being written and is not on the disk yet, or empty.")
    elapsed_s: float = Field(description="Seconds that trainers have spent on it.")
    eta_s: float | None = Field(description="Expected seconds to go; null while unknown.")
    metrics: dict[str, float | None] = Field(description="The latest metrics by name.")
    best_metric_name: str
    best_metric: float | None
    best_epoch: int | None
    error_class: str
    error_message: str
    event_seq: int = Field(description="Number of its newest event.")

    @staticmethod
    def resolve_wanted(run: TrainingRun) -> str:
        return run.requested_action

    @staticmethod
    def resolve_error_message(run: TrainingRun) -> str:
        return failure_text(run)


class Sharing(Schema):
    """Who else sees an object, besides its owner and administrators."""

    visibility: VisibilityName = Field(description="everybody who can sign in, the members of a team, or private.")
    team: str | None = Field(description="Name of the team that it is shared with.")

    @staticmethod
    def resolve_team(item: Any) -> str | None:
        return item.team.name if item.team is not None else None


class ShareRequest(Schema):
    """Who else is to see an object, besides its owner and administrators."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"visibility": "team", "team": "birds"}]})

    visibility: VisibilityName
    team: str | None = Field(
        None, min_length=1, max_length=NAME_LENGTH, description="team: name of a team of the owner's."
    )


#: Large columns of a run that are in no field of a row of the list.
NOT_LISTED = (
    *("config", "corrections", "requests", "retries", "resume_check", "environment", "error_lines", "note"),
    *LARGE_COLUMNS_OF_DATASET,
)


class _Run(TrainingStatusResponse):
    name: str
    tags: list[str]
    archived_at: datetime | None = Field(description="When it was archived; null: lists show it.")
    val_loss: float | None = Field(description="The last validation loss.")
    task: str = Field(description="The name of the task; one that is no longer installed, too.")
    dataset: int
    dataset_name: str
    owner: str
    priority: int
    device: str
    host: str
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    series_removed_at: datetime | None = Field(
        description="When the retention policy removed the points of the training; values of validations stay."
    )
    logs_removed_at: datetime | None = Field(description="When it removed the lines of the log.")

    @staticmethod
    def resolve_tags(run: TrainingRun) -> list[str]:
        return [tag.name for tag in run.tags.all()]

    @staticmethod
    def resolve_dataset(run: TrainingRun) -> int:
        return run.dataset_id

    @staticmethod
    def resolve_dataset_name(run: TrainingRun) -> str:
        return run.dataset.name

    @staticmethod
    def resolve_owner(run: TrainingRun) -> str:
        return run.owner.get_username()


class ExperimentListItem(_Run):
    """A run as a row of the list."""


class ExperimentList(Page):
    items: list[ExperimentListItem]


class TrainingRunResponse(_Run, Sharing):
    """A run as a whole."""

    version: int = Field(description="Counts the changes by people; it is the ETag.")
    note: str
    config: dict[str, object] = Field(description="The whole configuration, with its defaults.")
    corrections: list[str] = Field(description="Corrections of the configuration, as sentences.")
    soft_limit_h: float | None = Field(description="Its own soft time limit; null: the studio's.")
    hard_limit_h: float | None = Field(description="Its own hard time limit; null: the studio's.")
    max_recoveries: int | None = Field(description="Its own number of automatic restarts; null: the studio's.")
    attempt: int = Field(description="Counts the trainer processes.")
    recoveries: int = Field(description="Automatic restarts since a user last started it.")
    hosts: list[str] = Field(description="The hosts that train it, or trained it last; the first supervises it.")
    error_lines: list[str] = Field(description="Lines of the log that show the error.")
    forked_from: int | None = Field(description="Number of the run that it was made from.")
    verbs: list[str] = Field(description="What may be asked of it as it stands.")

    @staticmethod
    def resolve_corrections(run: TrainingRun) -> list[str]:
        return rendered_list(run.corrections)

    @staticmethod
    def resolve_forked_from(run: TrainingRun) -> int | None:
        return run.forked_from_id

    @staticmethod
    def resolve_verbs(run: TrainingRun) -> list[str]:
        return run_verbs.possible_verbs(run)


if TYPE_CHECKING:
    TrainingControlRequest = ControlRequest
else:
    TrainingControlRequest = request_model()


class TrainingControlResponse(Schema):
    """The run after the verb; of clone and fork, the new one."""

    action: str
    run: TrainingRunResponse


class TrainingSaveRequest(Schema):
    """What to save to the weights library."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={"examples": [{"name": "birds", "note": "First one that tells finches apart."}]}
    )

    name: str = Field(
        min_length=1, max_length=NAME_LENGTH, description="Weights of one name are numbered as its versions."
    )
    checkpoint: str | None = Field(
        None, min_length=1, max_length=FILE_NAME_LENGTH, description="File of the checkpoint; without it, the best."
    )
    note: str = Field("", max_length=NOTE_LENGTH)
    licence: str = Field("", max_length=LICENCE_LENGTH)


class TrainingSaveResponse(Schema):
    """The entry of the library that was made."""

    id: int
    name: str
    version: int
    state: WeightsState = Field(description="pending until a worker has written the file, then ready, or failed.")
    run: int
    checkpoint: str


class TrainingDeleteResponse(Schema):
    """What a deletion freed."""

    bytes: int
    files: int


class MetricsFilters(Schema):
    """Query parameters of the metrics."""

    since: int = Field(0, ge=0, le=MOST_ID, description="Only entries above this number (`seq`).")
    names: Text | None = Field(
        None, max_length=1000, description="Only these values, such as loss or val/top1, separated by commas."
    )
    max_points: int = Field(
        2000, ge=10, le=20_000, description="Entries of each split at most; more are thinned so that peaks stay."
    )


class MetricsEntry(Schema):
    """The values of one step. A value that is no number, such as one that overflowed, is null."""

    seq: int
    time: datetime
    attempt: int
    epoch: int | None
    step: int | None
    split: str
    values: dict[str, float | None]


class MetricsList(Schema):
    items: list[MetricsEntry]
    seq: int = Field(description="The number that these reach up to: `since` for the next request.")
    thinned: bool = Field(description="Whether entries were left out for `max_points`.")


class LogFilters(Schema):
    """Query parameters of the log."""

    level: Level = Field("debug", description="Least level.")
    q: Text | None = Field(None, max_length=SEARCH_LENGTH, description="Only lines with this text.")
    after: int = Field(0, ge=0, le=MOST_ID, description="The cursor: only lines above this number (`seq`).")
    limit: int = Field(500, ge=1, le=5000)


class LogEntry(Schema):
    """A line of the log."""

    seq: int
    time: datetime
    type: EventType
    level: str
    attempt: int
    epoch: int | None
    step: int | None
    message: str

    @staticmethod
    def resolve_message(event: RunEvent) -> str:
        return event_text(event)


class LogList(Schema):
    items: list[LogEntry]
    next: int | None = Field(description="`after` for the lines that follow; null when there is none yet.")


class CheckpointInfo(Schema):
    """A saved state of a run."""

    file: str
    attempt: int
    epoch: int
    step: int
    reason: str = Field(description="Why it was made: epoch, autosave, pause, stop or interrupt.")
    size_bytes: int
    sha256: str
    metrics: dict[str, float | None]
    is_best: bool
    is_last: bool
    is_pinned: bool = Field(description="Kept by hand: no policy deletes it.")
    damage: str = Field(description="What is wrong with the file; empty while nothing is.")
    created_at: datetime


class CheckpointChange(Schema):
    """What can be changed of a checkpoint."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"is_pinned": True}]})

    is_pinned: bool = Field(description="Keep it by hand: no policy deletes it.")


class CheckpointList(Schema):
    items: list[CheckpointInfo]
