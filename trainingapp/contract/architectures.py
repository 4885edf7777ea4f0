"""The networks that a run can choose, by task: adding one is one entry here (no torch).

The entry's name is what the configuration stores. What comes from a library other than torchvision carries its name
before a slash; the builders in `models/` turn a name into a network.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A network. `defaults` are values of the configuration that suit it better than the general ones.

    `parameters` counts those of the library's own model, with the classes that it was published for; 0: not counted.
    """

    parameters: int = 0
    defaults: dict[str, Any] = field(default_factory=dict)


CLASSIFIERS: dict[str, Architecture] = {
    "resnet18": Architecture(11_689_512),
    "resnet34": Architecture(21_797_672),
    "resnet50": Architecture(25_557_032),
    "mobilenet_v3_small": Architecture(2_542_856),
    "mobilenet_v3_large": Architecture(5_483_032),
    "efficientnet_b0": Architecture(5_288_548),
    "convnext_tiny": Architecture(28_589_128, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "vit_b_16": Architecture(86_567_656, {"learning_rate": 0.0003, "weight_decay": 0.05, "warmup_epochs": 3.0}),
    "timm/resnet10t": Architecture(5_440_000),
    "timm/mobilenetv4_conv_small": Architecture(3_770_000),
    "timm/efficientnet_lite0": Architecture(4_650_000),
    "timm/regnety_002": Architecture(3_160_000),
    "timm/convnext_atto": Architecture(3_700_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "timm/convnextv2_nano": Architecture(15_620_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
    "timm/efficientnetv2_rw_t": Architecture(13_650_000),
    "timm/vit_tiny_patch16_224": Architecture(5_720_000, {"learning_rate": 0.0005, "weight_decay": 0.05}),
}
"""torchvision's, with the parameters that its model pages give, and timm's, rounded; others can be named too."""

SMALL_DETECTOR: dict[str, Any] = {
    "image_size": 96,
    "epochs": 12,
    "batch_size": 16,
    "anchor_scale": 0.5,
    "scheduler": "one-cycle",
    "ema_decay": 0.998,
    "amp": True,
}
"""For small images on a CPU: two cores train the demo scenes with them in a few minutes."""

LARGE_DETECTOR: dict[str, Any] = {"image_size": 320, "batch_size": 8, "learning_rate": 0.0003}

DETECTORS: dict[str, Architecture] = {
    "fcos_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR),
    "fcos_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR),
    "fcos_resnet50_fpn": Architecture(32_269_600, LARGE_DETECTOR),
    "fcos_mobilenet_v3_large_fpn": Architecture(defaults=SMALL_DETECTOR),
    "retinanet_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "retinanet_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "retinanet_resnet50_fpn": Architecture(34_014_999, LARGE_DETECTOR),
    "retinanet_resnet50_fpn_v2": Architecture(38_198_935, LARGE_DETECTOR),
    "retinanet_mobilenet_v3_large_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet18_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet34_fpn": Architecture(defaults=SMALL_DETECTOR | {"anchor_scale": 0.25}),
    "fasterrcnn_resnet50_fpn": Architecture(41_755_286, LARGE_DETECTOR),
    "fasterrcnn_resnet50_fpn_v2": Architecture(43_712_278, LARGE_DETECTOR),
    "fasterrcnn_mobilenet_v3_large_fpn": Architecture(19_386_354, LARGE_DETECTOR),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Architecture(19_386_354, LARGE_DETECTOR),
    "ssd300_vgg16": Architecture(35_641_826, {"image_size": 320, "batch_size": 16, "learning_rate": 0.0003}),
    "ssdlite320_mobilenet_v3_large": Architecture(3_440_060, {"image_size": 320, "batch_size": 16}),
}
"""torchvision's families, some on smaller backbones than its own."""

SMP_FAMILIES = ("unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer")
SMP_ENCODERS = ("resnet18", "resnet34", "mobilenet_v2", "efficientnet-b0")
SMP_DEFAULTS: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 8,
    "scheduler": "one-cycle",
    "warmup_epochs": 0.0,
    "amp": True,
}
"""From scratch on a CPU: many small steps, in bfloat16 where the processor has it, which nearly doubles the speed."""

SEGMENTERS: dict[str, Architecture] = {
    "lraspp_mobilenet_v3_large": Architecture(3_221_538),
    "deeplabv3_mobilenet_v3_large": Architecture(11_029_328),
    "deeplabv3_resnet18": Architecture(),
    "deeplabv3_resnet34": Architecture(),
    "deeplabv3_resnet50": Architecture(42_004_074),
    "fcn_resnet18": Architecture(),
    "fcn_resnet34": Architecture(),
    "fcn_resnet50": Architecture(35_322_218),
    **{
        f"smp/{family}_{encoder}": Architecture(defaults=dict(SMP_DEFAULTS))
        for family in SMP_FAMILIES
        for encoder in SMP_ENCODERS
    },
}
"""torchvision's, two families of it also on small ResNets, and segmentation-models-pytorch's, of which any can be named
as smp/{architecture}_{encoder}."""

ARCHITECTURES: dict[str, dict[str, Architecture]] = {
    "classification": CLASSIFIERS,
    "detection": DETECTORS,
    "segmentation": SEGMENTERS,
}


def architecture_defaults(task: str, model: str) -> dict[str, Any]:
    """The values that suit this network better than the general defaults."""
    found = ARCHITECTURES[task].get(model)
    return dict(found.defaults) if found else {}
