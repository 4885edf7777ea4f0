"""The choices of an export for ONNX and OpenVINO (no torch)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from pydantic import JsonValue

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.weights import EXPORT_NMS_ONE_IMAGE, EXPORT_NO_BOXES, EXPORT_OPSET
from trainingapp.contract.tasks.descriptor import BOXES_KINDS
from trainingapp.contract.tasks.registry import TASKS

Axis = Literal["fixed", "dynamic"]
AXES: tuple[Axis, ...] = get_args(Axis)

LEAST_OPSET = 13
"""The first one with all operators of our networks; runtimes have known it since 2020."""

NEWER_OPSET = 18
"""From which on torch's newer exporter writes ONNX; below, and for detectors, the older one does."""

MOST_OPSET_OF_OLDER = 20
MOST_OPSET = 23

OPTION_FORMATS = frozenset({"onnx", "openvino"})
"""The formats that the choices apply to; the others contain the weights, or the network for one image."""

NMS_OUTPUTS = ("boxes", "scores", "labels")
"""Names of the outputs of a detector with non-maximum suppression inside."""


@dataclass(frozen=True)
class ExportOptions:
    """How the network is written.

    `batch` and `size` (height and width) are fixed to one image of the model's image size, or dynamic. `opset` is the
    version of ONNX operators; None leaves it to the exporter. `half` stores weights as float16. `nms` adds decoding of
    boxes, confidence threshold and non-maximum suppression to a detector.
    """

    batch: Axis = "fixed"
    size: Axis = "fixed"
    opset: int | None = None
    half: bool = False
    nms: bool = False

    @property
    def is_dynamic(self) -> bool:
        return "dynamic" in (self.batch, self.size)

    def as_data(self) -> dict[str, JsonValue]:
        """The choices as jobs, stored results and `model.json` have them."""
        return asdict(self)

    def problem(self, task: str) -> Message | None:
        """Why a network of this task cannot be exported so, whatever its architecture; None where it may."""
        if self.nms and not finds_boxes(task):
            return EXPORT_NO_BOXES()
        if self.nms and self.batch == "dynamic":
            return EXPORT_NMS_ONE_IMAGE()
        known = opsets(task)
        if self.opset is not None and self.opset not in known:
            return EXPORT_OPSET(opset=self.opset, least=known[0], most=known[-1])
        return None


def finds_boxes(task: str) -> bool:
    """Whether the networks of a task are detectors, which give boxes before suppression; False for a task that is not
    installed."""
    return task in TASKS and TASKS[task].prediction == "boxes"


def opsets(task: str) -> range:
    """The versions of ONNX operators that torch writes for the networks of a task."""
    has_boxes = task in TASKS and TASKS[task].prediction in BOXES_KINDS
    most = MOST_OPSET_OF_OLDER if has_boxes else MOST_OPSET
    return range(LEAST_OPSET, most + 1)


def options_of(data: Mapping[str, JsonValue] | None) -> ExportOptions:
    """The choices in stored data; what an older version did not store has its default."""
    known = {field.name for field in fields(ExportOptions)}
    return ExportOptions(**{name: value for name, value in (data or {}).items() if name in known})  # type: ignore[arg-type]
