"""Instance segmentation: masks follow their images, losses are torchvision's, and runs resume bit-exact."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection.roi_heads import maskrcnn_loss

from tests.helpers.images import make_run_dir
from tests.helpers.outlined import HEIGHT, WIDTH, make_outlined
from tests.helpers.synchronizations import SynchronizingOperations, same_draws
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, train_here
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, read_index, write_index
from trainingapp.contract.errors import BadConfig, BadData, WeightsUnavailable
from trainingapp.contract.evaluation import read_evaluation
from trainingapp.contract.loading import Loading
from trainingapp.contract.messages.loading import LOADERS_CHOSEN
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.contract.run_lengths import decoded, read_outlines
from trainingapp.contract.tasks.instances import INSTANCE_NETWORKS, InstancesConfig
from trainingapp.engine.data.batches import BatchSource, LoaderPool
from trainingapp.engine.data.images import letterbox
from trainingapp.engine.tasks.detection.data import LEAST_SHARE_SEEN
from trainingapp.engine.tasks.detection.losses import detector_losses, proposals
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets
from trainingapp.engine.tasks.detection.networks import LOSS_NAMES, DetectorOptions, head_prefixes, loss_parts
from trainingapp.engine.tasks.instances import losses as losses_module
from trainingapp.engine.tasks.instances.data import (
    InstanceBatch,
    InstanceImage,
    InstanceImages,
    Objects,
    enclosing,
    fitted_mask,
    nothing,
    pasted,
    targets_of,
)
from trainingapp.engine.tasks.instances.losses import MaskTargets, mask_goals, packed, unpacked
from trainingapp.engine.tasks.instances.networks import build_instance_network
from trainingapp.engine.tasks.registry import make_task

SIZE = 64
SMALL = "maskrcnn_resnet18_fpn"

#: Everything random is on.
HARD = {
    "task": "instances",
    "model": SMALL,
    "image_size": SIZE,
    "batch_size": 2,
    "accumulation_steps": 2,
    "epochs": 2,
    "anchor_scale": 0.25,
    "mosaic": 0.5,
    "mosaic_close_epochs": 1,
    "copy_paste": 0.5,
    "multi_scale": 0.5,
    "augmentation": "medium",
    "ema_decay": 0.9,
    "gradient_clip": 5.0,
    "amp": "off",
}


@pytest.fixture(scope="session")
def outlined_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return make_outlined(tmp_path_factory.mktemp("outlined"))


def _items(folder: Path, **config: Any) -> InstanceImages:
    dataset = read_index(folder)
    parsed = parse_config({"task": "instances", "image_size": SIZE, **config})
    assert isinstance(parsed, InstancesConfig)
    return InstanceImages(dataset, dataset.split("train"), parsed, 1 << 20)


# Masks follow their images


@pytest.mark.parametrize(
    "augmentation",
    [
        {"augmentation": "none"},
        {"augmentation": "light"},
        {"augmentation": "custom", "crop": 0.5, "flip_horizontal": True, "flip_vertical": True},
    ],
)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_follow_the_augmentations_of_the_image(
    outlined_dir: Path, augmentation: dict[str, Any], share: float
) -> None:
    items = _items(outlined_dir, mosaic=share, **augmentation)
    seen = 0
    for turn in range(3):
        torch.manual_seed(turn)
        for index in range(items.sample_count):
            image = items.training_item(index)
            assert image.image_CHW.shape == (3, SIZE, SIZE)
            masks = image.objects.masks()
            assert masks.shape == (len(image.objects.labels_M), SIZE, SIZE)
            seen += _check_colours(image, masks)
    assert seen > 20


def _check_colours(image: InstanceImage, masks: torch.Tensor) -> int:
    """The colour of its class fills each mask, whose pixels lie in its box. How many were checked."""
    objects, checked = image.objects, 0
    for box, label, mask_HW in zip(objects.boxes_xyxy, objects.labels_M.tolist(), masks, strict=True):
        rows, columns = (mask_HW.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
        left, top, right, bottom = box.tolist()
        # Scaled twice at most, each time to the nearest pixel.
        assert left - 2 <= columns[0]
        assert columns[-1] <= right + 1
        assert top - 2 <= rows[0]
        assert rows[-1] <= bottom + 1
        if len(masks) == 1:  # another object may cover it
            inside = image.image_CHW[label][mask_HW.bool()].float()
            outside = image.image_CHW[label][~mask_HW.bool()].float()
            assert inside.mean() > 170
            assert outside.mean() < 130
            checked += 1
    return checked or len(masks)


def test_a_mosaic_keeps_the_objects_of_its_images_apart(outlined_dir: Path) -> None:
    items = _items(outlined_dir, mosaic=1.0, augmentation="none")
    torch.manual_seed(0)
    for index in range(items.sample_count):
        objects = items.training_item(index).objects
        for box, mask_HW in zip(objects.boxes_xyxy.round().int().tolist(), objects.masks(), strict=True):
            around = mask_HW.clone()
            around[max(0, box[1] - 1) : box[3] + 1, max(0, box[0] - 1) : box[2] + 1] = 0
            assert not around.any()


def test_crowds_are_no_targets(outlined_dir: Path) -> None:
    items = _items(outlined_dir, augmentation="none")
    assert len(items.training_item(0).objects.labels_M) == 0
    assert len(items.training_item(1).objects.labels_M) == 2


def test_a_mask_is_scaled_as_its_image() -> None:
    mask_HW = np.zeros((300, 400), dtype=np.bool_)
    mask_HW[40:200, 100:360] = True
    fitted = fitted_mask(mask_HW, letterbox(400, 300, 64), 64)
    rows, columns = fitted.any(dim=1).nonzero()[:, 0].tolist(), fitted.any(dim=0).nonzero()[:, 0].tolist()
    assert (rows[0], rows[-1] + 1) == (8 + 6, 8 + 32)  # 0.16 of 40 and of 200, below 8 rows of padding
    assert (columns[0], columns[-1] + 1) == (16, 58)
    assert 26 * 42 - 4 <= fitted.sum() <= 26 * 42  # corners may be rounded
    whole = fitted_mask(mask_HW[:300, :300], letterbox(300, 300, 300), 300)
    assert np.array_equal(whole.numpy().astype(bool), mask_HW[:300, :300])


def test_many_objects_share_planes_of_bits() -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 2, (19, 5, 7), dtype=torch.uint8)
    planes = packed(masks)
    assert planes.shape == (3, 5, 7)
    assert torch.equal(unpacked(planes, torch.arange(19)), masks)
    assert torch.equal(unpacked(planes, torch.tensor([18, 3])), masks[[18, 3]])


# Objects of other images


def _filled(value: int, objects: Objects) -> InstanceImage:
    return InstanceImage(torch.full((3, SIZE, SIZE), value, dtype=torch.uint8), objects)


def test_pasted_objects_cut_the_masks_of_those_they_cover() -> None:
    """Each pixel of the result belongs to the object that is seen there, and boxes enclose what is left of masks."""
    own = _objects([[10, 10, 18, 18], [0, 0, 64, 64]], [0, 0])
    other = _objects([[4, 6, 40, 44], [30, 20, 60, 60], [2, 40, 20, 62]], [1, 2, 2])
    whole = [int(area) for area in own.masks().flatten(1).sum(1)]
    theirs = sorted(int(area) for area in other.masks().flatten(1).sum(1))
    cut = dropped = 0
    for seed in range(40):
        torch.manual_seed(seed)
        image = _filled(50, own)
        found = pasted(image, _filled(200, other))
        assert torch.equal(image.image_CHW, torch.full((3, SIZE, SIZE), 50, dtype=torch.uint8))
        assert torch.equal(own.masks(), image.objects.masks())  # what is stored is not changed
        masks, labels = found.objects.masks(), found.objects.labels_M
        pasted_HW = found.image_CHW[0] == 200
        assert not (masks[labels == 0].bool() & pasted_HW).any()
        assert (masks[labels > 0].sum(0) <= 1).all()
        assert not (masks[labels > 0].bool() & ~pasted_HW).any()
        for mask_HW, box, label in zip(masks, found.objects.boxes_xyxy, labels.tolist(), strict=True):
            rows, columns = (mask_HW.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
            enclosed = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
            assert box.tolist() == enclosed
            area = int(mask_HW.sum())
            original = whole if label == 0 else theirs
            assert any(area >= LEAST_SHARE_SEEN * one for one in original)
            cut += area not in original
        small = own.masks()[0].bool()
        left = int((small & ~pasted_HW).sum())
        is_kept = any(torch.equal(one.bool(), small & ~pasted_HW) for one in masks[labels == 0])
        assert is_kept == (left >= LEAST_SHARE_SEEN * whole[0])
        dropped += not is_kept
    assert cut
    assert dropped


def test_objects_are_pasted_whole_into_an_image_without_any() -> None:
    other = _objects([[4, 6, 40, 44]], [1])
    counts = set()
    for seed in range(8):
        torch.manual_seed(seed)
        found = pasted(_filled(50, nothing(SIZE)), _filled(200, other))
        counts.add(len(found.objects.labels_M))
        assert int((found.image_CHW[0] == 200).sum()) == len(found.objects.labels_M) * int(other.masks().sum())
        assert torch.equal(found.objects.masks().sum(0).bool(), found.image_CHW[0] == 200)
    assert counts == {0, 1}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_of_pasted_objects_follow_augmentations(outlined_dir: Path, share: float) -> None:
    plain = {"augmentation": "custom", "flip_horizontal": True, "flip_vertical": True, "mosaic": share}
    items, more = (_items(outlined_dir, copy_paste=part, **plain) for part in (0.0, 1.0))
    counts = [0, 0]
    for index in range(items.sample_count):
        for place, source in enumerate((items, more)):
            torch.manual_seed(index)
            image = source.training_item(index)
            _check_colours(image, image.objects.masks())
            counts[place] += len(image.objects.labels_M)
    assert counts[1] > counts[0]


# Sizes of steps


def _source(folder: Path, **config: Any) -> BatchSource[InstanceImage, InstanceBatch]:
    return BatchSource(_items(folder, augmentation="none", **config), 4, seed=1, training=True)


def test_boxes_and_masks_are_scaled_with_their_images(outlined_dir: Path) -> None:
    source, plain = _source(outlined_dir, multi_scale=0.5), _source(outlined_dir)
    sides = set()
    for epoch in range(1, 7):
        batch, same = source[epoch, 1], plain[epoch, 1]
        assert isinstance(batch, InstanceBatch)
        assert isinstance(same, InstanceBatch)
        side = batch.images_NCHW.shape[-1]
        assert batch.planes_PHW.shape[1:] == (side, side)
        assert batch.counts == same.counts
        torch.testing.assert_close(batch.boxes_NM4, same.boxes_NM4 * (side / SIZE))
        if side == SIZE:
            assert torch.equal(batch.images_NCHW, same.images_NCHW)
            assert torch.equal(batch.planes_PHW, same.planes_PHW)
        for (boxes, _labels), ours, theirs in zip(batch.by_image(), batch.places_NM, same.places_NM, strict=True):
            masks, before = unpacked(batch.planes_PHW, ours), unpacked(same.planes_PHW, theirs)
            for box, mask_HW, before_HW in zip(boxes, masks, before, strict=False):
                # The pixel of the mask before that lies below the center of each of its pixels.
                centers = ((torch.arange(side) + 0.5) * SIZE / side).long()
                assert torch.equal(mask_HW, before_HW[centers][:, centers])
                # Rounded twice, each time by half a pixel: when the image was fitted, and now.
                assert ((enclosing(mask_HW[None])[0] - box).abs() <= 0.5 + side / SIZE).all()
        sides.add(side)
    assert sides == {32, 64, 96}


def test_an_object_that_becomes_too_small_is_dropped() -> None:
    objects = _objects([[10, 10, 13, 13], [0, 0, 40, 40]], [1, 0])
    targets = targets_of([objects, _objects([], [])], 0)
    batch = InstanceBatch(
        torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8),
        targets.boxes_NM4,
        targets.labels_NM,
        (2, 0),
        torch.arange(2),
        targets.planes_PHW,
        targets.places_NM,
    )
    found = batch.resized(32)
    assert found.counts == (1, 0)
    assert found.by_image()[0][0].tolist() == [[0, 0, 20, 20]]
    assert found.by_image()[0][1].tolist() == [0]
    kept = unpacked(found.planes_PHW, found.places_NM[0])
    assert enclosing(kept).tolist() == [[0, 0, 20, 20]]
    assert [part.shape[1] for part in (found.boxes_NM4, found.labels_NM, found.places_NM)] == [1] * 3
    assert tuple(found.resized(SIZE).targets(1).counts) == (1, 0)
    assert batch.resized(SIZE) is batch


def _batches(folder: Path, workers: int) -> list[InstanceBatch]:
    items = _items(folder, mosaic=0.5, copy_paste=0.5, multi_scale=0.5, augmentation="strong")
    train, val = (BatchSource(items, 4, seed=1, training=is_training) for is_training in (True, False))
    pool = LoaderPool(train, val, Loading(workers, 2, 0, LOADERS_CHOSEN(count=workers)), last_epoch=2)
    return list(pool.epoch(2))


def test_the_same_batches_with_and_without_processes(outlined_dir: Path) -> None:
    for here, there in zip(_batches(outlined_dir, 0), _batches(outlined_dir, 2), strict=True):
        for name in ("images_NCHW", "boxes_NM4", "labels_NM", "planes_PHW", "places_NM"):
            assert torch.equal(getattr(here, name), getattr(there, name)), name
        assert here.counts == there.counts


# Networks and losses


def _build(name: str, **values: Any) -> nn.Module:
    defaults = {"score_thresh": 0.0, "nms_thresh": 0.5, "detections_per_img": 7, "anchor_scale": 0.25}
    options = DetectorOptions(**{"class_count": 3, "image_size": SIZE, **defaults, **values})
    return build_instance_network(name, options, pretrained="none", weights_from=None)


def _objects(boxes: Sequence[Sequence[int]], labels: Sequence[int]) -> Objects:
    """Ellipses in these boxes."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    masks = [
        ((2 * x - box[0] - box[2]) / (box[2] - box[0])) ** 2 + ((2 * y - box[1] - box[3]) / (box[3] - box[1])) ** 2 <= 1
        for box in boxes
    ]
    planes = packed(torch.from_numpy(np.array(masks, dtype=np.uint8).reshape(-1, SIZE, SIZE)))
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return Objects(corners, torch.tensor(labels, dtype=torch.int64), planes, torch.arange(len(labels)))


def _targets(*, empty: bool = False) -> MaskTargets:
    some = _objects([[4, 6, 40, 44], [30, 20, 60, 60], [2, 40, 20, 62]], [0, 2, 1])
    return targets_of([_objects([], []) if empty else some, _objects([], []), some], 1)


@pytest.mark.parametrize("name", [name for name in INSTANCE_NETWORKS if "resnet50" not in name])
def test_every_parameter_of_a_small_network_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = _build(name)
    found = detector_losses(model.train(), torch.randn(3, 3, SIZE, SIZE), _targets())
    assert sorted(LOSS_NAMES[part] for part in found) == sorted(loss_parts(name))
    assert all(torch.isfinite(loss) for loss in found.values())
    torch.stack(list(found.values())).sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        # Batch norm takes away what a bias adds; of the rest, no part is out of reach.
        assert parameter.grad.abs().max() > 0, path


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in INSTANCE_NETWORKS if "resnet50" in name])
def test_every_large_network_trains_and_finds_masks(name: str) -> None:
    torch.manual_seed(0)
    model = _build(name)
    found = detector_losses(model.train(), torch.randn(3, 3, SIZE, SIZE), _targets())
    torch.stack(list(found.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.inference_mode():
        [one] = model.eval()(torch.randn(1, 3, SIZE, SIZE))
    assert one["masks"].shape == (len(one["labels"]), 1, 28, 28)


@pytest.mark.parametrize("name", [name for name in INSTANCE_NETWORKS if "resnet50" in name])
def test_weights_have_the_names_and_shapes_of_torchvisions_own_model(name: str) -> None:
    with torch.device("meta"):
        own = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4).state_dict()
        ours = _build(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in own.items()}
    parameters = torchvision.models.get_model_weights(name)["DEFAULT"].meta["num_params"]
    assert INSTANCE_NETWORKS[name].parameters == parameters


@pytest.mark.parametrize("name", [SMALL, "maskrcnn_mobilenet_v3_large_fpn"])
@pytest.mark.parametrize("empty", [False, True])
def test_losses_and_gradients_equal_those_of_torchvision(name: str, empty: bool) -> None:
    """In evaluation mode of the norms, which the two see in another order of regions."""
    torch.manual_seed(0)
    model = _build(name).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    images, targets = torch.randn(3, 3, SIZE, SIZE), _targets(empty=empty)
    with same_draws():
        expected = model(images, targets.by_image())
        found = detector_losses(model, images, targets)
    assert found.keys() == expected.keys()
    for part, loss in expected.items():
        torch.testing.assert_close(
            found[part], loss, rtol=1e-5, atol=1e-6, msg=lambda text, part=part: f"{part} {text}"
        )
    wanted = list(model.parameters())
    ours, theirs = (torch.autograd.grad(sum(each.values()), wanted, allow_unused=True) for each in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_without_an_object_the_mask_loss_is_zero_and_has_a_gradient() -> None:
    model = _build(SMALL).train()
    nothing = targets_of([_objects([], []), _objects([], [])], 1)
    found = detector_losses(model, torch.randn(2, 3, SIZE, SIZE), nothing)
    assert found["loss_mask"].tolist() == 0
    torch.stack(list(found.values())).sum().backward()
    gradients = [parameter.grad for parameter in model.roi_heads.mask_head.parameters()]  # type: ignore[union-attr]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_goals_are_those_of_torchvision_and_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = _objects([[4, 6, 40, 44], [30, 20, 60, 60]], [0, 1])
    boxes = torch.tensor([[3.0, 5, 41, 40], [28.0, 22, 61, 58], [10.0, 10, 30, 30]])
    places, regions = torch.tensor([0, 1, 0]), torch.cat([torch.zeros(3, 1), boxes], dim=1)
    found = mask_goals(objects.planes_PHW, places, regions, 28)
    # By its loss: with these as logits, all others being zero.
    logits = torch.randn(3, 2, 28, 28)
    labels = [torch.ones(3, dtype=torch.int64)]
    expected = maskrcnn_loss(logits, [boxes], [objects.masks()], labels, [torch.tensor([0, 1, 0])])
    own = nn.functional.binary_cross_entropy_with_logits(logits[:, 1], found)
    torch.testing.assert_close(own, expected)
    monkeypatch.setattr(losses_module, "MOST_PIXELS", 1)
    assert torch.equal(mask_goals(objects.planes_PHW, places, regions, 28), found)


def test_no_operation_waits_for_the_device_more_than_in_faster_rcnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "is_waited_for", lambda device: True)
    model, images, targets = _build(SMALL).train(), torch.randn(3, 3, SIZE, SIZE), _targets()
    detector_losses(model, images, targets)  # makes the anchors
    with SynchronizingOperations() as operations:
        sum(detector_losses(model, images, targets).values()).backward()
    assert operations.counts.keys() == {"torchvision::nms", "tolist"}
    assert operations.total <= 4


def test_frozen_layers_are_those_of_the_backbone() -> None:
    assert {"roi_heads.mask_head.", "roi_heads.mask_predictor."} <= set(head_prefixes(_build(SMALL)))
    assert not any(prefix.startswith("backbone.body") for prefix in head_prefixes(_build(SMALL)))


@pytest.mark.usefixtures("no_network")
def test_published_weights(tmp_path: Path) -> None:
    options = DetectorOptions(3, SIZE, 0.05, 0.5, 10)
    with pytest.raises(WeightsUnavailable, match="maskrcnn_resnet50_fpn"):
        build_instance_network("maskrcnn_resnet50_fpn", options, pretrained="whole", weights_from=tmp_path)
    with pytest.raises(BadConfig, match="backbone"):
        build_instance_network(SMALL, options, pretrained="whole", weights_from=tmp_path)


# Runs


def _task(folder: Path, run_dir: Path, **config: Any) -> Any:
    make_run_dir(run_dir, folder, **{**HARD, **config})
    order = read_run_spec(run_dir, read_config_file(run_dir))
    return make_task(order, read_index(order.dataset_dir), torch.device("cpu"))


def test_a_batch_is_drawn_with_its_masks(outlined_dir: Path, tmp_path: Path) -> None:
    task = _task(outlined_dir, tmp_path / "run", augmentation="none", mosaic=0.0, batch_size=11)
    batch = next(task.train_batches(1, skip=0))
    images = task.draw_batch(batch)
    place = next(place for place, count in enumerate(batch.counts) if count)
    mask_HW = unpacked(batch.planes_PHW, batch.places_NM[place][:1])[0]
    y, x = mask_HW.nonzero()[mask_HW.sum() // 2].tolist()
    plain = batch.images_NCHW[place, :, y, x].tolist()
    assert images[place].getpixel((3 * x + 1, 3 * y + 1)) != tuple(plain)
    y, x = (mask_HW == 0).nonzero()[0].tolist()
    assert images[place].getpixel((3 * x + 1, 3 * y + 1)) == tuple(batch.images_NCHW[place, :, y, x].tolist())


class _Oracle(nn.Module):
    """Predicts the objects of the samples, with the masks of ellipses."""

    def __init__(self, samples: list[Sample]) -> None:
        super().__init__()
        self._samples = iter(samples)

    def forward(self, images_NCHW: torch.Tensor) -> Any:
        y, x = np.mgrid[:28, :28] + 0.5 - 14
        round_mm = torch.from_numpy((x**2 + y**2 <= 14.2**2).astype(np.float32))
        found = []
        for _image, sample in zip(images_NCHW, self._samples, strict=False):
            objects = [box for box in sample.boxes if not box.crowd]
            boxes = torch.tensor([(box.left, box.top, box.right, box.bottom) for box in objects]).view(-1, 4) * 0.8
            labels = torch.tensor([box.label for box in objects], dtype=torch.int64) + 1
            masks = round_mm.expand(len(objects), 1, 28, 28)
            found.append(
                {
                    "boxes": boxes + torch.tensor([0, 8, 0, 8]),
                    "labels": labels,
                    "scores": torch.ones(len(objects)),
                    "masks": masks,
                }
            )
        return found


@detector_losses.register
def _number_of_objects(model: _Oracle, images_NCHW: torch.Tensor, targets: PaddedTargets) -> dict[str, torch.Tensor]:
    assert isinstance(targets, MaskTargets)
    return {"loss_mask": targets.is_object_NM.sum().float()}


def test_masks_are_evaluated_in_pixels_of_the_image(outlined_dir: Path, tmp_path: Path) -> None:
    task = _task(outlined_dir, tmp_path / "run", batch_size=5)
    meter, samples = task.validation_meter(), read_index(outlined_dir).split("val")
    oracle = _Oracle(samples).eval()
    for batch in task.val_batches():
        task.evaluate(oracle, batch, meter)
    found = task.evaluation(meter)
    assert found.values["box_ap"] == pytest.approx(1)
    assert found.values["ap75"] == pytest.approx(1)
    assert found.values["ap"] > 0.85  # masks of 28 x 28 pixels are not exact
    assert found.values["f1"] == 1
    assert found.values["loss"] == sum(not box.crowd for sample in samples for box in sample.boxes)
    sample, made = samples[2], found.predictions[2]
    truth_HW = decoded(read_outlines(outlined_dir / sample.outlines)[0], HEIGHT, WIDTH)
    guess_HW = decoded(made["masks"][0], HEIGHT, WIDTH)
    assert len(made["masks"]) == len(made["boxes"])
    assert (truth_HW & guess_HW).sum() / (truth_HW | guess_HW).sum() > 0.85


def test_a_dataset_without_outlines_is_refused(outlined_dir: Path, tmp_path: Path) -> None:
    index = read_index(outlined_dir)
    bare = [Sample(one.path, -1, one.split, WIDTH, HEIGHT, one.boxes) for one in index.samples]
    (tmp_path / "images").symlink_to(outlined_dir / "images")
    write_index(tmp_path, name="bare", tasks=["instances"], classes=["a", "b"], fingerprint="0" * 64, samples=bare)
    with pytest.raises(BadData, match="Import the dataset again"):
        _task(tmp_path, tmp_path / "run")


def test_damaged_outlines_are_named(outlined_dir: Path, tmp_path: Path) -> None:
    folder = make_outlined(tmp_path / "data", train=3, val=2)
    (folder / "outlines/train/1.json").write_text('{"size": [60, 80], "counts": ["zz"]}')
    with pytest.raises(BadData, match=r"outlines/train/1\.json"):
        list(_task(folder, tmp_path / "run", mosaic=0.0).train_batches(1, skip=0))


@pytest.fixture(scope="session")
def straight_instances(tmp_path_factory: pytest.TempPathFactory, outlined_dir: Path) -> Path:
    """A run that was never cut. Not to be changed."""
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight_instances"), outlined_dir, **HARD)
    assert train_here(run_dir) == "completed"
    return run_dir


@pytest.mark.parametrize(
    ("workers", "workers_then", "looks"), [pytest.param(0, 2, 2, marks=pytest.mark.long), (2, 0, 5)]
)
def test_an_interrupted_run_resumes_bit_exactly(
    outlined_dir: Path, straight_instances: Path, tmp_path: Path, workers: int, workers_then: int, looks: int
) -> None:
    run_dir = make_run_dir(tmp_path / "run", outlined_dir, num_workers=workers, **HARD)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight_instances)


def test_a_run_writes_its_evaluations(straight_instances: Path) -> None:
    content = read_evaluation(straight_instances, 2)
    assert content
    assert content["task"] == "instances"
    assert {"loss", "ap", "ap50", "ap75", "box_ap", "box_ap50", "f1"} <= content["values"].keys()
    assert len(content["confusion"]["names"]) == 3
    assert all(len(made["masks"]) == len(made["boxes"]) for made in content["predictions"].values())
    assert json.dumps(content)


def test_mixed_precision_trains(outlined_dir: Path, tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path / "run", outlined_dir, **{**HARD, "amp": "on", "epochs": 1})
    assert train_here(run_dir) == "completed"
