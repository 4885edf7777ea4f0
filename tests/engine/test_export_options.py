"""Export options: each choice for ONNX and OpenVINO gives the outputs of PyTorch, also without torch."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.library_weights import make_card, make_weights
from trainingapp.contract.errors import BadData
from trainingapp.contract.export_options import ExportOptions, opsets, options_of
from trainingapp.contract.messages import MessageError
from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, HALF_TOLERANCE, TOLERANCE
from trainingapp.contract.prediction import Prepared, candidates, network_of, prepared, suppressed
from trainingapp.engine.export import differences, drawn_images, export
from trainingapp.engine.networks import load_network
from trainingapp.engine.tasks.detection.plain_outputs import WithSuppression, export_detector, plain_detector
from trainingapp.engine.tasks.registry import implementation

CLASSES = ["disc", "ring", "star"]
BOTH = ["onnx", "openvino"]
SMALL = ("classification", "timm/resnet10t", 32)
Arrays = list[np.ndarray[Any, Any]]


def quiet(done: int, total: int, message: object) -> None:
    pass


class Exported:
    """A network with random weights, its export, and what PyTorch gives for the same choices."""

    def __init__(self, folder: Path, case: tuple[str, str, int], formats: list[str], options: ExportOptions) -> None:
        task, model, size = case
        self.card = make_card(task, model, size, CLASSES) | {"confidence": 0.02}
        self.options = options
        weights = make_weights(folder / "entry", self.card)
        images = drawn_images(folder / "drawn", 3)
        self.result: Any = export(self.card, weights, formats, images, folder, quiet, options)
        self.folder = folder / "out"
        with zipfile.ZipFile(folder / self.result["file"]) as archive:
            archive.extractall(self.folder)
        network = load_network(self.card, weights)
        if options.half:
            for parameter in network.parameters():
                if parameter.dim() >= 2:
                    parameter.copy_(parameter.half().float())
        self.module = implementation(task).export_network(network, self.card, options)
        self.images = images

    def inputs(self) -> list[torch.Tensor]:
        """One image; several where their number is free; another size where the size is free."""
        one = torch.from_numpy(prepared(self.images[1], self.card).image_NCHW)
        made = [one]
        if self.options.batch == "dynamic":
            made.append(torch.cat([one, one.flip(-1), one.flip(-2), -one]))
        if self.options.size == "dynamic":
            made.append(torch.nn.functional.interpolate(one, (one.shape[-2] + 64, one.shape[-1] + 32)))
        return made

    def check(self, image: torch.Tensor, found: Arrays) -> None:
        """The outputs equal those of PyTorch: scores within 1e-4, boxes within half a pixel."""
        with torch.inference_mode():
            expected = self.module(image)
        score, box = differences(self.card, expected, [torch.from_numpy(np.array(part)) for part in found])
        assert score <= TOLERANCE
        assert (box or 0.0) <= BOX_TOLERANCE_PIXELS
        assert all(part.numel() for part in expected)


def test_dynamic_axes_and_the_opset_are_those_of_the_file(tmp_path: Path) -> None:
    made = Exported(tmp_path, SMALL, BOTH, ExportOptions(batch="dynamic", size="dynamic", opset=13))
    model = onnx.load(made.folder / "model.onnx")
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        "height",
        "width",
    ]
    assert [one.version for one in model.opset_import if not one.domain] == [13]
    # Not by our own word alone: onnxruntime, called here on inputs that the export did not use.
    session = onnxruntime.InferenceSession(made.folder / "model.onnx", providers=["CPUExecutionProvider"])
    for image in made.inputs():
        made.check(image, session.run(None, {"image": image.numpy()}))
        made.check(image, network_of(made.folder, "openvino")(image.numpy()))
    about = json.loads((made.folder / "model.json").read_text())
    assert options_of(about["export"]) == made.options
    assert "float32 [N, 3, H, W]" in (made.folder / "README.md").read_text()


@pytest.mark.long
def test_half_precision_halves_the_file_and_reports_rounding_differences(tmp_path: Path) -> None:
    single = Exported(tmp_path / "single", SMALL, BOTH, ExportOptions(opset=17))
    half = Exported(tmp_path / "half", SMALL, BOTH, ExportOptions(opset=17, half=True))
    for file in ("model.onnx", "model.bin"):
        assert (half.folder / file).stat().st_size < 0.55 * (single.folder / file).stat().st_size
    for name in BOTH:
        assert 0 < half.result["formats"][name]["rounding"] <= HALF_TOLERANCE
        for image in half.inputs():
            half.check(image, network_of(half.folder, name)(image.numpy()))
    session = onnxruntime.InferenceSession(half.folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.type for one in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    command = [sys.executable, "predict.py", half.images[0], "--size", "64"]
    done = subprocess.run(command, cwd=half.folder, capture_output=True, text=True)
    assert (done.returncode, "takes images of 32 pixels alone" in done.stderr) == (2, True)
    readme = (half.folder / "README.md").read_text()
    assert "stored as float16; inputs and outputs are float32" in readme
    assert "the rounding changes the scores by up to" in readme


def test_suppression_inside_finds_what_the_prediction_script_finds(tmp_path: Path) -> None:
    size = 64
    card = make_card("detection", "fcos_resnet18_fpn", size, CLASSES) | {"confidence": 0.02}
    network = load_network(card, make_weights(tmp_path / "entry", card))
    image = torch.from_numpy(prepared(drawn_images(tmp_path / "drawn", 1)[0], card).image_NCHW)
    plain = plain_detector(network, size)
    inside = WithSuppression(plain, confidence=0.02, iou=0.5, limit=20).eval()
    with torch.inference_mode():
        boxes, scores = (part.numpy() for part in plain(image))
        found_boxes, found_scores, labels = inside(image)
    whole = Prepared(np.zeros(0, np.float32), size, size, 0, 0, size, size)
    rows = suppressed(candidates(boxes, scores, whole, 0.02), 0.5, 20)
    assert len(rows) == 20
    assert [row[0] for row in rows] == labels.tolist()
    np.testing.assert_allclose([row[1] for row in rows], found_scores.numpy(), atol=1e-6)
    np.testing.assert_allclose([row[2:] for row in rows], found_boxes.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("classification", ExportOptions(nms=True), "only available for detection"),
        ("segmentation", ExportOptions(nms=True), "only available for detection"),
        ("instances", ExportOptions(nms=True), "only available for detection"),
        ("instances", ExportOptions(opset=21), "from 13 to 20"),
        ("detection", ExportOptions(nms=True, batch="dynamic"), "one image at a time"),
        ("detection", ExportOptions(opset=21), "Opset 21 is not available for this model. Choose one from 13 to 20."),
        ("classification", ExportOptions(opset=24), "from 13 to 23"),
        ("classification", ExportOptions(opset=12), "from 13 to 23"),
    ],
)
def test_choices_that_do_not_apply_to_the_task_are_refused(task: str, options: ExportOptions, words: str) -> None:
    assert words in str(options.problem(task))


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "instances"])
def test_every_offered_opset_is_accepted(task: str) -> None:
    assert ExportOptions().problem(task) is None
    assert all(ExportOptions(opset=number).problem(task) is None for number in opsets(task))


def test_options_of_an_older_version_are_the_defaults() -> None:
    assert options_of(None) == options_of({}) == ExportOptions()
    assert options_of({"half": True, "unknown": 3}) == ExportOptions(half=True)


@pytest.mark.parametrize("options", [ExportOptions(batch="dynamic"), ExportOptions(size="dynamic")])
def test_a_two_stage_detector_has_a_fixed_input(options: ExportOptions, tmp_path: Path) -> None:
    card = make_card("detection", "fasterrcnn_mobilenet_v3_large_fpn", 64, CLASSES)
    network = load_network(card, make_weights(tmp_path / "entry", card))
    with pytest.raises(MessageError, match="two-stage detector"):
        export_detector(network, card, options)


def test_formats_that_a_network_does_not_allow_are_skipped_with_the_reason(tmp_path: Path) -> None:
    case = ("classification", "timm/vit_tiny_patch16_224", 32)
    made = Exported(tmp_path, case, [*BOTH, "pt"], ExportOptions(size="dynamic"))
    for name in BOTH:
        outcome = made.result["formats"][name]
        assert not outcome["is_good"]
        assert "only takes images of its own size: Input height (64) doesn't match" in outcome["problem"]
    assert sorted(path.name for path in made.folder.iterdir()) == ["README.md", "model.json", "weights.pt"]
    with pytest.raises(BadData, match="only takes images of its own size"):
        Exported(tmp_path / "alone", case, ["onnx"], ExportOptions(size="dynamic"))


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    card = make_card(*SMALL, CLASSES)
    weights = make_weights(tmp_path / "entry", card)
    state = load_file(weights)
    state["fc.weight"] *= 1e7
    save_file(state, weights)
    images = drawn_images(tmp_path / "drawn", 1)
    with pytest.raises(BadData, match="too large for half precision"):
        export(card, weights, ["onnx"], images, tmp_path, quiet, ExportOptions(half=True))


def test_rounding_that_changes_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.engine.export_onnx.HALF_TOLERANCE", 1e-9)
    card = make_card(*SMALL, CLASSES)
    weights = make_weights(tmp_path / "entry", card)
    images = drawn_images(tmp_path / "drawn", 1)
    with pytest.raises(BadData, match="With weights in half precision, the scores differ by up to"):
        export(card, weights, BOTH, images, tmp_path, quiet, ExportOptions(half=True))
    assert not (tmp_path / "export.zip").exists()


D = ExportOptions
#: Architectures with the choices that they allow, alone and together.
CHOICES = [
    (SMALL, D(batch="dynamic")),
    (SMALL, D(size="dynamic", half=True)),
    (SMALL, D(opset=13, batch="dynamic", size="dynamic", half=True)),
    *((SMALL, D(opset=number)) for number in opsets("classification")),
    (("classification", "convnext_tiny", 32), D(batch="dynamic", half=True)),
    (("classification", "vit_b_16", 32), D(batch="dynamic", opset=17)),
    (("segmentation", "fcn_resnet18", 64), D(batch="dynamic", size="dynamic", half=True)),
    (("segmentation", "lraspp_mobilenet_v3_large", 64), D(batch="dynamic", size="dynamic")),
    (("segmentation", "smp/unet_resnet18", 64), D(batch="dynamic", size="dynamic", opset=15)),
    (("detection", "fcos_resnet18_fpn", 64), D(batch="dynamic", size="dynamic")),
    (("detection", "fcos_resnet18_fpn", 64), D(nms=True, size="dynamic", half=True)),
    (("detection", "pan_n", 64), D(batch="dynamic", size="dynamic")),
    (("detection", "retinanet_resnet18_fpn", 64), D(batch="dynamic", half=True, opset=13)),
    (("detection", "retinanet_resnet18_fpn", 64), D(nms=True, opset=20)),
    (("detection", "ssdlite320_mobilenet_v3_large", 128), D(batch="dynamic", size="dynamic")),
    (("detection", "fasterrcnn_resnet18_fpn", 64), D(half=True)),
    (("instances", "maskrcnn_resnet18_fpn", 64), D(half=True, opset=17)),
    (("detection", "fasterrcnn_resnet18_fpn", 64), D(nms=True, opset=13)),
]

RUNS = """
import pathlib, sys
import numpy as np
import predict
assert "torch" not in sys.modules
for runtime in ("onnx", "openvino"):
    network = predict.network_of(pathlib.Path("."), runtime)
    with np.load("inputs.npz") as inputs:
        found = {f"{name}_{number}": part for name in inputs for number, part in enumerate(network(inputs[name]))}
    np.savez(f"{runtime}.npz", **found)
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("case", "options"), CHOICES, ids=[f"{case[1]}-{options}" for case, options in CHOICES])
def test_each_choice_equals_pytorch_without_torch(
    case: tuple[str, str, int], options: ExportOptions, tmp_path: Path, plain_python: Path
) -> None:
    made = Exported(tmp_path, case, BOTH, options)
    inputs = made.inputs()
    np.savez(made.folder / "inputs.npz", **{f"input{number}": image.numpy() for number, image in enumerate(inputs)})
    done = subprocess.run([plain_python, "-c", RUNS], cwd=made.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for runtime in BOTH:
        with np.load(made.folder / f"{runtime}.npz") as outputs:
            for number, image in enumerate(inputs):
                prefix = f"input{number}_"
                count = sum(name.startswith(prefix) for name in outputs)
                made.check(image, [outputs[f"{prefix}{output}"] for output in range(count)])
        # The script itself, with the image of the check and, where it may, another size.
        command = [plain_python, "predict.py", made.images[0], "--runtime", runtime]
        if options.size == "dynamic":
            command += ["--size", "160"]
        done = subprocess.run(command, cwd=made.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["image"] == str(made.images[0])
