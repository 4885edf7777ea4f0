"""Segmentation networks: torchvision's, also on small ResNets, and those of other libraries.

All give logits [N, K, H, W] for images [N, 3, H, W], with K classes, the background among them as 0.
"""

from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import FCN, LRASPP
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCNHead

from trainingapp.contract.architectures import HF
from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages.tasks import NO_PUBLISHED_MODEL
from trainingapp.engine.published import fetched_state
from trainingapp.engine.tasks.classification.networks import TIMM
from trainingapp.engine.tasks.segmentation.from_smp import TIMM_ENCODER, build_smp
from trainingapp.engine.tasks.segmentation.from_timm import build_patch_segmenter
from trainingapp.engine.tasks.segmentation.from_transformers import build_transformer
from trainingapp.engine.transfer import load_matching

SMP = "smp/"
HEADS: dict[str, type[nn.Module]] = {"deeplabv3": DeepLabHead, "fcn": FCNHead}
MODELS: dict[str, type[nn.Module]] = {"deeplabv3": DeepLabV3, "fcn": FCN}
HEAD_PREFIXES = {
    SMP: ("decoder.", "segmentation_head."),
    TIMM: ("head.",),
    f"{HF}segformer": ("network.decode_head.",),
    f"{HF}mask2former": (
        "network.model.pixel_level_module.decoder.",
        "network.model.transformer_module.",
        "network.class_predictor.",
    ),
}
SMALL_RESNETS = ("resnet18", "resnet34")
SMALL_RESNET_CHANNELS = 512


class LogitsOnly(nn.Module):
    """One of torchvision's segmentation networks, with logits as its output instead of a dictionary.

    Parameters have torchvision's names, so that the weights load into torchvision's own model.
    """

    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        assert isinstance(made.backbone, nn.Module)
        assert isinstance(made.classifier, nn.Module)
        self.backbone, self.classifier = made.backbone, made.classifier
        self._head_takes_all = isinstance(made, LRASPP)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features = self.backbone(images_NCHW)
        logits = self.classifier(features if self._head_takes_all else features["out"])
        return F.interpolate(logits, size=images_NCHW.shape[-2:], mode="bilinear", align_corners=False)


def build_segmenter(
    name: str, *, class_count: int, pretrained: str, weights_cache_dir: Path, image_size: int = 64
) -> nn.Module:
    """The network `name` with K = `class_count`; transformers of timm have position embeddings for `image_size`.

    `pretrained` is "none", "backbone" (ImageNet) or "whole" (published weights of the whole network, without layers
    that depend on the number of classes), downloaded into `weights_cache_dir`. The other weights are drawn from
    torch's global generator. Raises WeightsUnavailable, BadConfig.
    """
    if name.startswith(SMP):
        return build_smp(
            name.removeprefix(SMP), class_count=class_count, pretrained=pretrained, weights_cache_dir=weights_cache_dir
        )
    if name.startswith(TIMM):
        return build_patch_segmenter(
            name.removeprefix(TIMM),
            class_count=class_count,
            image_size=image_size,
            pretrained=pretrained,
            weights_cache_dir=weights_cache_dir,
        )
    if name.startswith(HF):
        name = name.removeprefix(HF)
        return build_transformer(name, class_count=class_count, image_size=image_size, pretrained=pretrained)
    family, _, backbone = name.partition("_")
    if backbone in SMALL_RESNETS:
        # Ours: torchvision's heads on ResNets of basic blocks, which cannot be dilated: they reduce by 32, not by 8.
        body = torchvision.models.get_model(backbone, weights=None)
        features = IntermediateLayerGetter(body, return_layers={"layer4": "out"})
        model = LogitsOnly(MODELS[family](features, HEADS[family](SMALL_RESNET_CHANNELS, class_count)))
    else:
        made = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=class_count)
        model = LogitsOnly(made)
    if pretrained == "backbone":
        _load_backbone(model, backbone, weights_cache_dir)
    elif pretrained == "whole":
        try:
            # Trained on COCO with the 21 classes of Pascal VOC.
            weights: WeightsEnum = torchvision.models.get_model_weights(name)["DEFAULT"]
        except ValueError:
            raise BadConfig(NO_PUBLISHED_MODEL(name=name)) from None
        load_matching(model, fetched_state(weights.url, weights_cache_dir / "checkpoints"))
    return model


def segmenter_head_prefixes(name: str) -> tuple[str, ...]:
    """Prefixes of the names of the parameters outside of the backbone."""
    return next((prefixes for family, prefixes in HEAD_PREFIXES.items() if name.startswith(family)), ("classifier.",))


def timm_name(name: str) -> str:
    """timm's name of the backbone; empty where that is not of timm."""
    if name.startswith(TIMM):
        return name.removeprefix(TIMM)
    return name.partition(TIMM_ENCODER)[2] if name.startswith(SMP) else ""


def _load_backbone(model: nn.Module, backbone: str, weights_cache_dir: Path) -> None:
    """Load ImageNet weights into the backbone: the first version, with which torchvision trained its own models."""
    weights: WeightsEnum = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
    state = fetched_state(weights.url, weights_cache_dir / "checkpoints")
    report = load_matching(
        model, {f"backbone.{name.removeprefix('features.')}": value for name, value in state.items()}
    )
    left_out = [name for name in (*report.missing, *report.other_shape) if name.startswith("backbone.")]
    assert not left_out, left_out
