"""Exports: an entry of the library as one zip with the requested formats, each checked against PyTorch.

A format whose check fails is not in the zip; the result says why.
"""

import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from trainingapp.contract import prediction as predict
from trainingapp.contract.errors import BadData
from trainingapp.contract.messages import Message, MessageError, from_data, sentences
from trainingapp.contract.messages.engine_jobs import BUILDING_NETWORK, CREATING_FILE, PACKING
from trainingapp.contract.messages.weights import BOXES_DIFFER, FORMAT_NOT_CREATED, SCORES_DIFFER, WEIGHTS_DIFFER
from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, EXPORT_FILES, TOLERANCE, Card, with_task
from trainingapp.contract.number_text import number_text
from trainingapp.contract.prediction import prepared
from trainingapp.contract.storage.durable import flush, sha256_of
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.export_readme import Outcome, readme
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.tasks.registry import implementation

ZIP_FILE = "export.zip"
CARD_FILE = "model.json"
OPSET = 17
"""Of the older exporter; the newer one chooses its own."""

#: A network in some format: its outputs for an image.
Run = Callable[[torch.Tensor], Sequence[torch.Tensor]]
Tell = Callable[[int, int, Message | str], None]


class _NotTheSameError(MessageError):
    """A format could not be created, or its results differ from those of PyTorch."""


@dataclass(frozen=True)
class _Subject:
    """The network that is exported, and its outputs for the images of the check."""

    card: Card
    weights: Path
    module: nn.Module
    images: list[torch.Tensor]
    expected: list[tuple[torch.Tensor, ...]]


def export(
    card: Card, weights: Path, formats: Sequence[str], images: Sequence[Path], folder: Path, tell: Tell
) -> dict[str, object]:
    """Write FOLDER/export.zip. Returns {"file", "size_bytes", "sha256", "images", "formats": {format: outcome}}.

    An outcome is {"is_good", "difference", "box_difference", "problem", "problem_data"}, differences being the largest
    over all images. Raises BadData where not one format could be created, WeightsUnavailable.
    """
    card, total = with_task(card), len(formats) + 2
    tell(0, total, BUILDING_NETWORK())
    subject = _subject(card, weights, images)
    outcomes: dict[str, Outcome] = {}
    for done, name in enumerate(formats, start=1):
        tell(done, total, CREATING_FILE(file=EXPORT_FILES[name]))
        outcomes[name] = _outcome(name, subject, folder / EXPORT_FILES[name])
    good = [name for name in formats if outcomes[name]["is_good"]]
    if not good:
        raise BadData(sentences(*(from_data(outcome.get("problem_data")) for outcome in outcomes.values())))
    tell(total - 1, total, PACKING())
    path = _packed(card, outcomes, good, folder, len(images))
    tell(total, total, "")
    size_bytes = path.stat().st_size
    about = {"file": path.name, "size_bytes": size_bytes, "sha256": sha256_of(path), "images": len(images)}
    return {**about, "formats": outcomes}


def _subject(card: Card, weights: Path, images: Sequence[Path]) -> _Subject:
    module = load_plain_network(card, weights)
    inputs = [torch.from_numpy(prepared(path, card).image_NCHW) for path in images]
    with torch.inference_mode():
        expected = [module(one) for one in inputs]
    return _Subject(card, weights, module, inputs, expected)


def _outcome(name: str, subject: _Subject, path: Path) -> Outcome:
    make = {"pt": _pt, "safetensors": _safetensors, "pt2": _pt2, "onnx": _onnx}[name]
    try:
        difference, box_difference = make(subject, path)
    except _NotTheSameError as error:
        path.unlink(missing_ok=True)
        return {
            "is_good": False,
            "difference": None,
            "box_difference": None,
            "problem": str(error),
            "problem_data": error.message.as_data(),
        }
    return {"is_good": True, "difference": difference, "box_difference": box_difference, "problem": ""}


def _pt(subject: _Subject, path: Path) -> tuple[float, float | None]:
    torch.save(load_file(subject.weights), path)
    return _check_state(torch.load(path, weights_only=True), subject)


def _safetensors(subject: _Subject, path: Path) -> tuple[float, float | None]:
    path.unlink(missing_ok=True)
    path.write_bytes(subject.weights.read_bytes())
    return _check_state(load_file(path), subject)


def _check_state(state: dict[str, torch.Tensor], subject: _Subject) -> tuple[float, float | None]:
    """Compare bit by bit: nothing is computed."""
    own = subject.module.network.state_dict()  # type: ignore[union-attr]
    if state.keys() != own.keys() or not all(torch.equal(state[name], own[name]) for name in own):
        raise _NotTheSameError(WEIGHTS_DIFFER())
    return 0.0, None


def _pt2(subject: _Subject, path: Path) -> tuple[float, float | None]:
    def run() -> Run:
        torch.export.save(torch.export.export(subject.module, (subject.images[0],)), path)
        loaded: Run = torch.export.load(path).module()
        return loaded

    return _compared("torch.export", subject, _made("torch.export", run))


def _onnx(subject: _Subject, path: Path) -> tuple[float, float | None]:
    import onnxruntime

    task = subject.card["task"]
    is_newer = implementation(task).onnx_dynamo

    def run() -> Run:
        with torch.no_grad():
            torch.onnx.export(
                subject.module,
                (subject.images[0],),
                path,
                input_names=["image"],
                output_names=list(TASKS[task].output_names),
                dynamo=is_newer,
                # The newer exporter chooses its own opset and would write large weights beside the file.
                opset_version=None if is_newer else OPSET,
                external_data=not is_newer,
                verbose=False,
            )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image: [torch.from_numpy(found) for found in session.run(None, {"image": image.numpy()})]

    return _compared("ONNX", subject, _made("ONNX", run))


def _made(name: str, make: Callable[[], Run]) -> Run:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except Exception as error:  # exporters raise errors of any type
        first = next(iter(str(error).strip().splitlines()), "")
        raise _NotTheSameError(FORMAT_NOT_CREATED(format=name, kind=type(error).__name__, error=first)) from error


def _unlike(name: str, worst: float, worst_box: float) -> Message:
    scores, allowed = number_text(worst, digits=2), number_text(TOLERANCE)
    if worst_box > BOX_TOLERANCE_PIXELS:
        pixels = number_text(worst_box, digits=2)
        return BOXES_DIFFER(format=name, difference=scores, allowed=allowed, pixels=pixels)
    return SCORES_DIFFER(format=name, difference=scores, allowed=allowed)


def _compared(name: str, subject: _Subject, run: Run) -> tuple[float, float | None]:
    """The largest difference of scores, and of boxes in pixels where there are boxes, over all images."""
    worst, worst_box = 0.0, None
    with torch.inference_mode():
        for image, expected in zip(subject.images, subject.expected, strict=True):
            score, box = differences(subject.card, expected, run(image))
            worst, worst_box = max(worst, score), box if worst_box is None else max(worst_box, box or 0.0)
    if not worst <= TOLERANCE or not (worst_box or 0.0) <= BOX_TOLERANCE_PIXELS:
        raise _NotTheSameError(_unlike(name, worst, worst_box or 0.0))
    return worst, worst_box


def differences(
    card: Card, expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]
) -> tuple[float, float | None]:
    """See `BaseTask.output_differences`."""
    one, other = ([tensor.numpy() for tensor in outputs] for outputs in (expected, found))
    return implementation(card["task"]).output_differences(card, one, other)


def _packed(card: Card, outcomes: dict[str, Outcome], good: list[str], folder: Path, images: int) -> Path:
    """The zip, without compression, because weights do not shrink."""
    path = folder / ZIP_FILE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in good:
            archive.write(folder / EXPORT_FILES[name], EXPORT_FILES[name])
        about = {
            name: value for name, value in card.items() if name != "path"
        }  # a path of this machine is of no use elsewhere
        about |= {"outputs": list(TASKS[card["task"]].output_names), "checked": outcomes}
        archive.writestr(CARD_FILE, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
        archive.writestr("README.md", readme(card, outcomes, good, images))
        if "onnx" in good:
            archive.write(predict.__file__, "predict.py")
    flush(path)
    for name in good:
        (folder / EXPORT_FILES[name]).unlink()
    return path


def drawn_images(folder: Path, count: int) -> list[Path]:
    """Images of coloured noise and blocks, for a network whose dataset is gone."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(
            (320, 240), (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)[number % 2]
        )
        paths.append(folder / f"drawn_{number}.png")
        image.save(paths[-1])
    return paths
