"""RunConfig: the one definition of what a run can be told.

Form, API, command, stored JSON and trainer all use these models, so a field's bounds, default, unit and help exist
once. No torch here: the web process imports this module.

Every field carries `json_schema_extra` made by `_meta`: `label`, `unit` (may be empty), `group` (a section of the form)
and `advanced` (shown folded). Labels and helps are English; `_` marks them for translation where they are shown.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "resnet18": {"parameters": 11_689_512, "least_image_size": 32},
    "resnet34": {"parameters": 21_797_672, "least_image_size": 32},
    "resnet50": {"parameters": 25_557_032, "least_image_size": 32},
    "mobilenet_v3_small": {"parameters": 2_542_856, "least_image_size": 32},
    "mobilenet_v3_large": {"parameters": 5_483_032, "least_image_size": 32},
    "efficientnet_b0": {"parameters": 5_288_548, "least_image_size": 32},
    "convnext_tiny": {"parameters": 28_589_128, "least_image_size": 32},
    "vit_b_16": {"parameters": 86_567_656, "least_image_size": 32},
}
"""torchvision's classifiers, parameters with 1,000 classes as torchvision's model pages give them."""

IMAGE_SIZE_MULTIPLE = 32
"""All these networks reduce their input by up to 32 (vit_b_16 by 16)."""


def _(message: str) -> str:
    return message


def _meta(label: str, group: str, unit: str = "", *, advanced: bool = False) -> dict[str, Any]:
    return {"label": label, "group": group, "unit": unit, "advanced": advanced}


class BaseRunConfig(BaseModel):
    """What every recipe has. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    epochs: int = Field(
        20,
        ge=1,
        le=10_000,
        description=_("How many times the whole training split is seen."),
        json_schema_extra=_meta(_("Epochs"), "training", _("epochs")),
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=4096,
        description=_("Pictures per optimizer step. Halve it when memory runs out."),
        json_schema_extra=_meta(_("Batch size"), "training", _("pictures")),
    )
    optimizer: Literal["SGD", "Adam", "AdamW", "RMSprop"] = Field(
        "AdamW",
        description=_("AdamW forgives a rough learning rate; SGD with momentum often ends a little higher."),
        json_schema_extra=_meta(_("Optimizer"), "optimizer"),
    )
    learning_rate: float = Field(
        0.001,
        gt=0,
        le=10,
        description=_("Largest step size that the schedule reaches. Try 0.001 for AdamW, 0.05 for SGD."),
        json_schema_extra=_meta(_("Learning rate"), "optimizer"),
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1,
        description=_("Pull of the weights towards zero. Biases and norms are left out."),
        json_schema_extra=_meta(_("Weight decay"), "optimizer"),
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description=_("Momentum of SGD and RMSprop; the others do not use it."),
        json_schema_extra=_meta(_("Momentum"), "optimizer", advanced=True),
    )
    scheduler: Literal["cosine", "step", "linear", "one-cycle", "constant"] = Field(
        "cosine",
        description=_("How the learning rate changes over the run."),
        json_schema_extra=_meta(_("Schedule"), "optimizer"),
    )
    warmup_epochs: float = Field(
        1.0,
        ge=0,
        le=100,
        description=_("The learning rate rises from zero over this time. One-cycle has its own rise."),
        json_schema_extra=_meta(_("Warm-up"), "optimizer", _("epochs"), advanced=True),
    )
    step_epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        description=_("The step schedule lowers the learning rate each time this long has passed."),
        json_schema_extra=_meta(_("Step length"), "optimizer", _("epochs"), advanced=True),
    )
    step_factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=_("What the step schedule multiplies the learning rate by."),
        json_schema_extra=_meta(_("Step factor"), "optimizer", advanced=True),
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description=_("Fixes every random choice: the same seed gives the same run."),
        json_schema_extra=_meta(_("Seed"), "machine"),
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$")] = Field(
        "auto",
        description=_(
            "auto takes the GPU with the most free memory, or else the CPU. Or cpu, cuda, cuda:0, cuda:1 ..."
        ),
        json_schema_extra=_meta(_("Device"), "machine"),
    )
    amp: bool = Field(
        False,
        description=_("Mixed precision: faster and smaller on GPUs, and on CPUs that have bfloat16."),
        json_schema_extra=_meta(_("Mixed precision"), "machine"),
    )
    deterministic: bool = Field(
        True,
        description=_("Use only algorithms that repeat bit by bit. A resumed run then equals one never paused."),
        json_schema_extra=_meta(_("Deterministic"), "machine", advanced=True),
    )
    num_workers: int = Field(
        0,
        ge=0,
        le=64,
        description=_("Processes that load pictures. 0 loads within the trainer, good for small pictures."),
        json_schema_extra=_meta(_("Loader processes"), "machine", _("processes"), advanced=True),
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        le=256,
        description=_("Threads for computing on the CPU; 0 takes all cores. Kept for the whole run."),
        json_schema_extra=_meta(_("CPU threads"), "machine", _("threads"), advanced=True),
    )
    checkpoint_every_epochs: int = Field(
        1,
        ge=1,
        le=1000,
        description=_("Save a checkpoint each time this many epochs have passed, and after the last."),
        json_schema_extra=_meta(_("Checkpoint every"), "saving", _("epochs")),
    )
    autosave_minutes: float = Field(
        5.0,
        ge=0,
        le=1440,
        description=_("Save within an epoch too, so that a crash costs less. 0 turns it off."),
        json_schema_extra=_meta(_("Autosave every"), "saving", _("minutes")),
    )
    keep_checkpoints: int = Field(
        3,
        ge=2,
        le=1000,
        description=_("Newest checkpoints that stay. The best one always stays."),
        json_schema_extra=_meta(_("Keep"), "saving", _("checkpoints")),
    )
    early_stopping_epochs: int = Field(
        0,
        ge=0,
        le=1000,
        description=_("End the run after this many epochs without a better result. 0 turns it off."),
        json_schema_extra=_meta(_("Early stopping"), "saving", _("epochs")),
    )
    log_every_steps: int = Field(
        5,
        ge=1,
        le=10_000,
        description=_("Steps between two points of the training curves."),
        json_schema_extra=_meta(_("Point every"), "saving", _("steps"), advanced=True),
    )


class ClassificationConfig(BaseRunConfig):
    """One label for each picture."""

    recipe: Literal["classification"] = Field(
        "classification", description=_("What the model learns to do."), json_schema_extra=_meta(_("Recipe"), "model")
    )
    model: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "convnext_tiny",
        "vit_b_16",
    ] = Field(
        "resnet18",
        description=_("Network. resnet18 learns quickly everywhere; mobilenet_v3 is small; convnext_tiny is strong."),
        json_schema_extra=_meta(_("Model"), "model"),
    )
    pretrained: bool = Field(
        False,
        description=_("Start from torchvision's ImageNet weights; they are downloaded once."),
        json_schema_extra=_meta(_("Pretrained"), "model"),
    )
    image_size: int = Field(
        64,
        ge=32,
        le=1024,
        description=_("Pictures are scaled to this square; a multiple of 32."),
        json_schema_extra=_meta(_("Image size"), "model", _("pixels")),
    )
    dropout_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=_("Share of the features dropped before the last layer while training."),
        json_schema_extra=_meta(_("Dropout"), "model", advanced=True),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=_("Share of the label spread over all classes, against overconfidence."),
        json_schema_extra=_meta(_("Label smoothing"), "training", advanced=True),
    )
    augmentation: Literal["none", "light", "medium", "strong"] = Field(
        "light",
        description=_(
            "Random changes to training pictures. light: flip, shift; medium: crop and colour; strong: TrivialAugment."
        ),
        json_schema_extra=_meta(_("Augmentation"), "training"),
    )

    @field_validator("image_size")
    @classmethod
    def _multiple(cls, value: int) -> int:
        if value % IMAGE_SIZE_MULTIPLE:
            raise ValueError(f"must be a multiple of {IMAGE_SIZE_MULTIPLE}")
        return value

    @model_validator(mode="after")
    def _warmup_fits(self) -> "ClassificationConfig":
        if self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs must not be more than epochs")
        return self


RunConfig = ClassificationConfig
"""A union by `recipe` as soon as there is a second one: Annotated[A | B, Field(discriminator="recipe")]."""

RECIPES: dict[str, type[ClassificationConfig]] = {"classification": ClassificationConfig}

_ADAPTER: TypeAdapter[RunConfig] = TypeAdapter(RunConfig)


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Check `values` as they are. Raises pydantic.ValidationError, which names each wrong field."""
    return _ADAPTER.validate_python(values)


def correct_config(values: dict[str, Any]) -> tuple[RunConfig, list[str]]:
    """Check `values` after correcting what has one plain meaning; returns the config and a sentence per correction.

    Corrected: a size that is no multiple of 32 is rounded up to one; a warm-up longer than the run is cut to a tenth of
    it. Everything else that is wrong raises pydantic.ValidationError.
    """
    values = dict(values)
    corrections: list[str] = []
    size = values.get("image_size")
    if isinstance(size, int) and 0 < size <= 1024 and size % IMAGE_SIZE_MULTIPLE:
        values["image_size"] = -(-size // IMAGE_SIZE_MULTIPLE) * IMAGE_SIZE_MULTIPLE
        corrections.append(f"image_size {size} became {values['image_size']}, a multiple of {IMAGE_SIZE_MULTIPLE}.")
    epochs, warmup = values.get("epochs", 20), values.get("warmup_epochs", 1.0)
    if isinstance(epochs, int) and isinstance(warmup, int | float) and 0 < epochs < warmup <= 100:
        values["warmup_epochs"] = epochs / 10
        corrections.append(f"warmup_epochs {warmup:g} became {epochs / 10:g}: it was longer than the run.")
    return parse_config(values), corrections
