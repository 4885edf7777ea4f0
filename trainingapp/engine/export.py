"""Exports: a model as one zip with the requested formats, each checked against PyTorch.

A format whose check fails is not in the zip; the result says why.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from trainingapp.contract import deep_images, prediction, run_lengths, tiff_bands
from trainingapp.contract.errors import BadData
from trainingapp.contract.export_options import NMS_OUTPUTS, OPTION_FORMATS, ExportOptions
from trainingapp.contract.messages import Message, MessageError, from_data, sentences
from trainingapp.contract.messages.engine_jobs import BUILDING_NETWORK, CREATING_FILE, PACKING
from trainingapp.contract.messages.weights import BOXES_DIFFER, SCORES_DIFFER, WEIGHTS_DIFFER
from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, EXPORT_FILES, TOLERANCE, Card, export_files, with_task
from trainingapp.contract.number_text import number_text
from trainingapp.contract.prediction import prepared
from trainingapp.contract.storage.durable import flush, sha256_of
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.export_onnx import Check, OnnxExport, Run, created, onnx_session, write_openvino
from trainingapp.engine.export_readme import Outcome, readme
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.tasks.registry import implementation

ZIP_FILE = "export.zip"
CARD_FILE = "model.json"
ReportProgress = Callable[[int, int, Message | str], None]


@dataclass(frozen=True)
class _Subject:
    """The network that is exported: for one image of its size, and as the options describe it."""

    card: Card
    weights: Path
    module: nn.Module
    checks: list[Check]
    onnx: OnnxExport


@dataclass(frozen=True)
class _Compared:
    """The largest differences over all checks: of scores, and of boxes in pixels where there are boxes."""

    difference: float = 0.0
    box_difference: float | None = None
    detections: int | None = None
    """Boxes that were compared, of a network with suppression inside."""


def export(
    card: Card,
    weights: Path,
    formats: Sequence[str],
    images: Sequence[Path],
    folder: Path,
    report: ReportProgress,
    options: ExportOptions | None = None,
) -> dict[str, object]:
    """Write FOLDER/export.zip. Returns {"file", "size_bytes", "sha256", "images", "formats": {format: outcome}}.

    `options` are about ONNX and OpenVINO. Raises BadData where not one format could be created, WeightsUnavailable.
    """
    card, total, options = with_task(card), len(formats) + 2, options or ExportOptions()
    report(0, total, BUILDING_NETWORK())
    subject = _subject(card, weights, images, options, folder / "made.onnx")
    outcomes: dict[str, Outcome] = {}
    for done, name in enumerate(formats, start=1):
        report(done, total, CREATING_FILE(file=EXPORT_FILES[name]))
        outcomes[name] = _outcome(name, subject, folder / EXPORT_FILES[name])
    (folder / "made.onnx").unlink(missing_ok=True)
    good = [name for name in formats if outcomes[name]["is_good"]]
    if not good:
        raise BadData(sentences(*(from_data(outcome.get("problem_data")) for outcome in outcomes.values())))
    report(total - 1, total, PACKING())
    path = _packed(card, outcomes, good, folder, len(images), options)
    report(total, total, "")
    size_bytes = path.stat().st_size
    about = {"file": path.name, "size_bytes": size_bytes, "sha256": sha256_of(path), "images": len(images)}
    return {**about, "formats": outcomes}


def _subject(card: Card, weights: Path, images: Sequence[Path], options: ExportOptions, onnx_file: Path) -> _Subject:
    module = load_plain_network(card, weights)
    inputs = [torch.from_numpy(prepared(path, card).image_NCHW) for path in images]
    with torch.inference_mode():
        checks = [Check(one, module(one)) for one in inputs]
    onnx_file.unlink(missing_ok=True)
    return _Subject(card, weights, module, checks, OnnxExport(card, weights, inputs, options, onnx_file))


def _outcome(name: str, subject: _Subject, path: Path) -> Outcome:
    make = {"pt": _pt, "safetensors": _safetensors, "pt2": _pt2, "onnx": _onnx, "openvino": _openvino}[name]
    has_options = name in OPTION_FORMATS
    about: Outcome = {
        "is_good": True,
        "difference": None,
        "box_difference": None,
        "problem": "",
        "options": subject.onnx.options.as_data() if has_options else {},
    }
    try:
        found = make(subject, path)
    except MessageError as error:
        for file in export_files(name):
            (path.parent / file).unlink(missing_ok=True)
        return {**about, "is_good": False, "problem": str(error), "problem_data": error.message.as_data()}
    about |= {"difference": found.difference, "box_difference": found.box_difference}
    if has_options:
        about |= {"rounding": subject.onnx.rounding, "detections": found.detections}
    return about


def _pt(subject: _Subject, path: Path) -> _Compared:
    torch.save(load_file(subject.weights), path)
    return _check_state(torch.load(path, weights_only=True), subject)


def _safetensors(subject: _Subject, path: Path) -> _Compared:
    path.unlink(missing_ok=True)
    path.write_bytes(subject.weights.read_bytes())
    return _check_state(load_file(path), subject)


def _check_state(state: dict[str, torch.Tensor], subject: _Subject) -> _Compared:
    """Compare bit by bit: nothing is computed."""
    own = subject.module.network.state_dict()  # type: ignore[union-attr]
    if state.keys() != own.keys() or not all(torch.equal(state[name], own[name]) for name in own):
        raise MessageError(WEIGHTS_DIFFER())
    return _Compared()


def _pt2(subject: _Subject, path: Path) -> _Compared:
    def make() -> None:
        torch.export.save(torch.export.export(subject.module, (subject.checks[0].images_NCHW,)), path)

    created("torch.export", make)
    return _compared("torch.export", subject.card, subject.checks, torch.export.load(path).module())


def _onnx(subject: _Subject, path: Path) -> _Compared:
    made = subject.onnx.file()
    shutil.copyfile(made, path)  # OpenVINO is made from the same file
    return _compared("ONNX", subject.card, subject.onnx.checks, onnx_session(path))


def _openvino(subject: _Subject, path: Path) -> _Compared:
    made, runs = subject.onnx.file(), []
    created("OpenVINO", lambda: runs.append(write_openvino(made, path)))
    return _compared("OpenVINO", subject.card, subject.onnx.checks, runs[0])


def _compared(name: str, card: Card, checks: Sequence[Check], run: Run) -> _Compared:
    """The largest differences over all checks. Raises MessageError where they are too large, or `run` fails."""
    worst, worst_box, detections, outputs = 0.0, None, None, []
    with torch.inference_mode():
        for check in checks:
            created(name, lambda images=check.images_NCHW: outputs.append(run(images)))  # type: ignore[misc]
            score, box = differences(card, check.expected, outputs.pop())
            worst, worst_box = max(worst, score), box if worst_box is None else max(worst_box, box or 0.0)
            if len(check.expected) == len(NMS_OUTPUTS):
                detections = (detections or 0) + len(check.expected[0])
    if not worst <= TOLERANCE or not (worst_box or 0.0) <= BOX_TOLERANCE_PIXELS:
        scores, allowed = number_text(worst, digits=2), number_text(TOLERANCE)
        if worst_box is not None and worst_box > BOX_TOLERANCE_PIXELS:
            pixels = number_text(worst_box, digits=2)
            raise MessageError(BOXES_DIFFER(format=name, difference=scores, allowed=allowed, pixels=pixels))
        raise MessageError(SCORES_DIFFER(format=name, difference=scores, allowed=allowed))
    return _Compared(worst, worst_box, detections)


def differences(
    card: Card, expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]
) -> tuple[float, float | None]:
    """See `BaseTask.output_differences`."""
    one, other = ([tensor.numpy() for tensor in outputs] for outputs in (expected, found))
    return implementation(card["task"]).output_differences(card, one, other)


def _packed(
    card: Card, outcomes: dict[str, Outcome], good: list[str], folder: Path, images: int, options: ExportOptions
) -> Path:
    """The zip, without compression, because weights do not shrink."""
    path = folder / ZIP_FILE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        files = [file for name in good for file in export_files(name)]
        for file in files:
            archive.write(folder / file, file)
        about = {
            name: value for name, value in card.items() if name != "path"
        }  # a path of this machine is of no use elsewhere
        names = NMS_OUTPUTS if options.nms else TASKS[card["task"]].output_names
        about |= {"outputs": list(names), "export": options.as_data(), "checked": outcomes}
        archive.writestr(CARD_FILE, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
        archive.writestr("README.md", readme(card, outcomes, good, images, options))
        if OPTION_FORMATS.intersection(good):
            for module, name in _scripts(card).items():
                # Beside each other in a folder, the files are modules without a package.
                text = (
                    Path(str(module.__file__))
                    .read_text(encoding="utf-8")
                    .replace("from trainingapp.contract.", "from ")
                )
                archive.writestr(name, text)
    flush(path)
    for file in files:
        (folder / file).unlink()
    return path


def _scripts(card: Card) -> dict[ModuleType, str]:
    """The modules that predict without the studio, and the names of their files."""
    scripts = {prediction: "predict.py"}
    if card.get("conversion"):
        scripts |= {deep_images: "deep_images.py", tiff_bands: "tiff_bands.py"}
    if TASKS[card["task"]].prediction == "objects":
        scripts[run_lengths] = "run_lengths.py"
    return scripts


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
