"""Mask R-CNN: He et al., arXiv:1703.06870. torchvision's, and small ones of our own for CPUs.

A network's state dict has the names of torchvision's own model, so that weights can be exchanged with it.
"""

from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trainingapp.engine.tasks.detection.networks import DetectorOptions, dense_stages, finished, pyramid

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors of each size."""

SLIM_CHANNELS = 64
SLIM_BOX_FEATURES = 256
SLIM_MASK_LAYERS = (64, 64)

SLIM_SAMPLES: dict[str, Any] = {
    "rpn_pre_nms_top_n_train": 256,
    "rpn_post_nms_top_n_train": 128,
    "rpn_pre_nms_top_n_test": 256,
    "rpn_post_nms_top_n_test": 100,
    "rpn_batch_size_per_image": 128,
    "box_batch_size_per_image": 48,
}
"""Proposals of small images: torchvision's numbers are those of images with sides of 800 pixels."""


def build_instance_network(
    name: str, options: DetectorOptions, *, pretrained: str, weights_from: Path | None
) -> nn.Module:
    """The network `name`; labels begin with 1. In evaluation mode its results have "masks" too, float32 [D, 1, 28, 28]:
    the chance of each pixel within the box.

    As `build_detector` in every other respect. Raises BadConfig, WeightsUnavailable.
    """
    second = name.endswith("_v2")
    backbone_name = name.removeprefix("maskrcnn_").removesuffix("_v2").removesuffix("_fpn")
    build = _whole if backbone_name == "resnet50" else _slim
    return finished(
        build(backbone_name, options, second=second), name, pretrained=pretrained, weights_from=weights_from
    )


def _whole(backbone_name: str, options: DetectorOptions, *, second: bool) -> nn.Module:
    """torchvision's. The second version has deeper heads and batch norms in them: Li et al., arXiv:2111.11429."""
    norm = nn.BatchNorm2d if second else None
    backbone = pyramid(
        backbone_name, [1, 2, 3, 4], options, 256, LastLevelMaxPool(), plain_norms=second, norm_layer=norm
    )
    anchors = _anchors(5, options)
    heads: dict[str, nn.Module] = {}
    if second:
        heads["rpn_head"] = RPNHead(256, anchors.num_anchors_per_location()[0], conv_depth=2)
        heads["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
        heads["mask_head"] = MaskRCNNHeads(256, [256] * 4, 1, norm_layer=nn.BatchNorm2d)
    model: nn.Module = MaskRCNN(  # type: ignore[no-untyped-call]
        backbone,
        options.class_count + 1,
        rpn_anchor_generator=anchors,
        **heads,
        **options.thresholds("box_"),
    )
    return model


def _slim(backbone_name: str, options: DetectorOptions, *, second: bool) -> nn.Module:
    """A network of our own: narrow heads, and few proposals, for small images."""
    channels, width, classes = SLIM_CHANNELS, SLIM_MASK_LAYERS[-1], options.class_count + 1
    stages = dense_stages(backbone_name) if backbone_name.startswith("mobilenet") else [1, 2, 3, 4]
    backbone = pyramid(backbone_name, stages, options, channels, LastLevelMaxPool())
    anchors = _anchors(len(stages) + 1, options)
    levels = [str(level) for level in range(len(stages))]
    model: nn.Module = MaskRCNN(  # type: ignore[no-untyped-call]
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, anchors.num_anchors_per_location()[0]),
        box_roi_pool=_pool(levels, 7, options),
        box_head=TwoMLPHead(channels * 7 * 7, SLIM_BOX_FEATURES),  # type: ignore[no-untyped-call]
        box_predictor=FastRCNNPredictor(SLIM_BOX_FEATURES, classes),  # type: ignore[no-untyped-call]
        mask_roi_pool=_pool(levels, 14, options),
        mask_head=MaskRCNNHeads(channels, SLIM_MASK_LAYERS, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes),  # type: ignore[no-untyped-call]
        **SLIM_SAMPLES,
        **options.thresholds("box_"),
    )
    return model


def _anchors(levels: int, options: DetectorOptions) -> AnchorGenerator:
    """One size for each level, the finest first."""
    largest = 512 * options.anchor_scale
    sizes = tuple((largest / 2 ** (levels - 1 - level),) for level in range(levels))
    return AnchorGenerator(sizes, (RATIOS,) * levels)  # type: ignore[no-untyped-call]


def _pool(levels: list[str], side: int, options: DetectorOptions) -> MultiScaleRoIAlign:
    """Regions go to the level of their size: of a scaled square, that which has the anchors of the region's size."""
    return MultiScaleRoIAlign(levels, side, 2, canonical_scale=max(1, round(224 * options.anchor_scale)))
