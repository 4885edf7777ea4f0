"""What the studio knows about a task without torch: everything that pages, forms, the API and exports derive from it.

The training code of a task is a class in the engine, which `TaskDescriptor.implementation` names. A task is known to
every process once `registry.py` has its descriptor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import JsonValue

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import Split
from trainingapp.contract.metric_names import Metric
from trainingapp.contract.published_weights import Kind, Published, no_weights

Annotation = Literal["labels", "multi_labels", "boxes", "masks", "outlines"]
"""What a dataset knows about an image: one class of its own, any number of classes, objects with boxes, the class of
each pixel, or objects with boxes and masks."""

PredictionKind = Literal["classes", "boxes", "mask", "objects"]
"""What a model gives for an image, and so how pages and scripts draw it; see `contract/evaluation.py`."""

BOXES_KINDS: frozenset[PredictionKind] = frozenset({"boxes", "objects"})
"""Predictions that are objects with boxes."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a task differs for runs in which a field of the configuration has a certain value."""

    field: str
    value: str
    quality_chart: Sequence[tuple[str, Split]]
    outputs_help: str


ImageFit = Literal["stretch", "letterbox"]
"""How an image becomes a square: scaled to it, or with its proportions kept and grey padding around it."""


@dataclass(frozen=True, kw_only=True)
class TaskDescriptor:
    """A task. Labels are English, marked for translation where they are shown.

    `implementation` is the class of the engine that trains the task, as "package.module:Class" (see
    `trainingapp.engine.tasks.task.BaseTask`); it is imported by the engine alone.
    """

    name: str
    label: str
    about: str
    """What a model of this task learns, for the form of a new run."""

    icon: str
    """A Bootstrap icon."""

    config: type[BaseRunConfig]
    implementation: str

    metrics: Mapping[str, Metric]
    """All metrics of a validation and those of training that charts show, by name."""

    quality_chart: Sequence[tuple[str, Split]]
    """The lines of the second chart of a run: (metric, split). Colours follow the order."""

    has_validation_loss: bool = True

    loss_parts: Mapping[str, str] = field(default_factory=dict)
    """The parts of the training loss that runs may report, with their labels; none where it is one number."""

    annotation: Annotation
    """What a dataset must know about its images to suffice for the task."""

    other_annotations: Sequence[Annotation] = ()
    """Further annotations, each of which suffices too, in a mode of its own."""

    least_classes: int = 1
    prediction: PredictionKind
    image_fit: ImageFit

    output_names: Sequence[str]
    """Names of an exported network's outputs."""

    outputs_help: str
    """What the outputs are, in English and Markdown, for the README of an export."""

    variant: Variant | None = None

    published: Callable[[str], Mapping[Kind, Published]] = no_weights
    """The published weights that a network, given by name, can start from; `pretrained: auto` chooses among them."""

    fine_tuning_rates: Mapping[str, float] = field(default_factory=dict)
    """The learning rates with which published weights are usually trained on (Adam and AdamW), by the beginning of the
    network's name."""

    drill: Mapping[str, JsonValue] = field(default_factory=dict)
    """Configuration of the runs that `manage.py drill` kills; a task without one is left out of the drill."""

    def __post_init__(self) -> None:
        """Raises ValueError for a descriptor that contradicts itself."""
        fields = self.config.model_fields
        if fields["task"].default != self.name:
            raise ValueError(f"task {self.name}: the task of its configuration is {fields['task'].default!r}")
        charts = [*self.quality_chart, *(self.variant.quality_chart if self.variant else ())]
        used = {*get_args(fields["best_metric"].annotation), *(metric for metric, _split in charts)}
        if unknown := used - self.metrics.keys():
            raise ValueError(f"task {self.name}: unknown metrics {', '.join(sorted(unknown))}")
        if ":" not in self.implementation:
            raise ValueError(f"task {self.name}: implementation must be package.module:Class")

    def variant_of(self, config: Mapping[str, JsonValue]) -> Variant | None:
        """The variant that a stored configuration belongs to; None for the task as the descriptor has it."""
        variant = self.variant
        return variant if variant and config.get(variant.field) == variant.value else None

    def quality_chart_of(self, config: Mapping[str, JsonValue]) -> Sequence[tuple[str, Split]]:
        """The lines of the second chart of a run with this configuration."""
        variant = self.variant_of(config)
        return variant.quality_chart if variant else self.quality_chart

    def outputs_help_of(self, config: Mapping[str, JsonValue]) -> str:
        """What the outputs of a network with this configuration are."""
        variant = self.variant_of(config)
        return variant.outputs_help if variant else self.outputs_help

    @property
    def architectures(self) -> Mapping[str, Architecture]:
        """The networks that a run can choose, by name."""
        return self.config.architectures

    def has_architecture(self, name: str) -> bool:
        """Whether a run can name this network: one of `architectures`, or any other of a library that is open."""
        return self.config.has_architecture(name)
