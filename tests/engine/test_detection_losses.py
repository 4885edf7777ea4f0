"""Losses of detectors over a batch: those of torchvision, without an operation that waits for a GPU."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou

from tests.helpers.synchronizations import SynchronizingOperations, same_draws
from trainingapp.engine.tasks.detection.losses import detector_losses, matching, proposals
from trainingapp.engine.tasks.detection.losses.anchors import anchors_of
from trainingapp.engine.tasks.detection.losses.matching import by_overlap, by_overlap_with_owners, image_groups, matched
from trainingapp.engine.tasks.detection.losses.sampling import balanced_samples
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.detection.networks import KeptSize, keep_anchors_in_float32

CASES = 200
SIZE = 64
CLASSES = 3
CHANNELS = 3
SIDES = (8, 4, 2, 1)
"""Of the feature maps."""


class _Given(nn.Module):
    """Stands for a part whose work is not of interest: returns what it was given, as a backbone or a head would."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.output: Any = None

    def forward(self, *inputs: object) -> Any:
        return self.output


@dataclass(frozen=True)
class Family:
    """A model of torchvision without layers before its losses, and how its outputs are drawn."""

    model: Any
    first_label: int
    draw: Callable[[int, float], list[torch.Tensor]]
    """(images, spread) to leaves with a gradient, which the model then uses as its outputs."""


def _dense(model: Any, first_label: int, *, classes: int, codes_are_positive: bool = False) -> Family:
    """A family with one head, which gives logits and codes for each anchor."""

    def draw(images: int, spread: float) -> list[torch.Tensor]:
        maps = OrderedDict((str(side), torch.zeros(images, CHANNELS, side, side)) for side in SIDES)
        model.backbone.output = maps
        places = model.anchor_generator.num_anchors_per_location()
        anchors = sum(side * side * each for side, each in zip(SIDES, places, strict=True))
        logits, codes, centers = (spread * torch.randn(images, anchors, last) for last in (classes, 4, 1))
        outputs = {
            # Half of the cases start as training does: with small chances for all classes.
            "cls_logits": logits - 4.6 * float(torch.rand(()) < 0.5),
            "bbox_regression": codes.relu() if codes_are_positive else codes,
            "bbox_ctrness": centers,
        }
        model.head.output = outputs
        if not codes_are_positive:
            del outputs["bbox_ctrness"]
        return [output.requires_grad_() for output in outputs.values()]

    model.head, model.backbone, model.transform = _GivenHead(model.head), _Given(), KeptSize()
    return Family(model.train(), first_label, draw)


class _GivenHead(_Given):
    """Keeps the loss functions of the real head, which torchvision calls."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.real = head

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("real"), name)


def _fcos() -> Family:
    generator = AnchorGenerator(tuple((SIZE / side,) for side in SIDES), ((1.0,),) * len(SIDES))
    head = FCOSHead(32, 1, CLASSES, num_convs=1)
    model = detection.FCOS(_Given(), CLASSES, anchor_generator=generator, head=head)
    return _dense(model, 0, classes=CLASSES, codes_are_positive=True)


def _retinanet(kind: str) -> Family:
    sizes = tuple((side, side * 1.26, side * 1.6) for side in (6.0, 12.0, 24.0, 48.0))
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(CHANNELS, 9, CLASSES)
    head.regression_head._loss_type = kind
    return _dense(detection.RetinaNet(_Given(), CLASSES, anchor_generator=generator, head=head), 0, classes=CLASSES)


def _ssd() -> Family:
    generator = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2]], scales=[0.07, 0.2, 0.4, 0.7, 1.0])
    model = SSD(_Given(), generator, (SIZE, SIZE), CLASSES + 1, head=nn.Module())
    return _dense(model, 1, classes=CLASSES + 1)


def _faster_rcnn() -> Family:
    """Few proposals and samples, so that every limit is reached; norms in the head, which would see any padding."""
    generator = AnchorGenerator(tuple((float(side),) for side in (6, 12, 24, 48)), ((0.5, 1.0, 2.0),) * 4)
    pooling = MultiScaleRoIAlign([str(side) for side in SIDES[:3]], 2, 2, canonical_scale=24, canonical_level=4)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 4, 8), nn.BatchNorm1d(8, momentum=0.0), nn.Tanh())
    torch.manual_seed(0)
    model = detection.FasterRCNN(
        _Given(),
        rpn_anchor_generator=generator,
        rpn_head=_Given(),
        rpn_pre_nms_top_n_train=60,
        rpn_post_nms_top_n_train=40,
        rpn_batch_size_per_image=32,
        box_roi_pool=pooling,
        box_head=inner,
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(8, CLASSES + 1),
        box_batch_size_per_image=24,
    )
    model.transform = KeptSize()

    def draw(images: int, spread: float) -> list[torch.Tensor]:
        maps = [torch.randn(images, CHANNELS, side, side, requires_grad=True) for side in SIDES]
        model.backbone.output = OrderedDict((str(side), level) for side, level in zip(SIDES, maps, strict=True))
        logits, codes = (
            [(spread * torch.randn(images, each, side, side)).requires_grad_() for side in SIDES] for each in (3, 12)
        )
        model.rpn.head.output = (logits, codes)
        return [*maps, *logits, *codes, *model.roi_heads.parameters()]

    return Family(model.train(), 1, draw)


FAMILIES: dict[str, Callable[[], Family]] = {
    "fcos": _fcos,
    "retinanet": partial(_retinanet, "l1"),
    "retinanet v2": partial(_retinanet, "giou"),
    "ssd": _ssd,
    "faster rcnn": _faster_rcnn,
}


def _targets(first_label: int, counts: list[int]) -> PaddedTargets:
    """Objects at random, some of them twice; those of half of the images have whole coordinates, so that
    anchors overlap them alike."""
    boxes, labels = [], []
    for count in counts:
        corners = torch.rand(count, 2) * (SIZE - 12)
        sides = 2 + torch.rand(count, 2) ** 2 * (SIZE - 2 - corners)
        found = torch.cat([corners, corners + sides], dim=1)
        found = found.round() if torch.rand(()) < 0.5 else found
        twice = torch.rand(count) < 0.2
        boxes.append(torch.where(twice[:, None], found[:1] if count else found, found))
        labels.append(torch.randint(CLASSES, (count,)))
    return PaddedTargets.of(*padded(boxes, labels), counts, first_label)


def _case(family: Family, seed: int) -> tuple[PaddedTargets, list[torch.Tensor], torch.Tensor]:
    """Targets, leaves and images. Every tenth batch has no object at all."""
    torch.manual_seed(seed)
    images = int(torch.randint(1, 5, ()))
    counts = torch.randint(0, 7, (images,)).tolist() if seed % 10 else [0] * images
    leaves = family.draw(images, spread=float(0.1 + 2 * torch.rand(())))
    return _targets(family.first_label, counts), leaves, torch.zeros(images, 3, SIZE, SIZE)


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradients_equal_those_of_torchvision(name: str) -> None:
    family = FAMILIES[name]()
    empty_images = 0
    for seed in range(CASES):
        targets, leaves, images = _case(family, seed)
        with same_draws():
            expected = family.model(images, targets.by_image())
            found = detector_losses(family.model, images, targets)
        assert list(found) == list(expected)
        _assert_close(list(found.values()), list(expected.values()), f"losses of case {seed}", relative=1e-5)
        own, theirs = (
            torch.autograd.grad(sum(losses.values()), leaves, allow_unused=True) for losses in (found, expected)
        )
        _assert_close(own, theirs, f"gradients of case {seed}", relative=1e-4)
        empty_images += targets.counts.count(0)
    assert empty_images > 50


def _assert_close(found: Any, expected: Any, what: str, *, relative: float) -> None:
    torch.testing.assert_close(found, expected, rtol=relative, atol=1e-5, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("name", FAMILIES)
def test_no_operation_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on CPU tensors, as `SynchronizingOperations` says. Non-maximum suppression is called as for a GPU."""
    monkeypatch.setattr(proposals, "is_waited_for", lambda device: True)
    family = FAMILIES[name]()
    targets, leaves, images = _case(family, 1)
    detector_losses(family.model, images, targets)  # makes the anchors
    with SynchronizingOperations() as before:
        torch.autograd.grad(sum(family.model(images, targets.by_image()).values()), leaves, allow_unused=True)
    with SynchronizingOperations() as operations:
        torch.autograd.grad(sum(detector_losses(family.model, images, targets).values()), leaves, allow_unused=True)
    assert before.total >= 16
    if name != "faster rcnn":
        assert operations.counts == {}
    else:
        # Suppression in three parts of the batch, and the number of proposals of each level.
        assert operations.counts.keys() == {"torchvision::nms", "tolist"}
        assert operations.total <= 4


def test_a_planted_read_is_counted() -> None:
    with SynchronizingOperations() as operations:
        torch.ones(3).sum().item()
        torch.ones(3).tolist()
        torch.arange(3)[torch.tensor([True, False, True])]
    assert operations.counts == {
        "aten::_local_scalar_dense": 1,
        "aten::index by a mask": 1,
        "tensor from numbers": 1,
        "tolist": 1,
    }


def test_another_network_has_no_losses() -> None:
    with pytest.raises(TypeError, match="Linear"):
        detector_losses(nn.Linear(1, 1), torch.zeros(1, 3, 8, 8), _targets(0, [1]))


def test_anchors_that_a_validation_made_serve_training() -> None:
    """Tensors of inference mode cannot be saved for a backward pass."""
    family = _retinanet("giou")
    targets, leaves, images = _case(family, 1)
    with torch.inference_mode():
        detector_losses(family.model, images, targets)
    torch.autograd.grad(sum(detector_losses(family.model, images, targets).values()), leaves)


@pytest.mark.parametrize("name", ["retinanet", "ssd"])
def test_anchors_are_made_once_and_in_float32(name: str) -> None:
    generator = FAMILIES[name]().model.anchor_generator
    images, size = torch.zeros(2, 3, 640, 640), 640
    maps = [torch.zeros(2, CHANNELS, size // stride, size // stride) for stride in (8, 16, 32, 64)]
    anchors = anchors_of(generator, images, maps)
    assert anchors_of(generator, images, [level.bfloat16() for level in maps]) is anchors
    assert anchors_of(generator, images, [level[..., :-1] for level in maps]) is not anchors
    image_list = KeptSize()(images)[0]
    [expected, _second] = generator(image_list, maps)
    assert torch.equal(anchors.boxes_A4, expected)
    assert sum(anchors.counts) == len(expected)
    # Evaluation mode makes its own: rounded as torchvision does, unless they are kept.
    half_maps = [level.bfloat16() for level in maps]
    assert not torch.equal(generator(image_list, half_maps)[0].float(), expected)
    keep_anchors_in_float32(generator)
    assert torch.equal(generator(image_list, half_maps)[0], expected)


# Parts


def test_images_are_compared_together_up_to_a_number_of_pairs() -> None:
    counts, anchors = [3, 0, 40, 2, 2, 0, 0], matching.MOST_PAIRS // 50
    groups = list(image_groups(counts, anchors))
    assert groups == [(slice(0, 2), 3), (slice(2, 3), 40), (slice(3, 7), 2)]
    assert list(image_groups([500], matching.MOST_PAIRS)) == [(slice(0, 1), 500)]
    assert list(image_groups([0, 0], 10)) == [(slice(0, 2), 0)]


@pytest.mark.parametrize(
    "rule",
    [
        partial(by_overlap, least=0.5, background_below=0.4, keeps_best=True),
        partial(by_overlap_with_owners, least=0.5),
    ],
)
def test_grouping_does_not_change_a_match(rule: matching.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    targets = _targets(0, [4, 0, 6, 1])
    corners = torch.rand(100, 2) * 50
    anchors = torch.cat([corners, corners + 4 + torch.rand(100, 2) * 20], dim=1)
    together = matched(rule, targets, anchors)
    monkeypatch.setattr(matching, "MOST_PAIRS", 1)
    assert torch.equal(matched(rule, targets, anchors), together)


def test_an_object_that_no_anchor_overlaps_takes_what_torchvision_gives_it() -> None:
    """Every anchor overlaps it as little as the best one does: all are matched, with what they overlap most."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [30, 30, 40, 40]])
    targets = PaddedTargets.of(*padded([boxes], [torch.tensor([0, 1])]), [2], 0)
    anchors = torch.tensor([[30.0, 30, 40, 40], [50, 50, 60, 60]])
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    assert matcher(box_iou(boxes, anchors)).tolist() == [1, 0]
    assert matched(matching.rule_of(matcher), targets, anchors).tolist() == [[1, 0]]


@pytest.mark.parametrize("images", [1, 2, 5, 7])
def test_suppression_in_few_calls_keeps_the_same_boxes(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU, beside torchvision's `batched_nms` of each image."""
    torch.manual_seed(images)
    counts = [30, 20, 5]
    corners = torch.rand(images, sum(counts), 2) * 40
    boxes = torch.cat([corners, corners + torch.rand(images, sum(counts), 2) * 24], dim=-1)
    scores = torch.rand(images, sum(counts))
    levels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    expected = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(images):
        expected[image, batched_nms(boxes[image], scores[image], levels, 0.4)] = True
    assert 0 < expected.sum() < expected.numel()
    assert torch.equal(proposals.unsuppressed(boxes, scores, counts, 0.4, SIZE), expected)
    monkeypatch.setattr(proposals, "is_waited_for", lambda device: True)
    assert torch.equal(proposals.unsuppressed(boxes, scores, counts, 0.4, SIZE), expected)


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = torch.zeros(1, 3, 4)
    boxes[0, 2] = torch.tensor([0.0, 0, 4, 4])
    assert proposals.unsuppressed(boxes, torch.tensor([[0.9, 0.8, 0.7]]), [3], 0.5, SIZE).all()


def test_samples_have_the_numbers_and_chances_of_torchvisions() -> None:
    labels = torch.tensor([[1, 2, 0, 0, 0, 0, 0, -1], [0, 0, 0, 1, 1, 1, 1, 1], [-1] * 8, [0] * 8])
    torch.manual_seed(0)
    drawn, turns = torch.zeros(labels.shape), 3000
    for _turn in range(turns):
        mask = balanced_samples(labels, 4, 0.5).mask(labels.shape[1])
        assert (mask & (labels > 0)).sum(dim=1).tolist() == [2, 2, 0, 0]
        assert (mask & (labels == 0)).sum(dim=1).tolist() == [2, 2, 0, 4]
        drawn += mask
    assert not drawn[labels < 0].any()
    assert drawn[0].tolist() == pytest.approx([turns, turns, *[turns * 2 / 5] * 5, 0], abs=150)
    assert drawn[1].tolist() == pytest.approx([*[turns * 2 / 3] * 3, *[turns * 2 / 5] * 5], abs=150)
    assert drawn[3].tolist() == pytest.approx([turns / 2] * 8, abs=150)


def test_samples_depend_on_the_seed_alone() -> None:
    labels = torch.randint(0, 2, (3, 50))
    torch.manual_seed(7)
    first = balanced_samples(labels, 8, 0.25).mask(50)
    torch.manual_seed(7)
    assert torch.equal(balanced_samples(labels, 8, 0.25).mask(50), first)
    assert not torch.equal(balanced_samples(labels, 8, 0.25).mask(50), first)


def test_padding_keeps_objects_and_their_number() -> None:
    targets = _targets(1, [2, 0, 3])
    assert targets.boxes_NM4.shape == (3, 3, 4)
    assert targets.is_object_NM.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert [len(one["labels"]) for one in targets.by_image()] == [2, 0, 3]
    assert all((one["labels"] >= 1).all() for one in targets.by_image())
    assert _targets(0, [0, 0]).boxes_NM4.shape == (2, 1, 4)
