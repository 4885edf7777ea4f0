"""The README of an export, in English like the files beside it."""

from typing import NotRequired, TypedDict

from pydantic import JsonValue

from trainingapp.contract.deep_images import Conversion
from trainingapp.contract.export_options import OPTION_FORMATS, ExportOptions
from trainingapp.contract.messages import MessageData
from trainingapp.contract.model_card import EXPORT_FILES, Card
from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import TASKS


class Outcome(TypedDict):
    """How an export format compares with PyTorch: the largest differences of scores, and of boxes in pixels.

    `options` are the choices that the format was made with. `rounding` is what float16 changed in the scores of
    PyTorch; `detections` counts the boxes that were compared of a network with suppression inside.
    """

    is_good: bool
    difference: float | None
    box_difference: float | None
    problem: str
    problem_data: NotRequired[MessageData]
    options: NotRequired[dict[str, JsonValue]]
    rounding: NotRequired[float | None]
    detections: NotRequired[int | None]


_HOW = {
    "onnx": "`model.onnx`: {input}",
    "openvino": "`model.xml` and `model.bin` (OpenVINO): {input}",
    "pt2": '`model.pt2`: `torch.export.load("model.pt2").module()(image)` gives the same outputs.',
    "safetensors": "`weights.safetensors`: `safetensors.torch.load_file(...)` gives the state dict.",
    "pt": '`weights.pt`: `torch.load("weights.pt", weights_only=True)` gives the state dict.',
}


_TRY = """
Try it with

    pip install numpy pillow {package}
    python predict.py image.jpg --out drawn

"""


def readme(card: Card, outcomes: dict[str, Outcome], good: list[str], images: int, options: ExportOptions) -> str:
    """The text of README.md; `good` are the formats that are in the zip."""
    how = "\n".join(f"- {_HOW[name].format(input=_input(card, options))}" for name in good)
    package = next((name for name in good if name in OPTION_FORMATS), "")
    if package:
        how += "\n" + _TRY.format(package={"onnx": "onnxruntime"}.get(package, package))
    checks = "\n".join(f"- {EXPORT_FILES[name]}: {_verdict(outcome)}" for name, outcome in outcomes.items())
    task = TASKS[card["task"]]
    way = "stretched to" if task.image_fit == "stretch" else "fitted, with grey (114) around, into"
    norm = card["normalisation"]
    return f"""# {card["name"]} v{card["version"]}

{task.label} with {card["architecture"]}. {card.get("note", "")}

## Use

{how}

Outputs: {_outputs(card, options) if package else task.outputs_help_of(card["config"])}

An image is turned upright (EXIF), made RGB, {way} a square of {card["image_size"]} pixels, divided by 255, and
normalised with mean {norm["mean"]} and standard deviation {norm["std"]}.
{_conversion(card)}
Classes, in the order of the outputs: {", ".join(card["classes"])}.

## Checked on {images} images against PyTorch

{checks}

Licence of the weights: {card.get("licence") or "not stated"}.
"""


def _input(card: Card, options: ExportOptions) -> str:
    """The input of the file, and how its weights are stored."""
    size = card["image_size"]
    count = "N" if options.batch == "dynamic" else "1"
    sides = "H, W" if options.size == "dynamic" else f"{size}, {size}"
    text = f"input `image`, float32 [{count}, 3, {sides}], normalised."
    if options.batch == "dynamic":
        text += " Any number of images N."
    if options.size == "dynamic":
        text += f" Any height and width, multiples of 32; the model was trained with {size}."
    if options.half:
        text += (
            " The weights are stored as float16; inputs and outputs are float32, and so are the computations unless "
            "the runtime is told otherwise."
        )
    return text


def _conversion(card: Card) -> str:
    """How images of more than 8 bits or of many bands are converted; empty for models whose dataset has none."""
    conversion = Conversion.from_data(card.get("conversion"))
    if conversion is None:
        return ""
    parts = []
    for kind, scale in (("integers", conversion.integers), ("floats", conversion.floats)):
        if scale and scale.bits:
            parts.append(f"of {kind}, the upper 8 of {scale.bits} bits are used")
        elif scale:
            parts.append(f"of {kind}, {scale.low:g} becomes 0 and {scale.high:g} becomes 255")
    if conversion.bands:
        parts.append(f"of a TIFF of more than three bands, the bands {conversion.bands} (from 0) become the channels")
    ways = "".join(f"- {part}\n" for part in parts)
    return f"\nImages of more than 8 bits per channel are converted to 8 bits, as in training:\n\n{ways}"


def _outputs(card: Card, options: ExportOptions) -> str:
    """The outputs of ONNX and OpenVINO."""
    if options.nms:
        return (
            "`boxes` [D, 4], left, top, right, bottom in pixels of the input, `scores` [D] and `labels` [D], numbers "
            f"of classes from 0: at most {card['max_boxes']} detections by descending score, with a confidence of at "
            f"least {card['confidence']} and after non-maximum suppression of each class with an IoU of {card['iou']}."
        )
    if options.batch == "dynamic" and card["prediction"] == "boxes":
        return (
            "`boxes` [N, B, 4], left, top, right, bottom in pixels of the input, and `scores` [N, B, classes], before "
            "any threshold and before non-maximum suppression: `predict.py` does both."
        )
    text = TASKS[card["task"]].outputs_help_of(card["config"])
    return text.replace("[1, ", "[N, ") if options.batch == "dynamic" else text


def _verdict(outcome: Outcome) -> str:
    if not outcome["is_good"]:
        return f"left out. {outcome['problem']}"
    text = f"largest difference of the scores {number_text(outcome['difference'] or 0.0, digits=2)}"
    if (detections := outcome.get("detections")) is not None:
        text += f" in {detections} detections"
    if outcome.get("options", {}).get("half"):
        rounding = outcome.get("rounding")
        text += " from PyTorch with weights rounded to float16"
        if rounding is not None:
            text += f"; the rounding changes the scores by up to {number_text(rounding, digits=2)}"
    return text
