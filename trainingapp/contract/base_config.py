"""What every task can be told.

Every field carries `json_schema_extra` made by `meta`: `label`, `unit` (may be empty), `group` (a section of the form)
and `advanced` (shown folded). Labels and helps are English; `_` marks them for translation where they are shown.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.retention import Policy

IMAGE_SIZE_MULTIPLE = 32
"""All these networks reduce their input by up to 32."""

MOST_ACCUMULATION = 256

START_FROM_PATTERN = r"^(run/\d{1,18}/[A-Za-z0-9_]+\.pt|weights/\d{1,18})?$"


def _(message: str) -> str:
    return message


def meta(label: str, group: str, unit: str = "", *, advanced: bool = False) -> dict[str, Any]:
    return {"label": label, "group": group, "unit": unit, "advanced": advanced}


def model_name(architectures: Iterable[str], open_libraries: Iterable[str] = ()) -> Any:
    """The type of a `model` field: one of `architectures`, or any name that begins with one of `open_libraries`."""
    names, beginnings = list(architectures), tuple(open_libraries)

    def known(name: str) -> str:
        if name not in names and not (beginnings and name.startswith(beginnings)):
            raise PydanticCustomError(
                "literal_error", "Input should be one of {expected}", {"expected": ", ".join(names)}
            )
        return name

    return Annotated[str, AfterValidator(known), WithJsonSchema({"type": "string", "enum": names})]


def image_size(value: int) -> int:
    if value % IMAGE_SIZE_MULTIPLE:
        raise PydanticCustomError(
            "multiple_of", "must be a multiple of {multiple_of}", {"multiple_of": IMAGE_SIZE_MULTIPLE}
        )
    return value


ImageSize = Annotated[int, AfterValidator(image_size)]


class BaseRunConfig(BaseModel):
    """What every task has. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    architectures: ClassVar[Mapping[str, Architecture]] = {}
    """The networks of the task by name."""

    open_libraries: ClassVar[tuple[str, ...]] = ()
    """Prefixes of networks that can be named without an entry in `architectures`: the library knows them."""

    if TYPE_CHECKING:  # each task has these fields, with bounds and help of its own
        task: str
        model: str
        image_size: int
        best_metric: str

    epochs: int = Field(
        20,
        ge=1,
        le=10_000,
        description=_("How many times the whole training split is seen."),
        json_schema_extra=meta(_("Epochs"), "training", _("epochs")),
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=4096,
        description=_("Images that are computed together. Halve it when memory runs out."),
        json_schema_extra=meta(_("Batch size"), "training", _("images")),
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        le=MOST_ACCUMULATION,
        description=_("Batches whose gradients are added up for one optimizer step: large batches in little memory."),
        json_schema_extra=meta(_("Accumulation"), "training", _("batches"), advanced=True),
    )
    auto_batch_size: bool = Field(
        False,
        description=_("Find the batch size at the start: the largest that fits and is still faster."),
        json_schema_extra=meta(_("Automatic batch size"), "training", advanced=True),
    )
    optimizer: Literal["SGD", "Adam", "AdamW", "RMSprop"] = Field(
        "AdamW",
        description=_("AdamW forgives a rough learning rate; SGD with momentum often ends a little higher."),
        json_schema_extra=meta(_("Optimizer"), "optimizer"),
    )
    learning_rate: float = Field(
        0.001,
        gt=0,
        le=10,
        description=_("Largest step size that the schedule reaches. Try 0.001 for AdamW, 0.05 for SGD."),
        json_schema_extra=meta(_("Learning rate"), "optimizer"),
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1,
        description=_("Pull of the weights towards zero. Biases and norms are left out."),
        json_schema_extra=meta(_("Weight decay"), "optimizer"),
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description=_("Momentum of SGD and RMSprop; the others do not use it."),
        json_schema_extra=meta(_("Momentum"), "optimizer", advanced=True),
    )
    scheduler: Literal["cosine", "step", "linear", "one-cycle", "constant"] = Field(
        "cosine",
        description=_("How the learning rate changes over the run."),
        json_schema_extra=meta(_("Schedule"), "optimizer"),
    )
    warmup_epochs: float = Field(
        1.0,
        ge=0,
        le=100,
        description=_("The learning rate rises from zero over this time. One-cycle has its own rise."),
        json_schema_extra=meta(_("Warm-up"), "optimizer", _("epochs"), advanced=True),
    )
    step_epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        description=_("The step schedule lowers the learning rate each time this long has passed."),
        json_schema_extra=meta(_("Step length"), "optimizer", _("epochs"), advanced=True),
    )
    step_factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=_("What the step schedule multiplies the learning rate by."),
        json_schema_extra=meta(_("Step factor"), "optimizer", advanced=True),
    )
    gradient_clip: float = Field(
        0.0,
        ge=0,
        le=1000,
        description=_("Gradients longer than this (their norm) are shortened to it. 0 turns it off."),
        json_schema_extra=meta(_("Gradient clipping"), "optimizer", advanced=True),
    )
    backbone_lr_factor: float = Field(
        1.0,
        gt=0,
        le=1,
        description=_("The backbone learns with the learning rate times this; less than 1 keeps what it knows."),
        json_schema_extra=meta(_("Backbone rate factor"), "optimizer", advanced=True),
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=_("Validate and keep a moving average of the weights too, such as 0.999. 0 turns it off."),
        json_schema_extra=meta(_("EMA decay"), "optimizer", advanced=True),
    )
    freeze: Literal["none", "backbone"] = Field(
        "none",
        description=_("Layers that keep the weights they start with; useful with pretrained ones."),
        json_schema_extra=meta(_("Freeze"), "optimizer", advanced=True),
    )
    freeze_epochs: int = Field(
        0,
        ge=0,
        le=10_000,
        description=_("How long they stay frozen. 0: for the whole run."),
        json_schema_extra=meta(_("Frozen for"), "optimizer", _("epochs"), advanced=True),
    )
    start_from: Annotated[str, Field(pattern=START_FROM_PATTERN)] = Field(
        "",
        description=_(
            "A checkpoint or an entry of the library to take matching weights from: run/12/epoch_8.pt, weights/3."
        ),
        json_schema_extra=meta(_("Start from"), "model", advanced=True),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description=_("Fixes every random choice: the same seed gives the same run."),
        json_schema_extra=meta(_("Seed"), "machine"),
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$")] = Field(
        "auto",
        description=_(
            "auto takes a free GPU, or the CPU of a machine without GPUs. Or cpu, cuda (any GPU), cuda:0, cuda:1 ..."
        ),
        json_schema_extra=meta(_("Device"), "machine"),
    )
    device_count: int = Field(
        1,
        ge=1,
        le=64,
        description=_("CPU slots that the run takes; with more, fewer runs train beside it. A GPU run takes one GPU."),
        json_schema_extra=meta(_("Slots"), "machine", _("slots"), advanced=True),
    )
    min_free_memory_gb: float = Field(
        0.0,
        ge=0,
        le=4096,
        description=_("Wait for a device with this much free memory. 0: any that other programs leave alone."),
        json_schema_extra=meta(_("Free memory"), "machine", _("GB"), advanced=True),
    )
    share_device: bool = Field(
        False,
        description=_("Share a GPU with other runs that agree to it, each within the free memory that it asks for."),
        json_schema_extra=meta(_("Share a GPU"), "machine", advanced=True),
    )
    amp: bool = Field(
        False,
        description=_("Mixed precision: faster and smaller on GPUs, and on CPUs that have bfloat16."),
        json_schema_extra=meta(_("Mixed precision"), "machine"),
    )
    deterministic: bool = Field(
        True,
        description=_("Use only algorithms that repeat bit by bit. A resumed run then equals one never paused."),
        json_schema_extra=meta(_("Deterministic"), "machine", advanced=True),
    )
    channels_last: bool = Field(
        True,
        description=_("Keep colours beside each other in memory: faster on CPUs and on GPUs with tensor cores."),
        json_schema_extra=meta(_("Channels last"), "machine", advanced=True),
    )
    num_workers: int = Field(
        0,
        ge=0,
        le=64,
        description=_("Processes that load images. 0 loads within the trainer, good for small images."),
        json_schema_extra=meta(_("Loader processes"), "machine", _("processes"), advanced=True),
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        le=256,
        description=_("Threads for computing on the CPU; 0 takes all cores. Kept for the whole run."),
        json_schema_extra=meta(_("CPU threads"), "machine", _("threads"), advanced=True),
    )
    checkpoint_every_epochs: int = Field(
        1,
        ge=1,
        le=1000,
        description=_("Save a checkpoint each time this many epochs have passed, and after the last."),
        json_schema_extra=meta(_("Checkpoint every"), "saving", _("epochs")),
    )
    autosave_minutes: float = Field(
        5.0,
        ge=0,
        le=1440,
        description=_("Save within an epoch too, so that a crash costs less. 0 turns it off."),
        json_schema_extra=meta(_("Autosave every"), "saving", _("minutes")),
    )
    keep_checkpoints: int = Field(
        3,
        ge=2,
        le=1000,
        description=_("Newest checkpoints that stay. The best one always stays."),
        json_schema_extra=meta(_("Keep"), "saving", _("checkpoints")),
    )
    keep_best: int = Field(
        1,
        ge=1,
        le=1000,
        description=_("Best checkpoints that stay too, by the metric that decides."),
        json_schema_extra=meta(_("Keep the best"), "saving", _("checkpoints"), advanced=True),
    )
    keep_every_epochs: int = Field(
        0,
        ge=0,
        le=10_000,
        description=_("The checkpoint of each epoch with such a number stays too. 0 turns it off."),
        json_schema_extra=meta(_("Keep every"), "saving", _("epochs"), advanced=True),
    )
    keep_days: float = Field(
        0.0,
        ge=0,
        le=36_500,
        description=_("Checkpoints that are older go, but for the best and the newest two. 0 turns it off."),
        json_schema_extra=meta(_("Keep for"), "saving", _("days"), advanced=True),
    )
    keep_gb: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description=_("The oldest go when all take more than this, but for the best and the newest two. 0: no limit."),
        json_schema_extra=meta(_("Keep within"), "saving", _("GB"), advanced=True),
    )
    checkpoint_format: Literal["compact", "plain"] = Field(
        "compact",
        description=_("compact: compressed, and what did not change is stored once. plain: as torch.load reads it."),
        json_schema_extra=meta(_("Checkpoint format"), "saving", advanced=True),
    )
    early_stopping_epochs: int = Field(
        0,
        ge=0,
        le=1000,
        description=_("End the run after this many epochs without a better result. 0 turns it off."),
        json_schema_extra=meta(_("Early stopping"), "saving", _("epochs")),
    )
    log_every_steps: int = Field(
        5,
        ge=1,
        le=10_000,
        description=_("Steps between two points of the training curves."),
        json_schema_extra=meta(_("Point every"), "saving", _("steps"), advanced=True),
    )
    augmentation: Literal["none", "light", "medium", "strong", "custom"] = Field(
        "light",
        description=_("Random changes to training images: a preset, or custom for single switches."),
        json_schema_extra=meta(_("Augmentation"), "augmentation"),
    )
    flip_horizontal: bool = Field(
        True,
        description=_("Mirror left and right, every other time."),
        json_schema_extra=meta(_("Mirror"), "augmentation"),
    )
    flip_vertical: bool = Field(
        False,
        description=_("Turn upside down, every other time: for images taken from above."),
        json_schema_extra=meta(_("Upside down"), "augmentation"),
    )
    crop: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description=_("Largest share of the area that a random crop cuts away."),
        json_schema_extra=meta(_("Crop"), "augmentation"),
    )
    colour: float = Field(
        0.0,
        ge=0,
        le=1,
        description=_("How far brightness, contrast and saturation may change."),
        json_schema_extra=meta(_("Colour"), "augmentation"),
    )

    @classmethod
    def architecture_defaults(cls, model: str) -> dict[str, JsonValue]:
        """The values that suit this network better than the general defaults."""
        found = cls.architectures.get(model)
        return dict(found.defaults) if found else {}

    @classmethod
    def has_architecture(cls, model: str) -> bool:
        """Whether `model` names a network of the task, with or without an entry in `architectures`."""
        return model in cls.architectures or bool(cls.open_libraries and model.startswith(cls.open_libraries))

    def retention_policy(self) -> Policy:
        """Which checkpoints stay."""
        return Policy(
            self.keep_checkpoints, self.keep_best, self.keep_every_epochs, days=self.keep_days, gb=self.keep_gb
        )

    @model_validator(mode="before")
    @classmethod
    def _suit_the_model(cls, values: Any) -> Any:
        """What is not given takes the value that suits the chosen network."""
        model = values.get("model", cls.model_fields["model"].default) if isinstance(values, dict) else None
        if not isinstance(model, str):
            return values
        return cls.architecture_defaults(model) | values

    @model_validator(mode="after")
    def _warmup_fits(self) -> "BaseRunConfig":
        if self.warmup_epochs > self.epochs:
            raise ValueError(_("warmup_epochs must not be more than epochs"))
        return self

    @field_validator("device_count")
    @classmethod
    def _one_gpu(cls, count: int, others: ValidationInfo) -> int:
        if count > 1 and others.data.get("device", "cpu") != "cpu":
            raise ValueError(_("device_count must be 1 unless device is cpu: a run trains on one GPU"))
        return count

    @field_validator("share_device")
    @classmethod
    def _shares_a_known_part(cls, is_shared: bool, others: ValidationInfo) -> bool:
        if is_shared and not others.data.get("min_free_memory_gb", 1):
            raise ValueError(_("share_device needs min_free_memory_gb, the part of the GPU that is set aside for it"))
        return is_shared
