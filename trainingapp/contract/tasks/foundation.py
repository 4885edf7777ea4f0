"""Backbones that are chosen for their published weights, by classification and segmentation."""

import re
from collections.abc import Mapping

from pydantic import JsonValue

FOUNDATION_DEFAULTS: Mapping[str, JsonValue] = {
    "image_size": 224,
    "learning_rate": 0.0005,
    "weight_decay": 0.05,
}
"""Of networks that are mostly chosen for their published weights, which are for images of at least 224 pixels."""

FOUNDATION_BACKBONES: Mapping[str, int] = {
    "timm/vit_small_patch14_dinov2.lvd142m": 22_060_000,
    "timm/vit_small_patch14_reg4_dinov2.lvd142m": 22_060_000,
    "timm/vit_base_patch14_dinov2.lvd142m": 86_580_000,
    "timm/vit_small_patch16_dinov3.lvd1689m": 21_590_000,
    "timm/vit_base_patch16_dinov3.lvd1689m": 85_640_000,
}
"""Vision transformers of timm that were pretrained without labels, with their parameters. The weights of DINOv2 (Oquab
et al., arXiv:2304.07193) are under Apache-2.0, those of DINOv3 (Siméoni et al., arXiv:2508.10104) under a license of
their own."""

_LINEAR = re.compile(r"vit|deit|beit|eva|swin|mixer|convnext|dinov|segformer|mask2former|rtdetr|dfine|rfdetr")


def takes_adapters(model: str) -> bool:
    """Whether a network has linear layers in its backbone, by its name: transformers, and ConvNeXt."""
    return _LINEAR.search(model) is not None
