"""What the API takes and gives about datasets, uploads, weights, devices, the queue and jobs."""

from datetime import datetime
from typing import Annotated, Literal, Protocol, TypedDict
from uuid import UUID

from django.conf import settings
from ninja import Path, Schema
from pydantic import ConfigDict, Field, JsonValue, model_validator

from trainingapp.accounts.permissions import Verb, can
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import Page, Paging, Text
from trainingapp.api.schemas import TAKEN, ExperimentListItem, Sharing, WeightsState
from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.export_options import LEAST_OPSET, MOST_OPSET, Axis
from trainingapp.contract.limits import (
    ALIAS_LENGTH,
    ARCHITECTURE_LENGTH,
    LICENCE_LENGTH,
    MAX_CLASSES,
    MAX_IMAGE_SIZE,
    MAX_JSON_INTEGER,
    NAME_LENGTH,
    NOTE_LENGTH,
    PATH_LENGTH,
    REASON_LENGTH,
    SEARCH_LENGTH,
)
from trainingapp.contract.old_names import with_new_names
from trainingapp.contract.tasks.registry import TaskName
from trainingapp.datasets.importing.reading_record import ReadingRecord, StoredOffer, StoredUnread
from trainingapp.datasets.options import ImportOptions, ReadingOptions
from trainingapp.datasets.report import ReportItem, rendered_items
from trainingapp.datasets.storing import store_jobs
from trainingapp.jobs.texts import job_message
from trainingapp.models import Dataset, Device, Host, Job, Weights
from trainingapp.presentation.messages import rendered_data, text_of

DatasetStatus = Literal["inspecting", "proposed", "importing", "ready", "refused"]
ExportFormat = Literal["onnx", "openvino", "pt2", "safetensors", "pt"]
WeightsFormat = Literal["safetensors", "pt"]
NormalisationName = Literal["imagenet", "centred", "plain", "clip"]
JobState = Literal["waiting", "working", "done", "failed", "cancelled"]


class DatasetFilters(Paging):
    status: DatasetStatus | None = Field(None, description="Only datasets of this status.")
    task: TaskName | None = Field(None, description="Only datasets whose annotations suffice for this task.")
    q: Text | None = Field(None, max_length=SEARCH_LENGTH, description="Only datasets with this in their name.")
    order: Literal["created", "-created", "name", "-name", "size", "-size"] = Field("-created")


class DatasetCreate(Schema):
    """The source of a dataset: a complete upload, or a folder of the server."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"name": "birds", "folder": "/srv/birds"}]})

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    upload: str | None = Field(None, min_length=32, max_length=32, description="Id of a complete upload.")
    folder: str | None = Field(
        None, min_length=1, max_length=PATH_LENGTH, description="Full path of a folder of the server that you may read."
    )
    options: ImportOptions | None = Field(
        None,
        description="Options to import it immediately. Without them, it is inspected and then waits for confirmation.",
    )
    reading: ReadingOptions | None = Field(
        None, description="How to read the source in the inspection; with `options`, state it there."
    )


class DatasetItem(Schema):
    """A dataset as a row of the list."""

    id: int
    name: str
    owner: str
    status: DatasetStatus
    tasks: list[str]
    label_mode: LabelMode = Field(description="multi: each image may have several labels of its own, or none.")
    format: str
    images: dict[str, int] = Field(description="Images of each split.")
    class_count: int
    size_bytes: int
    created_at: datetime

    @staticmethod
    def resolve_owner(dataset: Dataset) -> str:
        return dataset.owner.get_username()

    @staticmethod
    def resolve_class_count(dataset: Dataset) -> int:
        return len(dataset.classes)


class DatasetList(Page):
    items: list[DatasetItem]


class FindingText(Schema):
    """A message as a code with its parameters, for clients that render it themselves."""

    code: str
    params: dict[str, JsonValue]


class Finding(Schema):
    """One finding of an inspection or an import."""

    level: Literal["error", "warning"]
    code: str = Field(description="Category of the finding.")
    file: str = Field(description="File of the source, or empty.")
    message: str = Field(description="Text in the language of the request.")
    text: FindingText | None = Field(None, description="The message as code and parameters; none before version 0.2.")
    count: int | None = Field(None, description="Number of files or images that the finding is about.")
    files: list[str] | None = Field(None, description="The first of these files, where there are several.")


class ReadingOffer(Schema):
    """A field of the reading options that makes a difference for this source."""

    field: str
    used: str = Field(description="The value in force; empty where none could be used.")
    choices: list[str] = Field(description="The values that make sense.")
    reason: str = Field(description="What the automatic choice relied on, in the language of the request.")

    @staticmethod
    def resolve_reason(offer: StoredOffer) -> str:
        return rendered_data(offer["reason"] or {})


class UnreadGroup(Schema):
    """Files of one ending that were not read."""

    suffix: str = Field(description="The ending in lower case, with the dot; empty without one.")
    count: int
    first: list[str] = Field(description="Paths of the first of them.")
    reason: str = Field(description="Why, in the language of the request.")

    @staticmethod
    def resolve_reason(group: StoredUnread) -> str:
        return rendered_data(group["reason"])


class DatasetReading(Schema):
    """How the source of a dataset was read."""

    format: str = Field(description="Empty where the source could not be read.")
    split_origin: str = Field(description="Where the splits come from, in the language of the request.")
    offers: list[ReadingOffer]
    unread: list[UnreadGroup]

    @staticmethod
    def resolve_split_origin(record: ReadingRecord) -> str:
        return rendered_data(record["split_origin"] or {})


class DatasetResponse(DatasetItem, Sharing):
    """A dataset as a whole."""

    classes: list[str] = Field(description="Class names in the order of their labels.")
    counts: dict[str, dict[str, int]] = Field(description="Images that show each class, by split.")
    fingerprint: str
    job: UUID | None = Field(description="The job that inspects or imports it; cancel it there.")
    progress_done: int = Field(description="Images read by the import.")
    progress_total: int
    report: list[Finding] = Field(description="Errors and warnings of the import.")
    proposal: dict[str, object] = Field(description="Content of the source, as a basis for confirming the import.")
    options: dict[str, object] = Field(description="Options of the import.")
    reading: DatasetReading | None = Field(None, description="How the source was read; none before it is known.")
    is_stored: bool = Field(description="Whether the object store has a copy, from which other hosts fetch it.")
    store_job: UUID | None = Field(None, description="The newest job that stores it, or checks the stored copy.")

    @staticmethod
    def resolve_is_stored(dataset: Dataset) -> bool:
        return bool(dataset.store_key)

    @staticmethod
    def resolve_store_job(dataset: Dataset) -> UUID | None:
        newest = store_jobs(dataset).first() if settings.OBJECT_STORE_URL else None
        return newest.pk if newest else None

    @staticmethod
    def resolve_reading(dataset: Dataset) -> dict[str, object] | None:
        return dataset.reading or None

    @staticmethod
    def resolve_report(dataset: Dataset) -> list[ReportItem]:
        return rendered_items(dataset.report)

    @staticmethod
    def resolve_proposal(dataset: Dataset) -> dict[str, object]:
        found = dataset.proposal
        kept = {name: value for name, value in found.items() if name != "reading"}
        return {**kept, "report": rendered_items(found.get("report", []))} if found else {}

    @staticmethod
    def resolve_job(dataset: Dataset) -> UUID | None:
        return dataset.job_id

    @staticmethod
    def resolve_progress_done(dataset: Dataset) -> int:
        return dataset.job.done if dataset.job else 0

    @staticmethod
    def resolve_progress_total(dataset: Dataset) -> int:
        return dataset.job.total if dataset.job else 0


class DatasetStatistics(Schema):
    """Statistics of a ready dataset: counts by split and class, and the distribution of sizes."""

    id: int
    statistics: dict[str, object]


class UploadCreate(Schema):
    """An upload in parts."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"size": 734003200}]})

    size: int = Field(ge=1, le=MAX_JSON_INTEGER, description="Bytes of the whole file.")


class UploadResponse(Schema):
    """The progress of an upload. The next part starts at byte `received`."""

    id: str
    size: int
    received: int
    is_complete: bool


class WeightsFilters(Paging):
    task: TaskName | None = Field(None, description="Only weights of this task.")
    name: Text | None = Field(None, max_length=NAME_LENGTH, description="Only versions of this name.")
    alias: Text | None = Field(None, max_length=ALIAS_LENGTH, description="Only versions with this alias.")
    q: Text | None = Field(None, max_length=SEARCH_LENGTH, description="Only weights with this in their name or note.")
    order: Literal["name", "-name", "created", "-created"] = Field("-created")


class WeightsItem(Schema):
    """Weights of the library as a row of the list."""

    id: int
    name: str
    version: int
    owner: str
    task: str
    architecture: str
    metrics: dict[str, float | None]
    state: WeightsState = Field(description="pending until a worker has written the file, then ready, or failed.")
    size_bytes: int
    created_at: datetime
    aliases: list[str] = Field(description="Names, such as production, that stand for this version of the model.")

    @staticmethod
    def resolve_owner(weights: Weights) -> str:
        return weights.owner.get_username()

    @staticmethod
    def resolve_aliases(weights: Weights) -> list[str]:
        return [each.alias for each in weights.aliases.all()]


#: An alias in the path.
AliasName = Annotated[Text, Path(min_length=1, max_length=ALIAS_LENGTH, description="The alias, such as production.")]


class AliasQuery(Schema):
    """Names one version of a model by an alias."""

    name: Text = Field(min_length=1, max_length=NAME_LENGTH, description="The name of the model.")
    alias: Text = Field(min_length=1, max_length=ALIAS_LENGTH, description="The alias, such as production.")


class WeightsList(Page):
    items: list[WeightsItem]


class Context(TypedDict):
    """What django-ninja hands to a resolver."""

    request: ApiRequest


def _names_run(weights: Weights, context: Context) -> bool:
    """Whether the caller may see the run that the weights are of. The name of a deleted one belongs to the weights."""
    return weights.run is None or can(context["request"].caller.user, Verb.SEE, weights.run)


class WeightsResponse(WeightsItem, Sharing):
    """Weights of the library as a whole."""

    note: str
    source: str
    classes: list[str]
    image_size: int
    normalisation: dict[str, object]
    conversion: dict[str, object] = Field(
        description="How images of more than 8 bits are converted, as in the dataset; empty where it has none."
    )
    config: dict[str, object]
    run: int | None = Field(description="The run that they are of, where you may see it.")
    run_name: str
    checkpoint_file: str
    epoch: int | None
    dataset: int | None
    dataset_name: str
    dataset_fingerprint: str
    parent: int | None
    licence: str
    sha256: str

    @staticmethod
    def resolve_run(weights: Weights, context: Context) -> int | None:
        return weights.run_id if _names_run(weights, context) else None

    @staticmethod
    def resolve_run_name(weights: Weights, context: Context) -> str:
        return weights.run_name if _names_run(weights, context) else ""

    @staticmethod
    def resolve_dataset(weights: Weights) -> int | None:
        return weights.dataset_id

    @staticmethod
    def resolve_parent(weights: Weights) -> int | None:
        return weights.parent_id


class _WeightsAbout(Schema):
    """What has to be known of a file of weights; a worker finds out how much of it fits the network."""

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: object) -> object:
        return with_new_names(values) if isinstance(values, dict) else values

    name: Text = Field(
        min_length=1, max_length=NAME_LENGTH, description="Weights of one name are numbered as its versions."
    )
    format: WeightsFormat = Field("safetensors", description="pt: a file of torch.save with tensors and nothing else.")
    task: TaskName
    architecture: Text = Field(
        min_length=1, max_length=ARCHITECTURE_LENGTH, description="As a run names it, such as resnet18."
    )
    image_size: int = Field(
        224, ge=32, le=MAX_IMAGE_SIZE, multiple_of=32, description="The square that images are made to fit."
    )
    normalisation: NormalisationName = Field("imagenet", description="Pixel normalization used in training.")
    label_mode: LabelMode = Field("single", description="multi: a sigmoid for each class; for classification only.")
    classes: list[Text] = Field(min_length=1, max_length=MAX_CLASSES, description="Names, in the order of the outputs.")
    note: Text = Field("", max_length=NOTE_LENGTH)
    licence: Text = Field("", max_length=LICENCE_LENGTH)


class WeightsUpload(_WeightsAbout):
    """Query parameters of an upload of weights. With many classes, send the file in parts."""

    classes: list[Text] = Field(min_length=1, max_length=200, description="Names, in the order of the outputs.")


class WeightsCreate(_WeightsAbout):
    """Weights that were uploaded in parts."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "upload": "0" * 32,
                    "name": "birds",
                    "task": "classification",
                    "architecture": "resnet18",
                    "classes": ["finch", "wren"],
                }
            ]
        }
    )

    upload: str = Field(min_length=32, max_length=32, description="Id of a complete upload.")


class WeightsUpdate(Schema):
    """The fields that can be changed. A missing field or null leaves the value unchanged."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"note": "The best so far.", "licence": "CC0"}]})

    name: str | None = Field(
        None,
        min_length=1,
        max_length=NAME_LENGTH,
        description="Under another name it becomes the next version of that.",
    )
    note: str | None = Field(None, max_length=NOTE_LENGTH)
    licence: str | None = Field(None, max_length=LICENCE_LENGTH)


class PredictMany(Schema):
    """Images to look at as a whole: a split of a dataset, or a folder of the server."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"dataset": 1, "split": "val"}]})

    dataset: int | None = Field(None, ge=1, le=MAX_JSON_INTEGER, description="Number of a ready dataset.")
    split: Literal["train", "val", "all"] = "val"
    folder: str | None = Field(
        None, min_length=1, max_length=PATH_LENGTH, description="Full path of a folder of the server that you may read."
    )


class WeightsExport(Schema):
    """The formats, and the choices for ONNX and OpenVINO. What a network does not allow is skipped, with the reason."""

    model_config = TAKEN | ConfigDict(
        json_schema_extra={"examples": [{"formats": ["onnx", "safetensors"], "batch": "dynamic"}]}
    )

    formats: list[ExportFormat] = Field(min_length=1, max_length=5)
    batch: Axis = Field("fixed", description="Number of images: one, or dynamic.")
    size: Axis = Field("fixed", description="Height and width: the image size of the model, or dynamic.")
    opset: int | None = Field(
        None,
        ge=LEAST_OPSET,
        le=MOST_OPSET,
        description="Version of the ONNX operators; null: the default of PyTorch. Detection models: at most 20.",
    )
    half: bool = Field(False, description="Store the weights as float16. Inputs and outputs stay float32.")
    nms: bool = Field(
        False, description="Detection models only: non-maximum suppression inside the model, one image at a time."
    )


class _SeenHold(Protocol):
    run_id: int
    is_seen: bool


class ListedDevice(Protocol):
    """A device with its open holds, as api/system.py prefetches them."""

    held: list[_SeenHold]
    explanation_data: dict[str, object]

    @property
    def working_job(self) -> Job | None: ...


class DeviceItem(Schema):
    """A processor or a GPU that trains."""

    id: int
    name: str
    torch_name: str = Field(description="As the configuration names it: cpu, cuda:0 ...")
    kind: str
    uuid: str = Field(description="By which the driver knows a GPU or a MIG slice.")
    memory_bytes: int = Field(description="0: not known.")
    memory_free_bytes: int
    load: float | None
    temperature_c: float | None
    is_present: bool
    problem: str = Field(
        description=f"Why no run can be given it: empty, or {', '.join(sorted(Device.Problem.values))}."
    )
    quarantined_at: datetime | None = Field(
        description="Since when it gets no more runs; null: it is in no quarantine."
    )
    explanation: str = Field(
        description="Why no run can be given it and what to do about it, in the language of the request."
    )
    runs: list[int] = Field(description="Numbers of the runs that have it now.")
    private_runs: int = Field(description="How many more have it that you may not see.")
    has_job: bool = Field(description="Whether a job, such as a prediction of many images, uses it.")

    @staticmethod
    def resolve_has_job(device: ListedDevice) -> bool:
        return device.working_job is not None

    @staticmethod
    def resolve_explanation(device: ListedDevice) -> str:
        return str(text_of(device.explanation_data))

    @staticmethod
    def resolve_runs(device: ListedDevice) -> list[int]:
        return [hold.run_id for hold in device.held if hold.is_seen]

    @staticmethod
    def resolve_private_runs(device: ListedDevice) -> int:
        return sum(not hold.is_seen for hold in device.held)


class QuarantineRequest(Schema):
    model_config = TAKEN

    reason: Text = Field("", max_length=REASON_LENGTH, description="Shown with the device.")


class HostItem(Schema):
    """A machine with a worker."""

    name: str
    is_away: bool = Field(description="Its worker has left, or has sent no heartbeat for longer than the lease.")
    state: Literal["working", "leaving", "left"] = Field(
        description="What its worker last reported: leaving takes nothing new and saves its runs; left has ended as "
        "intended."
    )
    slots: int
    cpu_cores: int
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    load: float
    seen_at: datetime | None
    address: str = Field(description="Where other hosts reach it to train one run together; empty where they do not.")
    gpu_problem: str = Field(description="Why its GPU driver cannot be queried; empty where it can.")
    devices: list[DeviceItem]

    @staticmethod
    def resolve_gpu_problem(host: Host) -> str:
        return str(text_of(host.gpu_problem))

    @staticmethod
    def resolve_devices(host: Host) -> list[Device]:
        return list(host.devices.all())


class HostList(Schema):
    items: list[HostItem]


class QueueItem(ExperimentListItem):
    """A queued run with its place."""

    place: int = Field(description="Its place in the queue, from 1 on.")


class QueueList(Schema):
    items: list[QueueItem]


class QueueMove(Schema):
    """Where a queued run is to go."""

    model_config = TAKEN | ConfigDict(json_schema_extra={"examples": [{"run": 3, "before": 1}]})

    run: int = Field(ge=1, le=MAX_JSON_INTEGER, description="The run to move.")
    before: int | None = Field(None, ge=1, le=MAX_JSON_INTEGER, description="The queued run that it is to come before.")
    after: int | None = Field(None, ge=1, le=MAX_JSON_INTEGER, description="The queued run that it is to come after.")
    to: Literal["first", "last"] | None = Field(None, description="The first or the last place of all.")


class JobFilters(Paging):
    state: JobState | None = Field(None, description="Only jobs in this state.")


class JobResponse(Schema):
    """Work that takes a worker from seconds to hours: a preflight, an export, a prediction, an import ..."""

    id: UUID
    kind: str
    state: JobState
    done: int
    total: int
    message: str = Field(description="The phase of a job in progress, or why it failed, in your language.")
    message_data: dict[str, object] = Field(description="The same as a code with parameters; empty where it has none.")
    result: dict[str, object]
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def resolve_message(job: Job) -> str:
        return job_message(job)


class JobList(Page):
    items: list[JobResponse]
