"""The fast detector of our own: its loss against plain arithmetic, and its assignment on small cases made by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, complete_box_iou_loss

from trainingapp.contract.errors import BadConfig
from trainingapp.contract.prediction import Prepared, candidates, suppressed
from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.detection.losses.task_aligned import (
    ALPHA,
    BETA,
    BOX_WEIGHT,
    CELLS_OF_AN_OBJECT,
    CLASS_WEIGHT,
    DISTRIBUTION_WEIGHT,
    assigned,
    complete_iou_losses,
    distribution_losses,
    head_losses,
    sides_in_strides,
)
from trainingapp.engine.tasks.detection.networks import DetectorOptions, build_detector
from trainingapp.engine.tasks.detection.pan import BINS, SIZES, Cells, PanDetector, distances_to_boxes, first_stride
from trainingapp.engine.tasks.detection.plain_outputs import plain_detector

CLASSES = 3


def _detector(name: str = "pan_n", scale: float = 1.0) -> PanDetector:
    options = DetectorOptions(CLASSES, 64, 0.0, 0.5, 7, scale)
    model = build_detector(name, options, pretrained="none", weights_from=None)
    assert isinstance(model, PanDetector)
    return model


def _targets(*images: list[tuple[int, list[float]]]) -> PaddedTargets:
    """The objects of each image as (label, box)."""
    boxes = [torch.tensor([box for _label, box in one]).view(-1, 4) for one in images]
    labels = [torch.tensor([label for label, _box in one], dtype=torch.int64) for one in images]
    boxes_NM4, labels_NM = padded(boxes, labels)
    return PaddedTargets.of(boxes_NM4, labels_NM, [len(one) for one in images], 0)


def _row(*strides: int, side: int = 64) -> torch.Tensor:
    """The cells of a square image."""
    return Cells(strides).of([torch.zeros(1, 1, side // stride, side // stride) for stride in strides])


# Cells and network


def test_cells_fill_the_image_level_by_level() -> None:
    cells = _row(16, 32)
    assert cells.shape == (16 + 4, 4)
    assert cells[1].tolist() == [16, 0, 32, 16]
    assert cells[-1].tolist() == [32, 32, 64, 64]
    assert ((cells[:16, 2:] - cells[:16, :2]).prod(dim=1).sum()) == 64 * 64


@pytest.mark.parametrize(("scale", "stride"), [(0.25, 4), (0.5, 4), (0.7, 4), (0.75, 8), (1.0, 8), (4.0, 8)])
def test_the_anchor_scale_determines_the_finest_stride(scale: float, stride: int) -> None:
    assert first_stride(scale) == stride


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_every_parameter_has_a_gradient(scale: float) -> None:
    torch.manual_seed(0)
    model = _detector(scale=scale).train()
    # Of every level's size, so that each has cells that are to find an object.
    targets = _targets(
        [(0, [2.0, 2, 62, 62]), (2, [30.0, 20, 54, 44])], [(1, [8.0, 8, 20, 20]), (1, [30.0, 30, 36, 36])]
    )
    losses = detector_losses(model, torch.randn(2, 3, 64, 64), targets)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_sizes_differ() -> None:
    counts = [sum(parameter.numel() for parameter in _detector(name).parameters()) for name in SIZES]
    assert counts == sorted(set(counts))


def test_there_are_no_published_weights() -> None:
    options = DetectorOptions(CLASSES, 64, 0.0, 0.5, 7, 1.0)
    for pretrained in ("whole", "backbone"):
        with pytest.raises(BadConfig, match="pan_n"):
            build_detector("pan_n", options, pretrained=pretrained, weights_from=Path())


def test_distances_and_boxes_are_inverse() -> None:
    cells = _row(16)
    boxes = torch.tensor([[3.0, 5.0, 41.0, 60.0]]).expand(1, len(cells), 4)
    torch.testing.assert_close(distances_to_boxes(sides_in_strides(boxes, cells), cells), boxes)


def test_the_mean_of_the_bins_is_the_distance() -> None:
    model = _detector().eval()
    with torch.inference_mode():
        found = model.head(list(model.backbone(torch.randn(1, 3, 64, 64)).values()))
    expected = (found["bbox_bins"].softmax(dim=-1) * torch.arange(BINS)).sum(dim=-1)
    torch.testing.assert_close(found["bbox_regression"], expected)


def test_detections_are_sorted_and_suppressed_within_their_class() -> None:
    torch.manual_seed(1)
    model = _detector().eval()
    with torch.inference_mode():
        [found] = model(torch.randn(1, 3, 64, 64))
    assert len(found["scores"]) == 7
    assert (found["scores"].diff() <= 0).all()
    for label in found["labels"].unique():
        boxes = found["boxes"][found["labels"] == label]
        assert (box_iou(boxes, boxes) - torch.eye(len(boxes))).max() <= 0.5


def test_what_others_use_finds_the_same() -> None:
    """The plain network, with the suppression that predictions and exports have."""
    torch.manual_seed(1)
    model = _detector().eval()
    for branch in model.head.classes:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)  # type: ignore[index, arg-type]
        torch.nn.init.zeros_(branch[-1].bias)  # type: ignore[index, arg-type]
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        [found] = model(images)
        boxes, scores = (tensor.numpy() for tensor in plain_detector(model, 64)(images))
    whole = Prepared(np.zeros(0, np.float32), 64, 64, 0, 0, 64, 64)
    rows = suppressed(candidates(boxes, scores, whole, 0.02), 0.5, 7)
    assert len(rows) == 7
    assert [row[0] for row in rows] == found["labels"].tolist()
    np.testing.assert_allclose([row[1] for row in rows], found["scores"].numpy(), atol=1e-5)
    np.testing.assert_allclose([row[2:] for row in rows], found["boxes"].numpy(), atol=1e-3)


# Loss


def test_complete_iou_is_torchvisions() -> None:
    torch.manual_seed(0)
    corners = torch.rand(2, 50, 2) * 40
    one, other = torch.cat([corners, corners + 1 + torch.rand(2, 50, 2) * 30], dim=2)
    one.requires_grad_(True)
    found = complete_iou_losses(one, other)
    torch.testing.assert_close(found, complete_box_iou_loss(one, other))
    [ours] = torch.autograd.grad(found.sum(), one)
    [theirs] = torch.autograd.grad(complete_box_iou_loss(one, other).sum(), one)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("distance", "weights"), [(2.25, {2: 0.75, 3: 0.25}), (0.0, {0: 1.0}), (99.0, {BINS - 1: 1.0}), (-3.0, {0: 1.0})]
)
def test_the_two_bins_beside_a_distance_share_it(distance: float, weights: dict[int, float]) -> None:
    torch.manual_seed(0)
    bins = torch.randn(BINS)
    logs = bins - bins.exp().sum().log()
    expected = -sum(weight * float(logs[number]) for number, weight in weights.items())
    assert float(distribution_losses(bins, torch.tensor(distance))) == pytest.approx(expected, abs=1e-5)


def _plain_assignment(
    scores_AC: torch.Tensor, found_A4: torch.Tensor, cells_A4: torch.Tensor, objects: list[tuple[int, list[float]]]
) -> dict[int, tuple[int, float]]:
    """The same for one image, object by object: of each chosen cell the object and the score that it is to give."""
    claims: dict[int, list[tuple[float, int, float]]] = {}
    for number, (label, box) in enumerate(objects):
        overlap = box_iou(torch.tensor([box]), found_A4)[0]
        inside = []
        for cell in range(len(cells_A4)):
            x, y = (float(cells_A4[cell, side] + cells_A4[cell, side + 2]) / 2 for side in (0, 1))
            if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                inside.append((float(scores_AC[cell, label]) ** ALPHA * float(overlap[cell]) ** BETA, cell))
        for worth, cell in sorted(inside, reverse=True)[:CELLS_OF_AN_OBJECT]:
            claims.setdefault(cell, []).append((float(overlap[cell]), number, worth))
    chosen = {cell: max(found) for cell, found in claims.items()}
    result = {}
    for cell, (_overlap, number, worth) in chosen.items():
        of_object = [(value, one) for one, other, value in chosen.values() if other == number]
        largest, best = max(value for value, _one in of_object), max(one for _value, one in of_object)
        result[cell] = (number, worth / largest * best)
    return result


@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_that_of_a_plain_one(seed: int) -> None:
    torch.manual_seed(seed)
    cells = _row(8, 16, 32)
    objects = [(seed % CLASSES, [3.0, 6, 43, 44]), (1, [20.0, 18, 62, 60]), (2, [40.0, 2, 60, 21])]
    scores = torch.rand(2, len(cells), CLASSES)
    found = distances_to_boxes(torch.rand(2, len(cells), 4) * 3 + 0.2, cells)
    wanted = assigned(scores, found, cells, _targets(objects, objects[1:]))
    for image, own in enumerate((objects, objects[1:])):
        expected = _plain_assignment(scores[image], found[image], cells, own)
        assert set(torch.where(wanted.weights_NA[image] > 0)[0].tolist()) == {
            cell for cell, (_number, score) in expected.items() if score > 1e-9
        }
        for cell, (number, score) in expected.items():
            label, box = own[number]
            assert float(wanted.weights_NA[image, cell]) == pytest.approx(score, rel=1e-4, abs=1e-9)
            assert float(wanted.scores_NAC[image, cell, label]) == pytest.approx(score, rel=1e-4, abs=1e-9)
            assert wanted.boxes_NA4[image, cell].tolist() == box
        assert torch.equal(wanted.scores_NAC[image].sum(dim=-1), wanted.weights_NA[image])


def _exact_boxes(cells: torch.Tensor, box: list[float]) -> torch.Tensor:
    return torch.tensor(box).expand(1, len(cells), 4)


def test_the_cell_that_two_objects_want_finds_the_one_that_it_overlaps_more() -> None:
    cells = _row(32)
    one, other = [0.0, 0, 64, 40], [0.0, 0, 64, 64]
    scores = torch.full((1, len(cells), CLASSES), 0.5)
    wanted = assigned(scores, _exact_boxes(cells, one), cells, _targets([(0, one), (1, other)]))
    assert wanted.scores_NAC[0, 0].tolist() == [1, 0, 0]  # in both; its box is that of the first
    assert wanted.scores_NAC[0, 2].tolist() == [0, pytest.approx(40 / 64), 0]  # its center is in the second only


def test_only_the_best_cells_of_an_object_count_and_padding_never() -> None:
    cells = _row(4)
    box = [0.0, 0, 64, 64]
    scores = torch.linspace(0.1, 0.9, len(cells))[None, :, None].expand(1, -1, CLASSES)
    wanted = assigned(scores, _exact_boxes(cells, box), cells, _targets([(1, box)]))
    chosen = torch.where(wanted.weights_NA[0] > 0)[0].tolist()
    assert chosen == list(range(len(cells) - CELLS_OF_AN_OBJECT, len(cells)))
    assert float(wanted.weights_NA.max()) == pytest.approx(1)
    empty = assigned(scores, _exact_boxes(cells, box), cells, _targets([]))
    assert float(empty.weights_NA.sum()) == 0
    assert float(empty.scores_NAC.sum()) == 0


def test_an_object_between_the_centers_of_the_cells_has_one() -> None:
    cells = _row(8)
    box = [7.0, 7.0, 9.5, 9.5]  # the centers are at 4 and 12
    scores = torch.full((1, len(cells), CLASSES), 0.5)
    wanted = assigned(scores, _exact_boxes(cells, box), cells, _targets([(0, box)]))
    assert torch.where(wanted.weights_NA[0] > 0)[0].tolist() == [9]


def test_the_parts_of_the_loss_are_sums_over_cells_divided_by_their_scores() -> None:
    torch.manual_seed(2)
    cells = _row(16, 32)
    objects = [(0, [3.0, 6, 43, 44]), (2, [20.0, 18, 62, 60])]
    targets = _targets(objects)
    bins = torch.randn(1, len(cells), 4, BINS)
    distances = (bins.softmax(dim=-1) * torch.arange(BINS)).sum(dim=-1)
    logits = torch.randn(1, len(cells), CLASSES)
    found = head_losses({"cls_logits": logits, "bbox_bins": bins, "bbox_regression": distances}, cells, targets)
    boxes = distances_to_boxes(distances, cells)[0]
    chosen = _plain_assignment(logits[0].sigmoid(), boxes, cells, objects)
    total = max(1.0, sum(score for _number, score in chosen.values()))
    expected = dict.fromkeys(found, 0.0)
    for cell in range(len(cells)):
        number, score = chosen.get(cell, (0, 0.0))
        label, box = objects[number]
        for other in range(CLASSES):
            chance, wanted = float(logits[0, cell, other].sigmoid()), score if other == label else 0.0
            expected["classification"] -= wanted * math.log(chance) + (1 - wanted) * math.log(1 - chance)
        own, truth = boxes[cell : cell + 1], torch.tensor([box])
        expected["bbox_regression"] += score * float(complete_box_iou_loss(own, truth))
        sides = sides_in_strides(truth[None], cells[cell : cell + 1])[0, 0]
        expected["bbox_distribution"] += score * float(distribution_losses(bins[0, cell], sides).mean())
    weights = {
        "classification": CLASS_WEIGHT,
        "bbox_regression": BOX_WEIGHT,
        "bbox_distribution": DISTRIBUTION_WEIGHT,
    }
    assert list(found) == list(weights)
    for name, weight in weights.items():
        assert float(found[name]) == pytest.approx(weight * expected[name] / total, rel=1e-4), name


def test_images_in_groups_give_what_they_give_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainingapp.engine.tasks.detection.losses import matching

    torch.manual_seed(3)
    cells = _row(16)
    targets = _targets([(0, [3.0, 6, 43, 44])], [], [(1, [0.0, 0, 30, 30]), (2, [9.0, 9, 60, 60])])
    scores = torch.rand(3, len(cells), CLASSES)
    found = distances_to_boxes(torch.rand(3, len(cells), 4) * 3, cells)
    together = assigned(scores, found, cells, targets)
    monkeypatch.setattr(matching, "MOST_PAIRS", 1)
    apart = assigned(scores, found, cells, targets)
    for one, other in zip(vars(together).values(), vars(apart).values(), strict=True):
        assert torch.equal(one, other)
