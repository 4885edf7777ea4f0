"""Exports: every family of networks gives the outputs of PyTorch in every format; differences are reported."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.helpers.library_weights import make_card, make_weights
from trainingapp.contract.config import parse_config
from trainingapp.contract.errors import BadData
from trainingapp.contract.model_card import BOX_TOLERANCE_PIXELS, NORMALISATIONS, TOLERANCE, with_task
from trainingapp.contract.prediction import Prepared, candidates, network_of, prepared, suppressed
from trainingapp.engine.data.images import load_fitted_image, load_image
from trainingapp.engine.export import differences, drawn_images, export
from trainingapp.engine.networks import build_network, load_plain_network
from trainingapp.engine.tasks.detection.plain_outputs import plain_detector

CLASSES = ["disc", "ring", "star"]

#: One network of each family of the tables, at a small size.
FAMILIES = [
    ("classification", "resnet18", 32),
    ("classification", "mobilenet_v3_small", 32),
    ("classification", "efficientnet_b0", 32),
    ("classification", "convnext_tiny", 32),
    ("classification", "vit_b_16", 32),
    ("classification", "timm/resnet10t", 32),
    ("classification", "timm/mobilenetv4_conv_small", 32),
    ("classification", "timm/efficientnet_lite0", 32),
    ("classification", "timm/regnety_002", 32),
    ("classification", "timm/convnext_atto", 32),
    ("classification", "timm/convnextv2_nano", 32),
    ("classification", "timm/efficientnetv2_rw_t", 32),
    ("classification", "timm/vit_tiny_patch16_224", 32),
    ("classification", "timm/vit_small_patch14_dinov2.lvd142m", 64),
    ("classification", "timm/vit_small_patch16_dinov3.lvd1689m", 64),
    ("classification", "timm/convnext_tiny.dinov3_lvd1689m", 64),
    ("detection", "fcos_resnet18_fpn", 64),
    ("detection", "pan_n", 64),
    ("detection", "retinanet_resnet18_fpn", 64),
    ("detection", "retinanet_resnet50_fpn_v2", 64),
    ("detection", "fasterrcnn_resnet18_fpn", 64),
    ("detection", "fasterrcnn_resnet50_fpn_v2", 64),
    ("detection", "fasterrcnn_mobilenet_v3_large_fpn", 64),
    ("detection", "ssd300_vgg16", 288),
    ("detection", "ssdlite320_mobilenet_v3_large", 128),
    ("detection", "hf/rtdetrv2_r18", 64),
    ("detection", "hf/dfine_n", 128),
    ("detection", "hf/rfdetr_nano", 64),
    ("instances", "maskrcnn_resnet18_fpn", 64),
    ("instances", "maskrcnn_mobilenet_v3_large_fpn", 64),
    ("instances", "maskrcnn_resnet50_fpn_v2", 64),
    ("segmentation", "lraspp_mobilenet_v3_large", 64),
    ("segmentation", "deeplabv3_resnet18", 64),
    ("segmentation", "fcn_resnet18", 64),
    ("segmentation", "smp/unet_resnet18", 64),
    ("segmentation", "smp/unetplusplus_mobilenet_v2", 64),
    ("segmentation", "smp/fpn_efficientnet-b0", 64),
    ("segmentation", "smp/deeplabv3plus_resnet18", 64),
    ("segmentation", "smp/segformer_resnet18", 64),
    ("segmentation", "smp/unet_tu-convnextv2_atto", 64),
    ("segmentation", "timm/vit_small_patch14_dinov2.lvd142m", 64),
    ("segmentation", "timm/vit_small_patch16_dinov3.lvd1689m", 64),
    ("segmentation", "hf/segformer_b0", 64),
    ("segmentation", "hf/mask2former_swin_tiny", 64),
]
#: Networks that OpenVINO cannot read: the export says so, and the other formats are made.
WITHOUT_OPENVINO = {"hf/mask2former_swin_tiny"}
QUICK = {"pan_n", "ssdlite320_mobilenet_v3_large"}
ALL_FORMATS = ["onnx", "openvino", "pt2", "safetensors", "pt"]


def quiet(done: int, total: int, message: str) -> None:
    pass


def family_cases() -> list[Any]:
    return [
        pytest.param(*case, id=case[1], marks=[] if case[1] in QUICK else [pytest.mark.slow, pytest.mark.long])
        for case in FAMILIES
    ]


@pytest.mark.parametrize(("task", "model", "size"), family_cases())
def test_exported_networks_give_the_scores_of_pytorch(task: str, model: str, size: int, tmp_path: Path) -> None:
    card = make_card(task, model, size, CLASSES)
    weights = make_weights(tmp_path / "entry", card)
    images = drawn_images(tmp_path / "drawn", 3)
    formats = ["onnx", "openvino", "pt2"]
    found = export(card, weights, formats, images, tmp_path, quiet)
    for name in formats:
        outcome = found["formats"][name]
        if name == "openvino" and model in WITHOUT_OPENVINO:
            assert not outcome["is_good"]
            assert "OpenVINO" in outcome["problem"]
            continue
        assert outcome["is_good"], outcome["problem"]
        assert outcome["difference"] <= TOLERANCE
    # Not by our own word alone: the files in the zip, run here as `predict.py` does, against the network itself.
    with zipfile.ZipFile(tmp_path / found["file"]) as archive:
        archive.extractall(tmp_path / "out")
    module = load_plain_network(card, weights)
    image = prepared(images[2], card).image_NCHW
    with torch.inference_mode():
        expected = module(torch.from_numpy(image))
    assert float(expected[-1].max()) > 0
    for runtime in ("onnx",) if model in WITHOUT_OPENVINO else ("onnx", "openvino"):
        outputs = network_of(tmp_path / "out", runtime)(image)
        scores, boxes = differences(card, expected, [torch.from_numpy(np.array(part)) for part in outputs])
        assert scores <= TOLERANCE, runtime
        assert (boxes or 0.0) <= BOX_TOLERANCE_PIXELS, runtime


@pytest.mark.parametrize(
    "model", ["fcos_resnet18_fpn", "retinanet_resnet18_fpn", "fasterrcnn_resnet18_fpn", "ssdlite320_mobilenet_v3_large"]
)
def test_a_detector_finds_what_torchvision_finds(model: str) -> None:
    size, least = 96, 0.02
    card = make_card("detection", model, size, CLASSES, conf_thres=least, iou_thres=0.5, max_det=1000)
    torch.manual_seed(1)
    network = build_network(parse_config(card["config"]), len(CLASSES)).eval()
    image_NCHW = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        theirs = network(image_NCHW)[0]
        boxes, scores = (tensor.numpy() for tensor in plain_detector(network, size)(image_NCHW))
    whole = Prepared(np.zeros(0, np.float32), size, size, 0, 0, size, size)
    ours = suppressed(candidates(boxes, scores, whole, least), 0.5, 20)
    has_area = ((theirs["boxes"][:, 2:] - theirs["boxes"][:, :2]) > 0.005).all(dim=1)
    # Neither of the two promises in what order equal scores stand, so scores are compared, not places.
    np.testing.assert_allclose([row[1] for row in ours], theirs["scores"][has_area][:20].numpy(), atol=1e-4)


@pytest.mark.parametrize("task", ["classification", "detection"])
@pytest.mark.parametrize("size", [(50, 37), (300, 100), (701, 453)])
@pytest.mark.parametrize("decoding", ["auto", "fast", "full"])
def test_predict_prepares_an_image_as_training_does(
    task: str, size: tuple[int, int], decoding: Literal["auto", "fast", "full"], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    config = {"decoding": decoding}
    card = with_task({"task": task, "image_size": 64, "normalisation": NORMALISATIONS["imagenet"], "config": config})
    load = load_image if task == "classification" else load_fitted_image
    trained = load(path, 64, None, decoding).float()
    mean, std = (torch.tensor(card["normalisation"][name]).view(3, 1, 1) * 255 for name in ("mean", "std"))
    image = prepared(path, card)
    torch.testing.assert_close(torch.from_numpy(image.image_NCHW)[0], (trained - mean) / std, atol=1e-5, rtol=1e-5)
    assert (image.width, image.height) == (size[1], size[0])


def test_the_zip_contains_each_format_with_the_files_to_use_it(tmp_path: Path) -> None:
    card = make_card("classification", "timm/resnet10t", 32, CLASSES) | {"licence": "CC BY 4.0"}
    weights = make_weights(tmp_path / "entry", card)
    told: list[tuple[int, int, str]] = []
    images = drawn_images(tmp_path / "drawn", 10)
    found = export(card, weights, ALL_FORMATS, images, tmp_path, lambda *words: told.append(words))
    with zipfile.ZipFile(tmp_path / found["file"]) as archive:
        names = sorted(archive.namelist())
        assert names == [
            "README.md",
            "model.bin",
            "model.json",
            "model.onnx",
            "model.pt2",
            "model.xml",
            "predict.py",
            "weights.pt",
            "weights.safetensors",
        ]
        archive.extractall(tmp_path / "out")
    own = load_file(weights)
    for state in (torch.load(tmp_path / "out/weights.pt", weights_only=True), load_file(tmp_path / "out" / names[-1])):
        assert all(torch.equal(state[name], own[name]) for name in own)
    about = json.loads((tmp_path / "out/model.json").read_text())
    assert (about["classes"], about["image_size"], about["outputs"]) == (CLASSES, 32, ["probabilities"])
    assert about["checked"]["onnx"]["difference"] <= TOLERANCE
    assert "CC BY 4.0" in (tmp_path / "out/README.md").read_text()
    assert (told[0][0], told[-1][0]) == (0, told[-1][1])
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.long
def test_a_format_with_other_outputs_is_excluded_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that ONNX is made of is not the one that is compared: as if the exporter were wrong."""
    card = make_card("classification", "timm/resnet10t", 32, CLASSES)
    weights = make_weights(tmp_path / "entry", card)
    honest = torch.onnx.export

    def wrong(module: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        other = make_weights(tmp_path / "other", dict(card), seed=1)
        return honest(load_plain_network(card, other), *arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    images = drawn_images(tmp_path / "drawn", 2)
    found = export(card, weights, ["onnx", "pt"], images, tmp_path, quiet)
    assert not found["formats"]["onnx"]["is_good"]
    assert "differ from those of PyTorch: scores by up to" in found["formats"]["onnx"]["problem"]
    with zipfile.ZipFile(tmp_path / found["file"]) as archive:
        assert {"model.onnx", "predict.py"}.isdisjoint(archive.namelist())
        assert "model.onnx: left out." in archive.read("README.md").decode()
    with pytest.raises(BadData, match="differ from those of PyTorch"):
        export(card, weights, ["onnx"], images, tmp_path, quiet)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "size", "key"),
    [
        ("classification", "timm/resnet10t", 32, "classes"),
        ("detection", "fasterrcnn_resnet18_fpn", 64, "boxes"),
        ("instances", "maskrcnn_mobilenet_v3_large_fpn", 64, "boxes"),
        ("segmentation", "fcn_resnet18", 64, "shares"),
    ],
)
def test_the_exported_zip_runs_without_torch(
    task: str, model: str, size: int, key: str, tmp_path: Path, plain_python: Path
) -> None:
    card = make_card(task, model, size, CLASSES) | {"confidence": 0.05}
    weights = make_weights(tmp_path / "entry", card)
    images = drawn_images(tmp_path / "drawn", 2)
    found = export(card, weights, ["onnx"], images, tmp_path, quiet)
    folder = tmp_path / "elsewhere"
    with zipfile.ZipFile(tmp_path / found["file"]) as archive:
        archive.extractall(folder)
    command = [plain_python, "predict.py", *images, "--out", "drawn"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in images]
    assert all(line[key] for line in lines)
    for path in images:
        with Image.open(folder / "drawn" / f"{path.stem}.png") as image:
            assert image.size == (320, 240)
    bad = folder / "bad.jpg"
    bad.write_bytes(b"nothing")
    done = subprocess.run([plain_python, "predict.py", bad], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, "cannot be read as an image" in done.stderr) == (1, True)
