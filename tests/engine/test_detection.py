"""The detection task: boxes follow their images, networks give losses and boxes, and runs resume bit-exact."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from tests.helpers.images import make_run_dir
from tests.helpers.trainers import (
    EndAfter,
    assert_bit_equal,
    assert_same_result,
    change_order,
    curves,
    events_of,
    last_status,
    newest_content,
    train_here,
)
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Box, Sample, Split, read_index, write_index
from trainingapp.contract.errors import BadConfig, BadData, WeightsUnavailable
from trainingapp.contract.evaluation import read_evaluation
from trainingapp.contract.loading import Loading
from trainingapp.contract.messages.loading import LOADERS_CHOSEN
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.contract.tasks.detection import DETECTORS, DetectionConfig
from trainingapp.engine.data.batches import BatchSource, LoaderPool
from trainingapp.engine.tasks.detection.data import BoxBatch, BoxedImage, BoxedImages, clipped, mosaic
from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.detection.networks import (
    LOSS_NAMES,
    DetectorOptions,
    build_detector,
    first_label,
    head_prefixes,
    loss_parts,
)
from trainingapp.engine.tasks.detection.task import DetectionTask
from trainingapp.engine.tasks.detection.validation_loss import boxes_and_losses
from trainingapp.engine.tasks.registry import make_task

SIZE = 64

#: 11 training images are six batches, the last one left out, and three optimizer steps; everything random is on.
HARD = {
    "task": "detection",
    "model": "fcos_resnet18_fpn",
    "image_size": SIZE,
    "batch_size": 2,
    "accumulation_steps": 2,
    "epochs": 2,
    "mosaic": 0.5,
    "augmentation": "medium",
    "ema_decay": 0.9,
    "gradient_clip": 5.0,
    "amp": "off",
}


def _draw_boxes(path: Path, boxes: list[Box], width: int, height: int, rng: np.random.Generator) -> None:
    """Dark noise, with each object as a bright rectangle that fills its box: red for class 0, green for class 1."""
    pixels = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    for box in boxes:
        pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right), box.label] = 240
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def boxes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 80 x 60 with up to two objects; the first of each split shows none, the second a crowd as well."""
    folder, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    samples = []
    counts: list[tuple[Split, int]] = [("train", 11), ("val", 5)]
    for split, count in counts:
        for number in range(count):
            boxes = [
                Box(int(rng.integers(2)), left, top, left + side, top + side)
                for side in rng.integers(14, 30, 1 + number % 2).tolist()
                for left, top in [rng.integers(0, 30, 2).tolist()]
            ]
            boxes = [] if number == 0 else boxes
            path = f"images/{split}/{number}.png"
            _draw_boxes(folder / path, boxes, 80, 60, rng)
            crowd = [Box(0, 60, 40, 80, 60, crowd=True)] if number == 1 else []
            samples.append(Sample(path, -1, split, 80, 60, (*boxes, *crowd)))
    write_index(
        folder, name="boxes", tasks=["detection"], classes=["red", "green"], fingerprint="0" * 64, samples=samples
    )
    return folder


def _items(folder: Path, **config: Any) -> BoxedImages:
    dataset = read_index(folder)
    parsed = parse_config({"task": "detection", "image_size": SIZE, **config})
    assert isinstance(parsed, DetectionConfig)
    return BoxedImages(dataset, dataset.split("train"), parsed, 1 << 20)


def _assert_boxes_match_objects(image: BoxedImage) -> None:
    """The colour of its class fills what is inside of each box, but for its rim."""
    for box, label in zip(image.boxes_xyxy.round().int().tolist(), image.labels_M.tolist(), strict=True):
        left, top, right, bottom = box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2
        if right > left and bottom > top:
            inside = image.image_CHW[label, top:bottom, left:right].float()
            assert inside.mean() > 150, (box, label)


# Boxes follow their images


@pytest.mark.parametrize(
    "augmentation",
    [
        {"augmentation": "none"},
        {"augmentation": "light"},
        {"augmentation": "custom", "crop": 0.5, "flip_horizontal": True, "flip_vertical": True},
    ],
)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_boxes_follow_the_augmentations_of_the_image(
    boxes_dir: Path, augmentation: dict[str, Any], share: float
) -> None:
    items = _items(boxes_dir, mosaic=share, **augmentation)
    seen = 0
    for turn in range(3):
        torch.manual_seed(turn)
        for index in range(items.sample_count):
            image = items.training_item(index)
            assert image.image_CHW.shape == (3, SIZE, SIZE)
            assert image.image_CHW.dtype == torch.uint8
            assert ((image.boxes_xyxy >= 0) & (image.boxes_xyxy <= SIZE)).all()
            sides = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]
            assert (sides >= 2).all()
            _assert_boxes_match_objects(image)
            seen += len(image.labels_M)
    assert seen > 20


def test_crowd_boxes_are_not_training_targets(boxes_dir: Path) -> None:
    items = _items(boxes_dir, augmentation="none")
    assert len(items.training_item(0).labels_M) == 0
    assert len(items.training_item(1).labels_M) == 2  # and no crowd


def test_boxes_cut_to_slivers_are_removed_with_their_labels() -> None:
    boxes = torch.tensor([[-8.0, 0, 2, 10], [-9.0, 0, 1, 10], [-7.0, 10, 1.5, 20], [10.0, 10, 20, 20]])
    kept, labels = clipped(boxes, torch.tensor([0, 1, 2, 3]), 64)
    assert labels.tolist() == [0, 3]  # a fifth is left of the first, a tenth of the second, 1.5 pixels of the third
    assert kept.tolist() == [[0, 0, 2, 10], [10, 10, 20, 20]]


def test_a_mosaic_contains_all_four_images() -> None:
    images = [
        BoxedImage(
            torch.full((3, 64, 64), 50 * (number + 1), dtype=torch.uint8),
            torch.tensor([[0.0, 0, 64, 64]]),
            torch.tensor([number]),
        )
        for number in range(4)
    ]
    torch.manual_seed(3)
    seen: set[int] = set()
    for _turn in range(20):
        made = mosaic(images)
        for box, label in zip(made.boxes_xyxy.round().int().tolist(), made.labels_M.tolist(), strict=True):
            center_x, center_y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
            assert abs(int(made.image_CHW[0, center_y, center_x]) - 50 * (label + 1)) <= 1
            seen.add(label)
    assert seen == {0, 1, 2, 3}


def _batches(folder: Path, workers: int) -> list[BoxBatch]:
    items = _items(folder, mosaic=0.5, augmentation="strong")
    train, val = (BatchSource(items, 4, seed=1, training=is_training) for is_training in (True, False))
    pool = LoaderPool(train, val, Loading(workers, 2, 0, LOADERS_CHOSEN(count=workers)), last_epoch=2)
    return list(pool.epoch(2))


def test_the_same_batches_with_and_without_processes(boxes_dir: Path) -> None:
    for here, there in zip(_batches(boxes_dir, 0), _batches(boxes_dir, 2), strict=True):
        assert torch.equal(here.images_NCHW, there.images_NCHW)
        assert torch.equal(here.boxes_NM4, there.boxes_NM4)
        assert torch.equal(here.labels_NM, there.labels_NM)
        assert here.counts == there.counts


# Networks


def _options(name: str, **values: Any) -> DetectorOptions:
    size = 288 if name == "ssd300_vgg16" else SIZE
    defaults = {"score_thresh": 0.0, "nms_thresh": 0.5, "detections_per_img": 7, "anchor_scale": 0.5}
    return DetectorOptions(**{"class_count": 3, "image_size": size, **defaults, **values})


def _build(name: str, **values: Any) -> nn.Module:
    return build_detector(name, _options(name, **values), pretrained="none", weights_from=None)


def _images_and_targets(name: str, count: int = 2) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    size = _options(name).image_size
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in range(count)]
    targets[0] = {
        "boxes": torch.tensor([[4.0, 6, 40, 44], [30.0, 20, 60, 60]]),
        "labels": torch.tensor([0, 2]) + first_label(name),
    }
    return torch.randn(count, 3, size, size), targets


def _padded(name: str, targets: list[dict[str, torch.Tensor]]) -> PaddedTargets:
    """The same targets for `detector_losses`."""
    labels = [target["labels"] - first_label(name) for target in targets]
    boxes_NM4, labels_NM = padded([target["boxes"] for target in targets], labels)
    return PaddedTargets.of(boxes_NM4, labels_NM, [len(one) for one in labels], first_label(name))


SMALL = ["pan_n", "fcos_resnet18_fpn", "retinanet_resnet18_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"]
OTHERS = ["fcos_mobilenet_v3_large_fpn", "ssdlite320_mobilenet_v3_large"]
#: One large network of each family; all of them are built in the long tests.
LARGE = ["fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2", "ssd300_vgg16"]


@pytest.mark.parametrize("name", SMALL + OTHERS)
def test_architecture_gives_losses_gradients_and_boxes(name: str) -> None:
    torch.manual_seed(0)
    model = _build(name)
    images, targets = _images_and_targets(name)
    losses = detector_losses(model.train(), images, _padded(name, targets))
    assert sorted(LOSS_NAMES[part] for part in losses) == sorted(loss_parts(name))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 20
    with torch.inference_mode():
        for found in model.eval()(images):
            assert found["boxes"].shape == (len(found["labels"]), 4)
            assert len(found["scores"]) <= 7
            assert ((found["boxes"] >= 0) & (found["boxes"] <= SIZE)).all()
            assert set(found["labels"].tolist()) <= {label + first_label(name) for label in range(3)}


@pytest.mark.parametrize("name", [*SMALL, "ssdlite320_mobilenet_v3_large"])
def test_the_validation_loss_is_that_of_training_with_fixed_norms_and_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = _build(name).eval()
    images, targets = _images_and_targets(name)
    with torch.inference_mode():
        alone = model(images)
        padded_targets = _padded(name, targets)
        before = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
        boxes, losses = boxes_and_losses(model, images, padded_targets, seed=3)
        assert_bit_equal(boxes, alone)
        assert_bit_equal((torch.get_rng_state(), model.state_dict()), before)
        assert not any(module.training or "forward" in vars(module) for module in model.modules())
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout):
                module.eval()
        torch.manual_seed(3)
        assert_bit_equal(losses, detector_losses(model, images, padded_targets))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in LARGE else pytest.mark.long)
        for name in DETECTORS
        if name not in SMALL + OTHERS
    ],
)
def test_every_architecture_can_be_built_and_finds_boxes(name: str) -> None:
    model = _build(name).eval()
    images, _targets = _images_and_targets(name, count=1)
    with torch.inference_mode():
        [found] = model(images)
    assert found["boxes"].shape == (len(found["labels"]), 4)


@pytest.mark.parametrize(
    "name",
    [
        "fcos_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "ssdlite320_mobilenet_v3_large",
    ],
)
def test_weights_have_the_names_and_shapes_of_torchvisions_own_model(name: str) -> None:
    with torch.device("meta"):
        own = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=3 + first_label(name)
        ).state_dict()
    ours = _build(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in own.items()}


def test_frozen_layers_are_those_of_the_backbone() -> None:
    prefixes = head_prefixes(_build("fcos_resnet18_fpn"))
    assert set(prefixes) == {"backbone.fpn.", "head.classification_head.", "head.regression_head."}


def test_ssd_refuses_images_too_small_for_its_maps() -> None:
    with pytest.raises(BadConfig, match="image_size"):
        _build("ssd300_vgg16", image_size=128)


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [
        ("fcos_resnet18_fpn", "backbone"),
        ("ssdlite320_mobilenet_v3_large", "whole"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "whole"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_weights_that_cannot_be_downloaded(name: str, pretrained: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"download\.pytorch\.org"):
        build_detector(name, _options(name), pretrained=pretrained, weights_from=tmp_path)


def test_small_networks_have_published_backbones_only(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="backbone"):
        build_detector("fcos_resnet18_fpn", _options(""), pretrained="whole", weights_from=tmp_path)


@pytest.mark.parametrize(
    ("name", "backbone", "key", "own_key"),
    [
        ("fcos_resnet18_fpn", "resnet18", "backbone.body.layer3.0.conv1.weight", "layer3.0.conv1.weight"),
        (
            "ssdlite320_mobilenet_v3_large",
            "mobilenet_v3_large",
            "backbone.features.0.13.0.weight",
            "features.13.block.0.0.weight",
        ),
        (
            "ssdlite320_mobilenet_v3_large",
            "mobilenet_v3_large",
            "backbone.features.1.0.1.0.weight",
            "features.13.block.1.0.weight",
        ),
    ],
)
def test_backbone_weights_from_the_cache(tmp_path: Path, name: str, backbone: str, key: str, own_key: str) -> None:
    url: str = torchvision.models.get_model_weights(backbone)["DEFAULT"].url
    source = torchvision.models.get_model(backbone, weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(source, tmp_path / "checkpoints" / url.rpartition("/")[2])
    options = _options(name, frozen_norms=True)
    state = build_detector(name, options, pretrained="backbone", weights_from=tmp_path).state_dict()
    assert torch.equal(state[key], source[own_key])


# Runs


def _task(boxes_dir: Path, run_dir: Path, **config: Any) -> Any:
    make_run_dir(run_dir, boxes_dir, **{**HARD, **config})
    order = read_run_spec(run_dir, read_config_file(run_dir))
    return make_task(order, read_index(order.dataset_dir), torch.device("cpu"))


def test_a_batch_is_drawn_with_its_boxes(boxes_dir: Path, tmp_path: Path) -> None:
    task = _task(boxes_dir, tmp_path / "run")
    images = task.draw_batch(next(task.train_batches(1, skip=0)))
    assert len(images) == 2
    assert all(image.width >= 192 for image in images)


class _Oracle(nn.Module):
    """Predicts the objects: in the pixels of the fitted image, 80 x 60 in 64 x 64."""

    def __init__(self, samples: list[Sample], label: int) -> None:
        super().__init__()
        self._samples = iter(samples)
        self._label = label

    def forward(self, images_NCHW: torch.Tensor) -> Any:
        found = []
        for _image, sample in zip(images_NCHW, self._samples, strict=False):
            corners = [(box.left, box.top, box.right, box.bottom) for box in sample.boxes if not box.crowd]
            boxes = torch.tensor(corners).view(-1, 4) * 0.8 + torch.tensor([0, 8, 0, 8])
            labels = torch.tensor([box.label for box in sample.boxes if not box.crowd], dtype=torch.int64)
            found.append({"boxes": boxes, "labels": labels + self._label, "scores": torch.ones(len(labels))})
        return found


@detector_losses.register
def _number_of_objects(model: _Oracle, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    return {"classification": targets.is_object_NM.sum().float()}


@pytest.mark.parametrize("name", ["fcos_resnet18_fpn", "fasterrcnn_resnet18_fpn"])
def test_boxes_are_evaluated_in_pixels_of_the_image(boxes_dir: Path, tmp_path: Path, name: str) -> None:
    task = _task(boxes_dir, tmp_path / "run", model=name, batch_size=5)
    meter = task.validation_meter()
    samples = read_index(boxes_dir).split("val")
    oracle = _Oracle(samples, first_label(name)).eval()
    for batch in task.val_batches():
        task.evaluate(oracle, batch, meter)
    found = task.evaluation(meter)
    assert found.values["ap"] == pytest.approx(1)
    assert found.values["f1"] == 1
    assert found.values["loss"] == sum(not box.crowd for sample in samples for box in sample.boxes)
    truth = samples[2].boxes[0]
    [label, confidence, *corners] = found.predictions[2]["boxes"][0]
    assert (label, confidence) == (truth.label, 1)
    assert corners == pytest.approx([truth.left, truth.top, truth.right, truth.bottom], abs=0.02)


def test_a_split_without_boxes_is_refused(boxes_dir: Path, tmp_path: Path) -> None:
    index = read_index(boxes_dir)
    bare = [Sample(one.path, -1, one.split, 80, 60, one.boxes if one.split == "train" else ()) for one in index.samples]
    (tmp_path / "images").symlink_to(boxes_dir / "images")
    write_index(tmp_path, name="bare", tasks=["detection"], classes=["a", "b"], fingerprint="0" * 64, samples=bare)
    with pytest.raises(BadData, match="val split"):
        _task(tmp_path, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("name", ["fcos_resnet18_fpn", "fasterrcnn_resnet18_fpn"])
def test_a_run_of_the_version_before_keeps_its_computation(
    boxes_dir: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints do not say how it computes. Losses over the batch differ from it in the last digits."""
    values = {**HARD, "model": name, "epochs": 1, "anchor_scale": 0.25}
    straight, cut, new = (make_run_dir(tmp_path / part, boxes_dir, **values) for part in ("straight", "cut", "new"))
    with monkeypatch.context() as before:
        before.setattr(DetectionTask, "latest_computation", 1)
        train_here(straight)
        assert train_here(cut, EndAfter(1)) == "paused"
    assert "computation" not in newest_content(cut)
    change_order(cut)
    train_here(cut)
    assert_same_result(cut, straight)
    assert next(event for event in events_of(cut) if event.get("state") == "resume_check")["verdict"] == "exact"
    train_here(new)
    assert newest_content(new)["computation"] == 2
    assert curves(new) != curves(straight)


@pytest.fixture(scope="session")
def straight_detection(tmp_path_factory: pytest.TempPathFactory, boxes_dir: Path) -> Path:
    """A run that was never cut. Not to be changed."""
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight_detection"), boxes_dir, **HARD)
    assert train_here(run_dir) == "completed"
    return run_dir


@pytest.mark.parametrize(
    ("workers", "workers_then", "looks"), [pytest.param(0, 2, 2, marks=pytest.mark.long), (2, 0, 5)]
)
def test_an_interrupted_run_resumes_bit_exactly(
    boxes_dir: Path, straight_detection: Path, tmp_path: Path, workers: int, workers_then: int, looks: int
) -> None:
    run_dir = make_run_dir(tmp_path / "run", boxes_dir, num_workers=workers, **HARD)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight_detection)


@pytest.mark.long
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_other_families_resume_bit_exactly(boxes_dir: Path, tmp_path: Path, name: str) -> None:
    """Faster R-CNN draws the boxes that it learns from at random."""
    values = {**HARD, "model": name, "epochs": 1, "anchor_scale": 0.25}
    straight, cut = (make_run_dir(tmp_path / part, boxes_dir, **values) for part in ("straight", "cut"))
    train_here(straight)
    assert train_here(cut, EndAfter(1)) == "paused"
    change_order(cut)
    train_here(cut)
    assert_same_result(cut, straight)


def test_a_run_writes_its_evaluations(straight_detection: Path) -> None:
    assert last_status(straight_detection)["state"] == "completed"
    content = read_evaluation(straight_detection, 2)
    assert content
    assert content["task"] == "detection"
    assert {"loss", "ap", "ap50", "ap75", "ar", "f1"} <= content["values"].keys()
    assert len(content["confusion"]["names"]) == 3
    assert set(content["predictions"]) == {str(index) for index in range(5)}
    assert json.dumps(content)


def test_mixed_precision_trains(boxes_dir: Path, tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path / "run", boxes_dir, **{**HARD, "amp": "on", "epochs": 1})
    assert train_here(run_dir) == "completed"


def test_pycocotools_is_imported_only_when_needed() -> None:
    code = "import sys, trainingapp.engine.loop; print('faster_coco_eval' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
