"""torchvision's detectors: its families on backbones from small to large, for square images already normalized.

A network's state dict has the names of torchvision's own model, so that weights can be exchanged with it.

Legend: M boxes of an image, xyxy = left, top, right, bottom in pixels of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum, detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from trainingapp.contract.architectures import HF
from trainingapp.contract.errors import BadConfig
from trainingapp.contract.messages.tasks import NO_PUBLISHED_MODEL, NO_PUBLISHED_WEIGHTS_FIT, SIZE_OUT_OF_RANGE
from trainingapp.engine.published import fetched_state
from trainingapp.engine.tasks.detection.from_transformers import Thresholds, TransformerDetector, build_transformer
from trainingapp.engine.tasks.detection.pan import PanDetector
from trainingapp.engine.transfer import load_matching

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PUBLISHED_NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ssd300_vgg16": ((0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
    "ssdlite320_mobilenet_v3_large": ((0.5,) * 3, (0.5,) * 3),
}
"""(mean, standard deviation) with which torchvision's weights of the whole model were trained, where not ImageNet's."""

SSD_SIZES = (288, 512)
"""Sides for which SSD300's last maps are neither empty nor coarser than its boxes."""

BACKBONES = ("resnet18", "resnet34", "resnet50", "mobilenet_v3_large", "vgg16")

SET_LOSSES = ("loss_class", "loss_box", "loss_giou", "loss_auxiliary", "loss_distribution", "loss_denoising")
"""Of transformers: RF-DETR has neither distributions nor denoising, RT-DETRv2 no distributions."""

Targets = list[dict[str, torch.Tensor]]
"""{"boxes": float32 [M, 4] xyxy, "labels": int64 [M]} for each image, and "scores" [M] where a model has found them."""

LOSS_NAMES = {
    "classification": "loss_class",
    "loss_classifier": "loss_class",
    "bbox_regression": "loss_box",
    "loss_box_reg": "loss_box",
    "bbox_ctrness": "loss_centre",
    "bbox_distribution": "loss_distribution",
    "loss_objectness": "loss_objectness",
    "loss_rpn_box_reg": "loss_proposal_box",
    **{name: name for name in SET_LOSSES},
    "loss_mask": "loss_mask",
}
"""The names that families have for the parts of the loss, and those of the charts."""


@dataclass(frozen=True)
class DetectorOptions:
    """The settings of a detector; see the fields of `DetectionConfig`."""

    class_count: int
    image_size: int
    score_thresh: float
    nms_thresh: float
    detections_per_img: int
    anchor_scale: float = 1.0
    frozen_norms: bool = False

    def thresholds(self, prefix: str = "") -> dict[str, Any]:
        """The arguments of torchvision's classes."""
        names = ("score_thresh", "nms_thresh", "detections_per_img")
        return {f"{prefix}{name}": getattr(self, name) for name in names}


class KeptSize(nn.Module):
    """Replaces torchvision's transform: the images already have one size and ImageNet's normalization.

    `mean` and `std`, for images in 0..1, are those that published weights of the whole model were trained with.
    """

    scale: torch.Tensor | None
    shift: torch.Tensor | None

    def __init__(self, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
        super().__init__()
        is_other = (mean, std) != (IMAGENET_MEAN, IMAGENET_STD)
        own_mean, own_std, other_mean, other_std = (
            torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD, mean, std)
        )
        scale = own_std / other_std if is_other else None
        shift = (own_mean - other_mean) / other_std if is_other else None
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def normalised(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """The images as the published weights were trained with them."""
        if self.scale is None or self.shift is None:
            return images_NCHW
        return images_NCHW * self.scale + self.shift

    def forward(self, images_NCHW: torch.Tensor, targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        images_NCHW = self.normalised(images_NCHW)
        height, width = images_NCHW.shape[-2:]
        return ImageList(images_NCHW, [(height, width)] * len(images_NCHW)), targets

    def postprocess(
        self, result: Targets, image_shapes: list[tuple[int, int]], original_image_sizes: list[tuple[int, int]]
    ) -> Targets:
        """Boxes stay in pixels of the model's input."""
        return result


def build_detector(name: str, options: DetectorOptions, *, pretrained: str, weights_from: Path | None) -> nn.Module:
    """The network `name` for images [N, 3, image_size, image_size]; labels as `first_label` says.

    In training mode it takes the images and `Targets` and returns its losses by name; in evaluation mode it takes the
    images and returns `Targets` with "scores" in descending order. `pretrained` is "none", "backbone" or "whole". The
    weights are downloaded into `weights_from`; None loads none, for a network whose checkpoint is loaded afterwards.
    Raises BadConfig, WeightsUnavailable.
    """
    if name.startswith(HF):
        return _transformer(name, options, pretrained, weights_from)
    if name == "ssd300_vgg16":
        model = _ssd(options)
    elif name == "ssdlite320_mobilenet_v3_large":
        # Sandler et al., arXiv:1801.04381, on Howard et al., arXiv:1905.02244.
        model = detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=options.class_count + 1, **options.thresholds()
        )
    elif name.startswith("pan_"):
        model = PanDetector(name, options.class_count, anchor_scale=options.anchor_scale, **options.thresholds())
    else:
        family, backbone_name = name.removesuffix("_v2").removesuffix("_fpn").removesuffix("_320").split("_", 1)
        build = {"fasterrcnn": _faster_rcnn, "retinanet": _retinanet, "fcos": _fcos}[family]
        model = build(backbone_name, options, second=name.endswith("_v2"))
    return finished(model, name, pretrained=pretrained, weights_from=weights_from)


def finished(model: nn.Module, name: str, *, pretrained: str, weights_from: Path | None) -> nn.Module:
    """A model of torchvision's for square images, with the weights that `pretrained` names; see `build_detector`."""
    published = PUBLISHED_NORMALISATION.get(name) if pretrained == "whole" else None
    model.transform = KeptSize(*published) if published else KeptSize()
    if pretrained != "none" and weights_from is not None:
        if name.startswith("pan_"):
            raise BadConfig(NO_PUBLISHED_MODEL(name=name))
        if pretrained == "backbone":
            state = _backbone_state(name, weights_from)
        elif name in torchvision.models.list_models(detection):
            weights: WeightsEnum = torchvision.models.get_model_weights(name)["DEFAULT"]  # trained on COCO
            state = dict(fetched_state(weights.url, weights_from / "checkpoints"))
        else:
            raise BadConfig(NO_PUBLISHED_MODEL(name=name))
        # Layers for other classes do not match and stay random.
        if not load_matching(model, state).matched:
            raise BadConfig(NO_PUBLISHED_WEIGHTS_FIT(name=name))
    for path, module in model.named_modules():
        if path in ("head", "rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor"):
            module.register_forward_hook(_as_float32)
    return model


def _transformer(name: str, options: DetectorOptions, pretrained: str, weights_from: Path | None) -> nn.Module:
    """A network of transformers. RT-DETRv2 and D-FINE take images in 0..1 as they are, RF-DETR ImageNet's."""
    return build_transformer(
        name,
        KeptSize() if name.startswith("hf/rfdetr") else KeptSize((0.0,) * 3, (1.0,) * 3),
        Thresholds(options.score_thresh, options.detections_per_img),
        class_count=options.class_count,
        image_size=options.image_size,
        frozen_norms=options.frozen_norms,
        pretrained=pretrained,
        weights_from=weights_from,
    )


def keep_anchors_in_float32(model: nn.Module) -> None:
    """Have the detector make its anchors in float32 also under mixed precision, in evaluation mode too.

    torchvision makes them in the number format of the feature maps. In bfloat16, coordinates from 256 on are multiples
    of two, from 512 on of four: exported networks, which compute in float32, would find their boxes elsewhere.
    """
    for module in model.modules():
        if isinstance(module, AnchorGenerator | DefaultBoxGenerator):
            module.register_forward_pre_hook(_with_float32_maps)


def _with_float32_maps(
    module: nn.Module, inputs: tuple[ImageList, list[torch.Tensor]]
) -> tuple[ImageList, list[torch.Tensor]] | None:
    """A hook before an anchor generator, which reads nothing but shapes, dtype and device of the feature maps."""
    images, levels = inputs
    if levels[0].dtype == torch.float32:
        return None
    one = levels[0].new_empty((), dtype=torch.float32)
    return images, [one.expand(level.shape) for level in levels]


def first_label(name: str) -> int:
    """The number of the first class: families with a class for the background have that as number 0."""
    return 0 if name.startswith(("fcos_", "retinanet_", "pan_", HF)) else 1


def loss_parts(name: str) -> list[str]:
    """The names of the parts of the network's loss, in a fixed order."""
    own = {
        "hf/rtdetrv2": [*SET_LOSSES[:4], "loss_denoising"],
        "hf/dfine": list(SET_LOSSES),
        "hf/rfdetr": list(SET_LOSSES[:4]),
        "fcos_": ["loss_class", "loss_box", "loss_centre"],
        "pan_": ["loss_class", "loss_box", "loss_distribution"],
        "fasterrcnn_": ["loss_class", "loss_box", "loss_objectness", "loss_proposal_box"],
        "maskrcnn_": ["loss_class", "loss_box", "loss_mask", "loss_objectness", "loss_proposal_box"],
    }
    return next((parts for start, parts in own.items() if name.startswith(start)), ["loss_class", "loss_box"])


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of all parameters outside of the feature extractor."""
    if isinstance(model, TransformerDetector):
        return model.head_prefixes()
    body = ("backbone.body.", "backbone.features.")
    names = [name for name, _parameter in model.named_parameters() if not name.startswith(body)]
    return tuple(sorted({".".join(name.split(".")[:2]) + "." for name in names}))


def _fcos(backbone_name: str, options: DetectorOptions, *, second: bool) -> nn.Module:
    """Tian et al., arXiv:1904.01355. Its anchors are the strides: they determine which level takes which sizes."""
    slim = backbone_name != "resnet50"  # the small ones are our own: there are no published weights of the whole model
    channels = 128 if slim else 256
    backbone = pyramid(backbone_name, dense_stages(backbone_name), options, channels, LastLevelP6P7(channels, channels))
    sizes = tuple((stride * options.anchor_scale,) for stride in (8, 16, 32, 64, 128))
    model: nn.Module = detection.FCOS(
        backbone,
        options.class_count,
        anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),  # type: ignore[no-untyped-call]
        head=FCOSHead(channels, 1, options.class_count, num_convs=2 if slim else 4),
        center_sampling_radius=1.5 / options.anchor_scale,  # torchvision counts it in anchors, the paper in strides
        **options.thresholds(),
    )
    return model


def _retinanet(backbone_name: str, options: DetectorOptions, *, second: bool) -> nn.Module:
    """Lin et al., arXiv:1708.02002. The second version: torchvision's, with group norm and the GIoU loss."""
    last_channels = 2048 if second else 256
    stages, extra = dense_stages(backbone_name), LastLevelP6P7(last_channels, 256)
    backbone = pyramid(backbone_name, stages, options, 256, extra, plain_norms=second)
    octaves = [[side * 2 ** (third / 3) for third in range(3)] for side in (32, 64, 128, 256, 512)]
    sizes = tuple(tuple(max(1, int(side)) * options.anchor_scale for side in octave) for octave in octaves)
    norms = partial(nn.GroupNorm, 32) if second or not options.frozen_norms else None
    head = RetinaNetHead(256, 9, options.class_count, norm_layer=norms)
    head.regression_head._loss_type = "giou" if second else "l1"
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))  # type: ignore[no-untyped-call]
    model: nn.Module = detection.RetinaNet(  # type: ignore[no-untyped-call]
        backbone, options.class_count, anchor_generator=anchors, head=head, **options.thresholds()
    )
    return model


def _faster_rcnn(backbone_name: str, options: DetectorOptions, *, second: bool) -> nn.Module:
    """Ren et al., arXiv:1506.01497. The second version: torchvision's, with deeper heads and batch norms in them."""
    is_mobile = backbone_name.startswith("mobilenet")
    backbone = pyramid(
        backbone_name,
        [13, 16] if is_mobile else [1, 2, 3, 4],
        options,
        256,
        LastLevelMaxPool(),
        plain_norms=second,
        norm_layer=nn.BatchNorm2d if second else None,
    )
    scaled = [side * options.anchor_scale for side in (32, 64, 128, 256, 512)]
    sizes = (tuple(scaled),) * 3 if is_mobile else tuple((side,) for side in scaled)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))  # type: ignore[no-untyped-call]
    heads: dict[str, nn.Module] = {}
    if second:
        heads["rpn_head"] = RPNHead(256, anchors.num_anchors_per_location()[0], conv_depth=2)
        heads["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
    model: nn.Module = detection.FasterRCNN(  # type: ignore[no-untyped-call]
        backbone,
        options.class_count + 1,
        rpn_anchor_generator=anchors,
        **heads,
        **options.thresholds("box_"),
    )
    return model


def _ssd(options: DetectorOptions) -> nn.Module:
    """Liu et al., arXiv:1512.02325."""
    if not SSD_SIZES[0] <= options.image_size <= SSD_SIZES[1]:
        least, most = SSD_SIZES
        raise BadConfig(SIZE_OUT_OF_RANGE(name="ssd300_vgg16", smallest=least, largest=most, usual=320))
    model: nn.Module = detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=options.class_count + 1, **options.thresholds()
    )
    # Without its own steps, which hold for 300 pixels only, the boxes follow from the maps' sizes.
    model.anchor_generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    )
    return model


def dense_stages(backbone_name: str) -> list[int]:
    """Those with strides of 8, 16 and 32."""
    return [6, 12, 16] if backbone_name.startswith("mobilenet") else [2, 3, 4]


def pyramid(
    backbone_name: str,
    stages: list[int],
    options: DetectorOptions,
    channels: int,
    extra: ExtraFPNBlock,
    *,
    plain_norms: bool = False,
    norm_layer: Callable[..., nn.Module] | None = None,
) -> BackboneWithFPN:
    """A feature pyramid (Lin et al., arXiv:1612.03144) over these stages of a ResNet or layers of a MobileNet.

    Frozen norms keep the statistics of a pretrained backbone, which suits small batches; without pretraining there are
    no statistics to keep.
    """
    norms = FrozenBatchNorm2d if options.frozen_norms and not plain_norms else nn.BatchNorm2d
    network: Any = torchvision.models.get_model(backbone_name, weights=None, norm_layer=norms)
    if backbone_name.startswith("mobilenet"):
        network = network.features
        layers = [str(number) for number in stages]
        widths = [network[number].out_channels for number in stages]
    else:
        layers = [f"layer{number}" for number in stages]
        widths = [network.inplanes // 8 * 2 ** (number - 1) for number in stages]
    names = {layer: str(place) for place, layer in enumerate(layers)}
    return BackboneWithFPN(network, names, widths, channels, extra_blocks=extra, norm_layer=norm_layer)


def _as_float32(module: nn.Module, inputs: object, output: Any) -> Any:
    """A hook after the head, whose output holds tensors in dictionaries, lists and tuples.

    Mixed precision ends where the losses start: sums over thousands of boxes need more digits than bfloat16 has.
    """
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _as_float32(module, inputs, value) for name, value in output.items()}
    return type(output)(_as_float32(module, inputs, value) for value in output)


def _backbone_state(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """ImageNet weights of the feature extractor, under the names that they have in the detector."""
    backbone_name = next(known for known in BACKBONES if known in name)
    weights: WeightsEnum = torchvision.models.get_model_weights(backbone_name)["DEFAULT"]
    state = fetched_state(weights.url, folder / "checkpoints")
    named = {"ssd300_vgg16": _name_in_ssd, "ssdlite320_mobilenet_v3_large": _name_in_ssdlite}
    renamed = named.get(name, "backbone.body.{}".format)
    return {renamed(key.removeprefix("features.")): value for key, value in state.items()}


def _name_in_ssd(key: str) -> str:
    """VGG's layers 0 to 22 give the first map; the extra layers start with its others."""
    number, _, rest = key.partition(".")
    if not number.isdecimal():
        return key
    return f"backbone.features.{key}" if int(number) < 23 else f"backbone.extra.0.{int(number) - 23}.{rest}"


def _name_in_ssdlite(key: str) -> str:
    """MobileNetV3's layer 13 is cut in two: its expansion belongs to the first map, what follows to the second."""
    number, _, rest = key.partition(".")
    if not number.isdecimal():
        return key
    if int(number) != 13:
        return f"backbone.features.0.{key}" if int(number) < 13 else f"backbone.features.1.{int(number) - 13}.{rest}"
    _block, part, inner = rest.split(".", 2)
    return f"backbone.features.0.13.{inner}" if part == "0" else f"backbone.features.1.0.{part}.{inner}"
