"""The fields that the configuration of every task has.

Each field carries its `Setting` (see trainingapp.contract.setting) and pydantic's bounds and default. Texts are
English; `_` marks them for the catalog.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.limits import (
    MAX_EPOCHS,
    MAX_FOLDS,
    MAX_KEPT_CHECKPOINTS,
    MAX_KEPT_DAYS,
    MAX_KEPT_GB,
    MAX_SEED,
)
from trainingapp.contract.messages import gettext_noop as _
from trainingapp.contract.retention import Policy
from trainingapp.contract.setting import OldSwitch, Section, Setting, Unit, When, pgettext

IMAGE_SIZE_MULTIPLE = 32
"""All these networks reduce their input by up to 32."""

LEAST_BATCH = 2
"""Batch normalization needs two images."""

MOST_WARMUP_EPOCHS = 100
MOST_ACCUMULATION = 256
MOST_LOADERS = 64
MOST_LORA_RANK = 256

START_FROM_PATTERN = r"^(run/\d{1,18}/[A-Za-z0-9_]+\.pt|weights/\d{1,18})?$"

AmpChoice = Literal["auto", "on", "off"]
DecodingChoice = Literal["auto", "fast", "full"]
DeterminismChoice = Literal["auto", "exact", "fast"]
ReductionChoice = Literal["exact", "fast"]
_LOADER_NUMBER = Annotated[int, Field(ge=0, le=MOST_LOADERS)]
LoaderCount = _LOADER_NUMBER | Literal["auto"]
_LOADERS: TypeAdapter[int] = TypeAdapter(_LOADER_NUMBER)

NONE = pgettext("a choice", "None")
BACKBONE = pgettext("a choice", "Backbone")
WHOLE = pgettext("a choice", "Whole model")
AUTOMATIC = pgettext("a choice", "Automatic")

STEP_SCHEDULE = When("scheduler", ("step",))
CUSTOM_AUGMENTATION = When("augmentation", ("custom",))


Compile = Annotated[
    bool,
    Setting(
        _("torch.compile"),
        _(
            "Compiles the network when an attempt starts, which takes minutes and speeds up long runs on GPUs. "
            "It needs a C compiler, and Triton on a GPU; without them the run trains as usual, with a warning."
        ),
        Section.MACHINE,
        changes_result=True,
        advanced=True,
    ),
]
"""Of the tasks whose networks take a batch as one tensor; the sizes in a detector depend on the image."""

AugmentOn = Annotated[
    Literal["cpu", "device"],
    Setting(
        _("Augment on"),
        _(
            "Where training images are augmented: on the CPU with the loading of images, or on the device that trains, "
            "with the same random choices; it relieves the CPU where a GPU waits for images."
        ),
        Section.AUGMENTATION,
        changes_result=True,
        advanced=True,
        when=When("augmentation", ("light", "medium", "strong", "custom")),
        labels={"cpu": "CPU", "device": pgettext("where to augment", "Training device")},
    ),
]
"""Of the tasks whose augmentation changes images and masks only: a mosaic needs further images, which loaders have."""


def image_size(value: int) -> int:
    """Raises PydanticCustomError for a size that is no multiple of 32."""
    if value % IMAGE_SIZE_MULTIPLE:
        raise PydanticCustomError(
            "multiple_of", "must be a multiple of {multiple_of}", {"multiple_of": IMAGE_SIZE_MULTIPLE}
        )
    return value


MULTIPLE_OF_32 = AfterValidator(image_size)
"""Follows the bounds of an image size in its annotation: before them it would hide them from the JSON schema."""


class BaseRunConfig(BaseModel):
    """The fields of every task. Unknown keys are refused."""

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

    epochs: Annotated[
        int,
        Field(ge=1, le=MAX_EPOCHS),
        Setting(
            _("Epochs"),
            _("Number of passes over the training split."),
            Section.TRAINING,
            changes_result=True,
            unit=Unit.EPOCHS,
        ),
    ] = 20
    batch_size: Annotated[
        int,
        Field(ge=1, le=4096),
        Setting(
            _("Batch size"),
            _("Images that are processed together. Halve it when memory runs out."),
            Section.TRAINING,
            changes_result=True,
            unit=Unit.IMAGES,
        ),
    ] = 32
    accumulation_steps: Annotated[
        int,
        Field(ge=1, le=MOST_ACCUMULATION),
        Setting(
            _("Gradient accumulation"),
            _(
                "Sums the gradients of this many batches for each optimizer step: a larger effective batch in "
                "the same memory."
            ),
            Section.TRAINING,
            changes_result=True,
            unit=Unit.BATCHES,
            advanced=True,
        ),
    ] = 1
    auto_batch_size: Annotated[
        bool,
        Setting(
            _("Automatic batch size"),
            _(
                "Finds the batch size when the run starts: the largest that fits in memory and still increases "
                "throughput."
            ),
            Section.TRAINING,
            changes_result=True,
            advanced=True,
        ),
    ] = False
    folds: Annotated[
        int,
        Field(ge=0, le=MAX_FOLDS),
        Setting(
            _("Folds"),
            _(
                "Divides the images of both splits into this many folds: the run validates on one of them and trains "
                "on the others. 0: the splits of the dataset. A sweep trains all folds."
            ),
            Section.TRAINING,
            changes_result=True,
            advanced=True,
            kept_by_continuing=True,
        ),
    ] = 0
    fold: Annotated[
        int,
        Field(ge=0, lt=MAX_FOLDS),
        Setting(
            _("Fold"),
            _("The fold that the run validates on, counted from 0."),
            Section.TRAINING,
            changes_result=True,
            advanced=True,
            kept_by_continuing=True,
            told_with="folds",
        ),
    ] = 0
    optimizer: Annotated[
        Literal["SGD", "Adam", "AdamW", "RMSprop"],
        Setting(
            _("Optimizer"),
            _(
                "AdamW tolerates a wide range of learning rates; SGD with momentum often reaches a slightly "
                "better result."
            ),
            Section.OPTIMIZER,
            changes_result=True,
            kept_by_continuing=True,
        ),
    ] = "AdamW"
    learning_rate: Annotated[
        float,
        Field(gt=0, le=10),
        Setting(
            _("Learning rate"),
            _("Peak of the learning rate schedule. Start with 0.001 for AdamW and 0.05 for SGD."),
            Section.OPTIMIZER,
            changes_result=True,
        ),
    ] = 0.001
    weight_decay: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            _("Weight decay"),
            _("Shrinks the weights towards zero at each step. Biases and normalization layers are excluded."),
            Section.OPTIMIZER,
            changes_result=True,
        ),
    ] = 0.01
    momentum: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("Momentum"),
            _("Momentum of SGD and RMSprop."),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            when=When("optimizer", ("SGD", "RMSprop")),
        ),
    ] = 0.9
    scheduler: Annotated[
        Literal["cosine", "step", "linear", "one-cycle", "constant"],
        Setting(
            _("LR schedule"),
            _("How the learning rate changes during the run."),
            Section.OPTIMIZER,
            changes_result=True,
            labels={
                "cosine": pgettext("a schedule", "Cosine"),
                "step": pgettext("a schedule", "Step"),
                "linear": pgettext("a schedule", "Linear"),
                "one-cycle": pgettext("a schedule", "One-cycle"),
                "constant": pgettext("a schedule", "Constant"),
            },
        ),
    ] = "cosine"
    warmup_epochs: Annotated[
        float,
        Field(ge=0, le=MOST_WARMUP_EPOCHS),
        Setting(
            _("Warm-up"),
            _("Raises the learning rate linearly from zero over this period. One-cycle has a warm-up of its own."),
            Section.OPTIMIZER,
            changes_result=True,
            unit=Unit.EPOCHS,
            advanced=True,
            when=When("scheduler", ("cosine", "step", "linear", "constant")),
        ),
    ] = 1.0
    warmup_momentum: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("Initial momentum"),
            _(
                "Raises the momentum (of Adam and AdamW: beta 1) linearly from this value over the warm-up. 0: it is "
                "constant."
            ),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            when=When("scheduler", ("cosine", "step", "linear", "constant")),
        ),
    ] = 0.0
    step_epochs: Annotated[
        int,
        Field(ge=1, le=MAX_EPOCHS),
        Setting(
            _("LR step size"),
            _("The step schedule lowers the learning rate each time this many epochs have passed."),
            Section.OPTIMIZER,
            changes_result=True,
            unit=Unit.EPOCHS,
            advanced=True,
            when=STEP_SCHEDULE,
        ),
    ] = 10
    step_factor: Annotated[
        float,
        Field(gt=0, lt=1),
        Setting(
            _("LR step factor"),
            _("The step schedule multiplies the learning rate by this factor."),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            when=STEP_SCHEDULE,
        ),
    ] = 0.1
    gradient_clip: Annotated[
        float,
        Field(ge=0, le=1000),
        Setting(
            _("Gradient clipping"),
            _("Limits the norm of the gradients to this value. 0 disables it."),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
        ),
    ] = 0.0
    backbone_lr_factor: Annotated[
        float,
        Field(gt=0, le=1),
        Setting(
            _("Backbone LR multiplier"),
            _("Multiplies the learning rate of the backbone; a value below 1 preserves pretrained features."),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
        ),
    ] = 1.0
    layer_decay: Annotated[
        float,
        Field(gt=0, le=1),
        Setting(
            _("Layer-wise LR decay"),
            _(
                "Multiplies the learning rate once more for each layer of the backbone towards the input, so that "
                "early pretrained layers change least, for example 0.75 for transformers. 1 disables it."
            ),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            kept_by_continuing=True,
        ),
    ] = 1.0
    ema_decay: Annotated[
        float,
        Field(ge=0, lt=1),
        Setting(
            _("EMA decay"),
            _(
                "Also validates and saves an exponential moving average of the weights, for example with 0.999. "
                "0 disables it."
            ),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            kept_by_continuing=True,
        ),
    ] = 0.0
    freeze: Annotated[
        Literal["none", "backbone"],
        Setting(
            _("Frozen layers"),
            _("Layers whose weights are not updated; useful with pretrained weights."),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            labels={"none": pgettext("to freeze", "Nothing"), "backbone": BACKBONE},
        ),
    ] = "none"
    freeze_epochs: Annotated[
        int,
        Field(ge=0, le=MAX_EPOCHS),
        Setting(
            _("Freeze for"),
            _("Period for which these layers stay frozen. 0: the whole run."),
            Section.OPTIMIZER,
            changes_result=True,
            unit=Unit.EPOCHS,
            advanced=True,
            when=When("freeze", ("backbone",)),
        ),
    ] = 0
    lora_rank: Annotated[
        int,
        Field(ge=0, le=MOST_LORA_RANK),
        Setting(
            _("LoRA rank"),
            _(
                "Trains low-rank adapters in the linear layers of the frozen backbone; models are saved with the "
                "adapters merged. Common values are 4 to 32. 0: no adapters, only the layers behind the backbone train."
            ),
            Section.OPTIMIZER,
            changes_result=True,
            advanced=True,
            when=When("freeze", ("backbone",)),
            kept_by_continuing=True,
        ),
    ] = 0
    start_from: Annotated[
        str,
        Field(pattern=START_FROM_PATTERN),
        Setting(
            _("Initial weights"),
            _("Copies matching weights from a checkpoint (run/12/epoch_8.pt) or a saved model (weights/3)."),
            Section.MODEL,
            changes_result=True,
            advanced=True,
        ),
    ] = ""
    seed: Annotated[
        int,
        Field(ge=0, le=MAX_SEED),
        Setting(
            _("Seed"),
            _("Seeds every random choice: the same seed gives the same run."),
            Section.MACHINE,
            changes_result=True,
        ),
    ] = 0
    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$"),
        Setting(
            _("Device"),
            _(
                "auto uses a free GPU, or the CPU of a machine without GPUs. Other values: cpu, cuda (any GPU), "
                "cuda:0, cuda:1 ..."
            ),
            Section.MACHINE,
            changes_result=True,
            labels={"auto": pgettext("a device", "Automatic"), "cpu": "CPU"},
        ),
    ] = "auto"
    device_count: Annotated[
        int,
        Field(ge=1, le=64),
        Setting(
            _("Number of devices"),
            _(
                "Devices that train the run together; on the CPU, slots. The batches of a step are shared among them, "
                "so gradient accumulation should be a multiple of their number."
            ),
            Section.MACHINE,
            changes_result=False,
            unit=Unit.DEVICES,
            advanced=True,
        ),
    ] = 1
    devices_at_least: Annotated[
        int,
        Field(ge=0, le=64),
        Setting(
            _("Devices at least"),
            _("Starts on fewer devices while others are occupied, but on no fewer than these. 0: waits for all."),
            Section.MACHINE,
            changes_result=False,
            unit=Unit.DEVICES,
            advanced=True,
        ),
    ] = 0
    hosts_at_most: Annotated[
        int,
        Field(ge=1, le=64),
        Setting(
            _("Hosts at most"),
            _(
                "Takes the devices of the run from up to so many hosts, of those that are set up to train together. "
                "The network between them limits the speed. 1: all devices are of one host."
            ),
            Section.MACHINE,
            changes_result=False,
            unit=Unit.HOSTS,
            advanced=True,
        ),
    ] = 1
    reduction: Annotated[
        ReductionChoice,
        Setting(
            _("Gradient reduction"),
            _(
                "How the gradients of several devices are added. Exact adds them in the order of the batches: the "
                "result is bit-identical on any number of devices. Fast lets the devices choose the order; it is "
                "faster between GPUs, and results differ in the last digits."
            ),
            Section.MACHINE,
            changes_result=True,
            advanced=True,
            labels={"exact": pgettext("reduction", "Exact"), "fast": pgettext("reduction", "Fast")},
        ),
    ] = "exact"
    min_free_memory_gb: Annotated[
        float,
        Field(ge=0, le=4096),
        Setting(
            _("Required free memory"),
            _("Waits for a device with at least this much free memory. 0: any device that other programs do not use."),
            Section.MACHINE,
            changes_result=False,
            unit=Unit.GB,
            advanced=True,
        ),
    ] = 0.0
    share_device: Annotated[
        bool,
        Setting(
            _("Share GPU"),
            _("Shares a GPU with other runs that allow it, each within the free memory that it requires."),
            Section.MACHINE,
            changes_result=False,
            advanced=True,
        ),
    ] = False
    amp: Annotated[
        AmpChoice,
        Setting(
            _("Mixed precision"),
            _(
                "Trains faster and with less memory in a 16-bit format. Automatic uses bfloat16 on GPUs that support "
                "it, and float16 on others; on a CPU with units for bfloat16 (AMX, AVX512_BF16) it uses that, which is "
                "1.5 to 2.5 times as fast, except for models of depthwise convolutions, and float32 otherwise."
            ),
            Section.MACHINE,
            changes_result=True,
            labels={
                "auto": pgettext("mixed precision", "Automatic"),
                "on": pgettext("mixed precision", "On"),
                "off": pgettext("mixed precision", "Off"),
            },
            old_switch=OldSwitch(on="on", off="off", default="off"),
        ),
    ] = "auto"
    deterministic: Annotated[
        DeterminismChoice,
        Setting(
            _("Determinism"),
            _(
                "With deterministic algorithms a resumed run is bit-identical to an uninterrupted one. Automatic uses "
                "them unless the model has an operation without one on GPUs; Exact refuses such a model; Fast uses the "
                "fastest algorithms. Except with Exact, GPUs multiply matrices in TF32."
            ),
            Section.MACHINE,
            changes_result=True,
            advanced=True,
            labels={
                "auto": pgettext("determinism", "Automatic"),
                "exact": pgettext("determinism", "Exact"),
                "fast": pgettext("determinism", "Fast"),
            },
            old_switch=OldSwitch(on="exact", off="fast", default="exact"),
        ),
    ] = "auto"
    channels_last: Annotated[
        bool,
        Setting(
            _("Channels last"),
            _("Stores tensors in the channels-last memory format: faster on CPUs and on GPUs with tensor cores."),
            Section.MACHINE,
            changes_result=True,
            advanced=True,
        ),
    ] = True
    num_workers: Annotated[
        LoaderCount,
        Setting(
            _("Data loader workers"),
            _(
                "Processes that load images while the device computes. auto suits the machine: for a GPU its share of "
                "the cores but one, at most 12. 0 loads them in the trainer process. The number changes no result."
            ),
            Section.MACHINE,
            changes_result=False,
            unit=Unit.PROCESSES,
            advanced=True,
            labels={"auto": pgettext("data loader workers", "Automatic")},
        ),
    ] = "auto"
    decoding: Annotated[
        DecodingChoice,
        Setting(
            _("JPEG decoding"),
            _(
                "Large JPEG images are decoded at a half, a quarter or an eighth of their size: automatically while "
                "that is at least twice the image size; fast: at least the image size, which is up to twice as fast "
                "and loses some detail. Full decodes every pixel."
            ),
            Section.MACHINE,
            changes_result=True,
            advanced=True,
            labels={
                "auto": pgettext("decoding", "Automatic"),
                "fast": pgettext("decoding", "Fast"),
                "full": pgettext("decoding", "Full"),
            },
        ),
    ] = "auto"
    cpu_threads: Annotated[
        int,
        Field(ge=0, le=256),
        Setting(
            _("CPU threads"),
            _("Threads for computation on the CPU; 0 uses all cores. The number stays the same for the whole run."),
            Section.MACHINE,
            changes_result=True,
            unit=Unit.THREADS,
            advanced=True,
        ),
    ] = 0
    checkpoint_every_epochs: Annotated[
        int,
        Field(ge=1, le=1000),
        Setting(
            _("Checkpoint every"),
            _("Saves a checkpoint at this interval and after the last epoch."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.EPOCHS,
        ),
    ] = 1
    autosave_minutes: Annotated[
        float,
        Field(ge=0, le=1440),
        Setting(
            _("Autosave every"),
            _("Also saves within an epoch, so that a crash loses less work. 0 disables it."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.MINUTES,
        ),
    ] = 5.0
    keep_checkpoints: Annotated[
        int,
        Field(ge=2, le=MAX_KEPT_CHECKPOINTS),
        Setting(
            _("Keep last"),
            _("Keeps this many of the newest checkpoints. The best one is always kept."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.CHECKPOINTS,
        ),
    ] = 3
    keep_best: Annotated[
        int,
        Field(ge=1, le=MAX_KEPT_CHECKPOINTS),
        Setting(
            _("Keep best"),
            _("Also keeps this many of the best checkpoints, by the model-selection metric."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.CHECKPOINTS,
            advanced=True,
        ),
    ] = 1
    keep_every_epochs: Annotated[
        int,
        Field(ge=0, le=MAX_EPOCHS),
        Setting(
            _("Keep every"),
            _("Also keeps the checkpoints of epochs that are multiples of this number. 0 disables it."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.EPOCHS,
            advanced=True,
        ),
    ] = 0
    keep_days: Annotated[
        float,
        Field(ge=0, le=MAX_KEPT_DAYS),
        Setting(
            _("Maximum age"),
            _("Deletes older checkpoints, except the best one and the newest two. 0 disables it."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.DAYS,
            advanced=True,
        ),
    ] = 0.0
    keep_gb: Annotated[
        float,
        Field(ge=0, le=MAX_KEPT_GB),
        Setting(
            _("Maximum size"),
            _(
                "Deletes the oldest checkpoints when all together are larger, except the best one and the "
                "newest two. 0: no limit."
            ),
            Section.SAVING,
            changes_result=False,
            unit=Unit.GB,
            advanced=True,
        ),
    ] = 0.0
    keep_history_days: Annotated[
        float,
        Field(ge=-1, le=MAX_KEPT_DAYS),
        Setting(
            _("Keep history"),
            _(
                "Removes points of the training, log lines and events this long after the end of the run. Starred runs "
                "keep them. −1: as set for the studio. 0: never."
            ),
            Section.SAVING,
            changes_result=False,
            unit=Unit.DAYS,
            advanced=True,
            labels={"-1": _("As set for the studio"), "0": _("Never")},
        ),
    ] = -1.0
    checkpoint_format: Annotated[
        Literal["compact", "plain"],
        Setting(
            _("Checkpoint format"),
            _("compact compresses and stores unchanged data once; plain is a file for torch.load."),
            Section.SAVING,
            changes_result=False,
            advanced=True,
            labels={
                "compact": pgettext("a format of checkpoints", "Compact"),
                "plain": pgettext("a format of checkpoints", "Plain"),
            },
        ),
    ] = "compact"
    early_stopping_epochs: Annotated[
        int,
        Field(ge=0, le=1000),
        Setting(
            _("Early stopping patience"),
            _("Ends the run after this many epochs without improvement of the model-selection metric. 0 disables it."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.EPOCHS,
        ),
    ] = 0
    log_every_steps: Annotated[
        int,
        Field(ge=1, le=10_000),
        Setting(
            _("Log every"),
            _("Interval between two points of the training charts."),
            Section.SAVING,
            changes_result=False,
            unit=Unit.STEPS,
            advanced=True,
        ),
    ] = 5
    augmentation: Annotated[
        Literal["none", "light", "medium", "strong", "custom"],
        Setting(
            _("Augmentation"),
            _("Random transforms of training images: a preset, or custom for individual transforms."),
            Section.AUGMENTATION,
            changes_result=True,
            labels={
                "none": NONE,
                "light": pgettext("an augmentation", "Light"),
                "medium": pgettext("an augmentation", "Medium"),
                "strong": pgettext("an augmentation", "Strong"),
                "custom": pgettext("an augmentation", "Custom"),
            },
        ),
    ] = "light"
    flip_horizontal: Annotated[
        bool,
        Setting(
            _("Horizontal flip"),
            _("Flips images left to right with probability 0.5."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
        ),
    ] = True
    flip_vertical: Annotated[
        bool,
        Setting(
            _("Vertical flip"),
            _("Flips images upside down with probability 0.5; suits images taken from above."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
        ),
    ] = False
    crop: Annotated[
        float,
        Field(ge=0, le=0.9),
        Setting(
            _("Random crop"),
            _("Largest share of the area that a random crop removes."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
        ),
    ] = 0.0
    colour: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            _("Color jitter"),
            _("Largest random change of brightness, contrast and saturation."),
            Section.AUGMENTATION,
            changes_result=True,
            when=CUSTOM_AUGMENTATION,
        ),
    ] = 0.0

    @classmethod
    def architecture_defaults(cls, model: str) -> dict[str, JsonValue]:
        """The values that suit this network better than the general defaults."""
        found = cls.architectures.get(model)
        return dict(found.defaults) if found else {}

    @classmethod
    def new_run_defaults(cls) -> dict[str, JsonValue]:
        """The values that new runs take where nothing is set and that differ from those of a stored configuration."""
        return {
            name: item.for_new_runs
            for name, field in cls.model_fields.items()
            for item in field.metadata
            if isinstance(item, Setting) and item.for_new_runs is not None
        }

    @classmethod
    def has_architecture(cls, model: str) -> bool:
        """Whether `model` names a network of the task, with or without an entry in `architectures`."""
        return model in cls.architectures or bool(cls.open_libraries and model.startswith(cls.open_libraries))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Names the networks: they belong to the class, not to the type of the field."""
        described = handler.resolve_ref_schema(handler(schema))
        described["properties"]["model"]["enum"] = list(cls.architectures)
        for name, value in cls.new_run_defaults().items():
            described["properties"][name]["default"] = value
        return described

    @property
    def labels_per_image(self) -> LabelMode:
        """Whether an image of the run's dataset has one label or several; single for tasks without that choice."""
        return cast(LabelMode, getattr(self, "label_mode", "single"))

    @property
    def has_adapters(self) -> bool:
        """Whether the network trains with adapters in its frozen backbone."""
        return self.freeze == "backbone" and self.lora_rank > 0

    @property
    def least_devices(self) -> int:
        """The number of devices below which the run does not start."""
        return self.devices_at_least or self.device_count

    def retention_policy(self) -> Policy:
        """Which checkpoints are kept."""
        return Policy(
            self.keep_checkpoints, self.keep_best, self.keep_every_epochs, days=self.keep_days, gb=self.keep_gb
        )

    @model_validator(mode="before")
    @classmethod
    def _suit_the_model(cls, values: object) -> object:
        """A field that is not given takes the value that suits the chosen network."""
        model = values.get("model", cls.model_fields["model"].default) if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(model, str):
            return values
        return cls.architecture_defaults(model) | cls._choices_beside(values) | values

    @classmethod
    def _choices_beside(cls, values: dict[str, object]) -> dict[str, object]:
        """The choices to take where a default is ruled out by what is given."""
        found: dict[str, object] = {}
        for name, field in cls.model_fields.items():
            setting = next(item for item in field.metadata if isinstance(item, Setting))
            if setting.choice_when and not setting.can_choose(field.default, values):
                choices = get_args(field.annotation)
                found[name] = next(choice for choice in choices if setting.can_choose(choice, values))
        return found

    @model_validator(mode="after")
    def _warmup_fits(self) -> "BaseRunConfig":
        if self.warmup_epochs > self.epochs:
            raise ValueError(_("The warm-up (warmup_epochs) must not be longer than the run (epochs)."))
        return self

    @field_validator("amp", "deterministic", "pretrained", mode="before", check_fields=False)
    @classmethod
    def _was_switch(cls, value: object, others: ValidationInfo) -> object:
        """Fields that were switches in version 0.1 still accept true and false."""
        field = cls.model_fields[str(others.field_name)]
        setting = next(item for item in field.metadata if isinstance(item, Setting))
        return setting.old_switch.choice(value) if setting.old_switch else value

    @field_validator("model", check_fields=False)  # each task declares the field
    @classmethod
    def _known_network(cls, model: str) -> str:
        if not cls.has_architecture(model):
            known = {"expected": ", ".join(cls.architectures)}
            raise PydanticCustomError("literal_error", "Input should be one of {expected}", known)
        return model

    @field_validator("*")
    @classmethod
    def _allowed_beside_others(cls, value: object, others: ValidationInfo) -> object:
        """Fields that rule out a choice come before the field of the choice."""
        field = cls.model_fields[str(others.field_name)]
        setting = next(item for item in field.metadata if isinstance(item, Setting))
        if not setting.can_choose(value, others.data):
            other = setting.choice_when[str(value)].field
            facts = {"choice": value, "other": other, "value": others.data[other]}
            raise PydanticCustomError("choice_ruled_out", "must not be {choice} where {other} is {value}", facts)
        return value

    @field_validator("device", mode="before")
    @classmethod
    def _supported_backend(cls, device: object) -> object:
        backend = str(device).partition(":")[0]
        if backend in ("mps", "xpu"):
            raise ValueError(
                _("GPUs of Apple (mps) and Intel (xpu) are not supported: device must be auto, cpu or cuda.")
            )
        return device

    @field_validator("num_workers", mode="before")
    @classmethod
    def _word_or_number(cls, value: object) -> object:
        """One error for what is neither: pydantic would report one for the word and one for the number."""
        if isinstance(value, str) and value.strip().casefold() == "auto":
            return "auto"
        try:
            return _LOADERS.validate_python(value)
        except ValidationError as error:
            (first, *_others) = error.errors()
            raise PydanticKnownError(first["type"], first.get("ctx")) from None  # type: ignore[arg-type]

    @field_validator("folds")
    @classmethod
    def _none_or_several(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError(_("folds must be 0, or 2 or more."))
        return folds

    @field_validator("fold")
    @classmethod
    def _one_of_the_folds(cls, fold: int, others: ValidationInfo) -> int:
        if fold and fold >= others.data.get("folds", MAX_FOLDS):
            raise ValueError(_("fold must be less than folds, the number of folds."))
        return fold

    @field_validator("device_count")
    @classmethod
    def _one_where_it_is_named(cls, count: int, others: ValidationInfo) -> int:
        if count > 1 and ":" in others.data.get("device", ""):
            raise ValueError(_("device names one GPU: device_count must be 1 unless device is auto, cpu or cuda."))
        return count

    @field_validator("devices_at_least")
    @classmethod
    def _no_more_than_all(cls, least: int, others: ValidationInfo) -> int:
        if least > others.data.get("device_count", least):
            raise ValueError(_("devices_at_least must not exceed device_count, the number of devices."))
        return least

    @field_validator("share_device")
    @classmethod
    def _shares_a_known_part(cls, is_shared: bool, others: ValidationInfo) -> bool:
        if is_shared and not others.data.get("min_free_memory_gb", 1):
            raise ValueError(_("Sharing a GPU (share_device) needs min_free_memory_gb, the memory to reserve."))
        return is_shared
