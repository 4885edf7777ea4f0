"""Vision transformers of timm as segmenters: a small convolutional head on the tokens of their patches."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages.tasks import NO_PATCH_FEATURES, NO_PUBLISHED_MODEL
from trainingapp.engine.tasks.classification.from_timm import build_timm
from trainingapp.engine.timm_facts import patch_size

LAST_BLOCKS = 4
"""Blocks whose tokens the head sees, as in the evaluation of DINOv2 (Oquab et al., arXiv:2304.07193)."""

HEAD_CHANNELS = 128
NORM_GROUPS = 16


class PatchSegmenter(nn.Module):
    """Logits [N, K, H, W] from a network that keeps one grid of patches.

    An image that is no multiple of the patches is padded on the right and at the bottom, by less than a patch.
    """

    def __init__(self, backbone: Any, channels: int, class_count: int) -> None:
        super().__init__()
        self.backbone: nn.Module = backbone
        self._patch: int = backbone.patch_embed.patch_size[0]
        self.head = nn.Sequential(
            *_layer(LAST_BLOCKS * channels, kernel=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *_layer(HEAD_CHANNELS, kernel=3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *_layer(HEAD_CHANNELS, kernel=3),
            nn.Conv2d(HEAD_CHANNELS, class_count, 1),
        )

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        height, width = images_NCHW.shape[-2:]
        below, right = -height % self._patch, -width % self._patch
        if below or right:
            images_NCHW = F.pad(images_NCHW, (0, right, 0, below))
        maps = self.backbone.forward_intermediates(  # type: ignore[operator]
            images_NCHW, indices=LAST_BLOCKS, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        logits = self.head(torch.cat(list(maps), dim=1))
        whole = F.interpolate(logits, size=images_NCHW.shape[-2:], mode="bilinear", align_corners=False)
        return whole[..., :height, :width]


def _layer(channels: int, *, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, HEAD_CHANNELS, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.GroupNorm(NORM_GROUPS, HEAD_CHANNELS), nn.GELU()


def build_patch_segmenter(
    name: str, *, class_count: int, image_size: int, pretrained: str, weights_cache_dir: Path
) -> nn.Module:
    """As `build_segmenter`, for the transformer that timm names `name`. Raises BadConfig, WeightsUnavailable."""
    if pretrained == "whole":
        raise BadConfig(NO_PUBLISHED_MODEL(name=name))
    patch = patch_size(name)
    backbone: Any = build_timm(
        name,
        class_count=0,
        image_size=math.ceil(image_size / patch) * patch,
        dropout_rate=0.0,
        pretrained_from=weights_cache_dir if pretrained == "backbone" else None,
    )
    scales = {one["reduction"] for one in getattr(backbone, "feature_info", [])}
    if not hasattr(getattr(backbone, "patch_embed", None), "patch_size") or len(scales) != 1:
        raise BadConfig(NO_PATCH_FEATURES(name=name))
    backbone.prune_intermediate_layers(LAST_BLOCKS, prune_norm=False, prune_head=True)
    return PatchSegmenter(backbone, backbone.num_features, class_count)
