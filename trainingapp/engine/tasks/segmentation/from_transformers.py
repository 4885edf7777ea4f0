"""SegFormer and Mask2Former of the library transformers, which is imported only for runs that need it.

Their configurations are written here and never downloaded. N images, K classes with the background as 0, Q queries.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.architectures import HF, OPTIONAL_LIBRARIES, missing_library
from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages.tasks import (
    FAMILY_UNKNOWN,
    LIBRARY_MISSING,
    NO_PUBLISHED_BACKBONE,
    NON_COMMERCIAL_WEIGHTS,
)
from trainingapp.engine.deterministic_operations import deterministic_operations

SEGFORMERS: Mapping[str, Mapping[str, Any]] = {
    "segformer_b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256], "decoder_hidden_size": 256},
    "segformer_b1": {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 256},
    "segformer_b2": {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768},
}
"""Tables 6 and 7 of Xie et al., arXiv:2105.15203."""

SWINS: Mapping[str, Mapping[str, Any]] = {
    "mask2former_swin_tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
}
"""Backbones of Mask2Former: Liu et al., arXiv:2103.14030."""

QUERIES: Mapping[str, Any] = {
    "num_queries": 100,
    "hidden_dim": 256,
    "feature_size": 256,
    "mask_feature_size": 256,
    "num_attention_heads": 8,
    "encoder_layers": 6,
    "encoder_feedforward_dim": 1024,
    "decoder_layers": 10,
    "dim_feedforward": 2048,
}
"""The rest of Mask2Former, in the library's terms: as for ADE20K in the paper."""

STAGES = ["stage1", "stage2", "stage3", "stage4"]
MASK_STRIDE = 4
MOST_POINTS = 12_544
"""Points at which masks are compared (Cheng et al., arXiv:2112.01527): at most one for each pixel of a mask."""

LEAST_SHARE = 1e-6
IGNORED_PIXEL = 255


class SegFormer(nn.Module):
    """Logits [N, K, H, W]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images_NCHW, return_dict=True).logits
        return F.interpolate(logits, size=images_NCHW.shape[-2:], mode="bilinear", align_corners=False)


class Mask2Former(nn.Module):
    """Logits [N, K, H, W]: the logarithm of the masks of all queries, each weighted with its probability of the class.

    Their softmax is the share of a class in the sum over all classes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self._logits(self.network(images_NCHW, return_dict=True), images_NCHW)

    def loss_and_logits(self, images_NCHW: torch.Tensor, masks_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of the paper, the mean over the batch, and the logits.

        Queries are matched with the classes that an image shows; the points at which masks are compared are drawn from
        torch's global generators. Ignored pixels belong to no mask.
        """
        # The attention samples features, the loss masks at points, and queries are compared with classes.
        with deterministic_operations(images_NCHW.device):
            return self._loss_and_logits(images_NCHW, masks_NHW)

    def _loss_and_logits(self, images_NCHW: torch.Tensor, masks_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        classes = [_classes_in(mask_HW) for mask_HW in masks_NHW]
        masks = [(mask_HW == shown[:, None, None]).float() for mask_HW, shown in zip(masks_NHW, classes, strict=True)]
        outputs = self.network(images_NCHW, mask_labels=masks, class_labels=classes, return_dict=True)
        return outputs.loss.reshape(()), self._logits(outputs, images_NCHW)

    def _logits(self, outputs: Any, images_NCHW: torch.Tensor) -> torch.Tensor:
        chances_NQK: torch.Tensor = outputs.class_queries_logits.float().softmax(-1)[..., :-1]
        shares_NQHW: torch.Tensor = outputs.masks_queries_logits.float().sigmoid()
        shares_NKHW = torch.einsum("nqk,nqhw->nkhw", chances_NQK, shares_NQHW)
        whole = F.interpolate(shares_NKHW, size=images_NCHW.shape[-2:], mode="bilinear", align_corners=False)
        return whole.clamp(min=LEAST_SHARE).log()


def _classes_in(mask_HW: torch.Tensor) -> torch.Tensor:
    """int64: the classes of a mask; the background where every pixel is ignored."""
    found: torch.Tensor = mask_HW.unique().long()
    shown = found[found != IGNORED_PIXEL]
    return shown if len(shown) else found.new_zeros(1)


def build_transformer(name: str, *, class_count: int, image_size: int, pretrained: str) -> nn.Module:
    """As `build_segmenter`, for a network of the tables above. Raises BadConfig."""
    if package := missing_library(HF + name):
        raise BadConfig(LIBRARY_MISSING(name=name, package=package, extra=OPTIONAL_LIBRARIES[HF]))
    if name in SEGFORMERS:
        if pretrained != "none":
            raise BadConfig(NON_COMMERCIAL_WEIGHTS(name=name))
        return SegFormer(_segformer(name, class_count))
    if name in SWINS:
        if pretrained != "none":
            raise BadConfig(NO_PUBLISHED_BACKBONE(name=name))
        return Mask2Former(_mask2former(name, class_count, image_size))
    raise BadConfig(FAMILY_UNKNOWN(library="transformers", name=name, known=[*SEGFORMERS, *SWINS]))


def _segformer(name: str, class_count: int) -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    options: dict[str, Any] = {"num_labels": class_count, **SEGFORMERS[name]}
    network: nn.Module = SegformerForSemanticSegmentation(SegformerConfig(**options))
    return network


def _mask2former(name: str, class_count: int, image_size: int) -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    swin: dict[str, Any] = {"out_features": STAGES, "drop_path_rate": 0.3, **SWINS[name]}
    points = min(MOST_POINTS, (image_size // MASK_STRIDE) ** 2)
    options: dict[str, Any] = {"num_labels": class_count, "train_num_points": points, **QUERIES}
    config = Mask2FormerConfig(backbone_config=SwinConfig(**swin), **options)
    network: nn.Module = Mask2FormerForUniversalSegmentation(config)
    return network
