"""The README of an export, in English like the files beside it."""

from typing import NotRequired, TypedDict

from trainingapp.contract.messages import MessageData
from trainingapp.contract.model_card import EXPORT_FILES, Card
from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import TASKS


class Outcome(TypedDict):
    """How an export format compares with PyTorch: the largest differences of scores, and of boxes in pixels."""

    is_good: bool
    difference: float | None
    box_difference: float | None
    problem: str
    problem_data: NotRequired[MessageData]


_HOW = {
    "onnx": (
        "`model.onnx`: input `image`, float32 [1, 3, {size}, {size}], normalised. Try it with\n\n"
        "      pip install numpy pillow onnxruntime\n"
        "      python predict.py image.jpg --out drawn\n"
    ),
    "pt2": '`model.pt2`: `torch.export.load("model.pt2").module()(image)` gives the same outputs.',
    "safetensors": "`weights.safetensors`: `safetensors.torch.load_file(...)` gives the state dict.",
    "pt": '`weights.pt`: `torch.load("weights.pt", weights_only=True)` gives the state dict.',
}


def readme(card: Card, outcomes: dict[str, Outcome], good: list[str], images: int) -> str:
    """The text of README.md; `good` are the formats that are in the zip."""
    how = "\n".join(f"- {_HOW[name].format(size=card['image_size'])}" for name in good)
    checks = "\n".join(f"- {EXPORT_FILES[name]}: {_verdict(outcome)}" for name, outcome in outcomes.items())
    task = TASKS[card["task"]]
    way = "stretched to" if task.image_fit == "stretch" else "fitted, with grey (114) around, into"
    norm = card["normalisation"]
    return f"""# {card["name"]} v{card["version"]}

{task.label} with {card["architecture"]}. {card.get("note", "")}

## Use

{how}

Outputs: {task.outputs_help_of(card["config"])}

An image is turned upright (EXIF), made RGB, {way} a square of {card["image_size"]} pixels, divided by 255, and
normalised with mean {norm["mean"]} and standard deviation {norm["std"]}.

Classes, in the order of the outputs: {", ".join(card["classes"])}.

## Checked on {images} images against PyTorch

{checks}

Licence of the weights: {card.get("licence") or "not stated"}.
"""


def _verdict(outcome: Outcome) -> str:
    if not outcome["is_good"]:
        return f"left out. {outcome['problem']}"
    return f"largest difference of the scores {number_text(outcome['difference'] or 0.0, digits=2)}"
