"""The published weights that networks can start from: source, licence, size and hash (no torch).

A task names those of a network in the `published` of its descriptor. `tests/engine/test_published_weights.py` compares
the tables with the libraries. What is not in a table, such as any other network of timm, the engine asks the library
for when a run starts.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["whole", "backbone"]
"""Weights of the whole network but its last layers, or of the backbone alone."""

KINDS: tuple[Kind, ...] = ("whole", "backbone")
"""In the order in which `pretrained: auto` prefers them."""

Mode = Literal["download", "cache", "off"]
"""Whether weights are downloaded (the setting PUBLISHED_WEIGHTS)."""

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Published:
    """A file of weights. `name` identifies it; `place` is its path in the cache.

    `megabytes` (of 1,000,000 bytes) is 0 where it is not known. `digest` is the beginning of its SHA-256, or all of it;
    empty where it is not known before a download.
    """

    name: str
    address: str
    place: str
    licence: str = ""
    data: str = "ImageNet-1k"
    megabytes: float = 0.0
    digest: str = ""
    #: Where version 0.1 and the libraries keep it: a pattern below the cache. Empty: at `place`.
    earlier: str = ""

    @property
    def url(self) -> str:
        """The address, at the mirror of the hub that HF_ENDPOINT names where there is one."""
        mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
        return mirror + self.address.removeprefix(HUB) if mirror and self.address.startswith(HUB) else self.address

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def file(self) -> str:
        """The name of the file alone."""
        return self.place.rpartition("/")[2]

    @property
    def allows_commercial_use(self) -> bool:
        """Whether the licence leaves it open what a model that starts from the file is used for."""
        return not re.search(r"(^|[^a-z])(nc|non-?commercial|research)([^a-z]|$)", self.licence, re.IGNORECASE)

    def with_hash(self, sha256: str) -> "Published":
        """The same file, expected to have this hash."""
        return replace(self, digest=sha256)


def torchvision_file(file: str, megabytes: float, data: str = "ImageNet-1k") -> Published:
    """A file of torchvision, whose name ends with the beginning of its hash."""
    digest = file.rpartition(".")[0].rpartition("-")[2]
    address = f"https://download.pytorch.org/models/{file}"
    return Published(file, address, f"checkpoints/{file}", "BSD-3-Clause", data, megabytes, digest)


def hub_file(
    repo: str,
    *,
    licence: str,
    megabytes: float = 0.0,
    revision: str = "main",
    file: str = "model.safetensors",
    data: str = "ImageNet-1k",
    library: str = "huggingface",
) -> Published:
    """A file in a repository of Hugging Face. `library`: the folder of the cache that version 0.1 used."""
    folder = repo.replace("/", "--")
    earlier = f"{library}/models--{folder}/snapshots/{'*' if revision == 'main' else revision}/{file}"
    address = f"{HUB}/{repo}/resolve/{revision}/{file}"
    return Published(repo, address, f"hub/{folder}/{file}", licence, data, megabytes, earlier=earlier)


COCO = "COCO 2017"
VOC_LABELS = "COCO 2017 (Pascal VOC labels)"

#: torchvision's newest ImageNet weights of its classifiers; detectors have them as backbones.
CLASSIFIER_FILES = {
    "resnet18": torchvision_file("resnet18-f37072fd.pth", 46.8),
    "resnet34": torchvision_file("resnet34-b627a593.pth", 87.3),
    "resnet50": torchvision_file("resnet50-11ad3fa6.pth", 102.5),
    "mobilenet_v3_small": torchvision_file("mobilenet_v3_small-047dcff4.pth", 10.3),
    "mobilenet_v3_large": torchvision_file("mobilenet_v3_large-5c1a4163.pth", 22.1),
    "efficientnet_b0": torchvision_file("efficientnet_b0_rwightman-7f5810bc.pth", 21.4),
    "convnext_tiny": torchvision_file("convnext_tiny-983f1562.pth", 114.4),
    "vit_b_16": torchvision_file("vit_b_16-c867db91.pth", 346.3),
    "vgg16": torchvision_file("vgg16-397923af.pth", 553.4),
}

#: The first version, with which torchvision trained its own segmentation networks.
SEGMENTER_BACKBONES = {
    "resnet18": CLASSIFIER_FILES["resnet18"],
    "resnet34": CLASSIFIER_FILES["resnet34"],
    "resnet50": torchvision_file("resnet50-0676ba61.pth", 102.5),
    "mobilenet_v3_large": torchvision_file("mobilenet_v3_large-8738ca79.pth", 22.1),
}

DETECTOR_FILES = {
    "fcos_resnet50_fpn": torchvision_file("fcos_resnet50_fpn_coco-99b0c9b7.pth", 129.6, COCO),
    "retinanet_resnet50_fpn": torchvision_file("retinanet_resnet50_fpn_coco-eeacb38b.pth", 136.6, COCO),
    "retinanet_resnet50_fpn_v2": torchvision_file("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", 153.1, COCO),
    "fasterrcnn_resnet50_fpn": torchvision_file("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 167.5, COCO),
    "fasterrcnn_resnet50_fpn_v2": torchvision_file("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 175.2, COCO),
    "fasterrcnn_mobilenet_v3_large_fpn": torchvision_file("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", 77.8, COCO),
    "fasterrcnn_mobilenet_v3_large_320_fpn": torchvision_file(
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", 77.8, COCO
    ),
    "ssd300_vgg16": torchvision_file("ssd300_vgg16_coco-b556d3b4.pth", 142.6, COCO),
    "ssdlite320_mobilenet_v3_large": torchvision_file("ssdlite320_mobilenet_v3_large_coco-a79551df.pth", 14.1, COCO),
}

INSTANCE_FILES = {
    "maskrcnn_resnet50_fpn": torchvision_file("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 178.1, COCO),
    "maskrcnn_resnet50_fpn_v2": torchvision_file("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 185.8, COCO),
}

SEGMENTER_FILES = {
    "lraspp_mobilenet_v3_large": torchvision_file("lraspp_mobilenet_v3_large-d234d4ea.pth", 13.1, VOC_LABELS),
    "deeplabv3_mobilenet_v3_large": torchvision_file("deeplabv3_mobilenet_v3_large-fc3c493d.pth", 44.4, VOC_LABELS),
    "deeplabv3_resnet50": torchvision_file("deeplabv3_resnet50_coco-cd0a2569.pth", 168.3, VOC_LABELS),
    "fcn_resnet50": torchvision_file("fcn_resnet50_coco-1167a1af.pth", 141.6, VOC_LABELS),
}


def _timm(name: str, licence: str, megabytes: float, data: str = "ImageNet-1k") -> Published:
    return hub_file(f"timm/{name}", licence=licence, megabytes=megabytes, data=data, library="timm")


TIMM_FILES = {
    "timm/resnet10t": _timm("resnet10t.c3_in1k", "Apache-2.0", 21.8),
    "timm/mobilenetv4_conv_small": _timm("mobilenetv4_conv_small.e2400_r224_in1k", "Apache-2.0", 15.2),
    "timm/efficientnet_lite0": _timm("efficientnet_lite0.ra_in1k", "Apache-2.0", 18.8),
    "timm/regnety_002": _timm("regnety_002.pycls_in1k", "MIT", 12.7),
    "timm/convnext_atto": _timm("convnext_atto.d2_in1k", "Apache-2.0", 14.8),
    "timm/convnextv2_atto": _timm("convnextv2_atto.fcmae_ft_in1k", "CC-BY-NC-4.0", 14.8),
    "timm/convnextv2_nano": _timm("convnextv2_nano.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", 62.5, "ImageNet-22k"),
    "timm/efficientnetv2_rw_t": _timm("efficientnetv2_rw_t.ra2_in1k", "Apache-2.0", 55.1),
    "timm/vit_tiny_patch16_224": _timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "Apache-2.0", 22.9, "ImageNet-21k"),
    **{
        f"timm/{name}": _timm(name, licence, megabytes, data)
        for name, licence, megabytes, data in (
            ("vit_small_patch14_dinov2.lvd142m", "Apache-2.0", 88.2, "LVD-142M"),
            ("vit_small_patch14_reg4_dinov2.lvd142m", "Apache-2.0", 88.2, "LVD-142M"),
            ("vit_base_patch14_dinov2.lvd142m", "Apache-2.0", 346.3, "LVD-142M"),
            ("vit_small_patch16_dinov3.lvd1689m", "DINOv3-license", 86.4, "LVD-1689M"),
            ("vit_base_patch16_dinov3.lvd1689m", "DINOv3-license", 342.6, "LVD-1689M"),
            ("convnext_tiny.dinov3_lvd1689m", "DINOv3-license", 111.3, "LVD-1689M"),
        )
    },
}


def _coco_model(repo: str, megabytes: float) -> Published:
    return hub_file(repo, licence="Apache-2.0", megabytes=megabytes, data=COCO)


TRANSFORMER_FILES = {
    "hf/rtdetrv2_r18": _coco_model("PekingU/rtdetr_v2_r18vd", 80.9),
    "hf/rtdetrv2_r34": _coco_model("PekingU/rtdetr_v2_r34vd", 126),
    "hf/rtdetrv2_r50": _coco_model("PekingU/rtdetr_v2_r50vd", 172),
    "hf/dfine_n": _coco_model("ustc-community/dfine-nano-coco", 15.3),
    "hf/dfine_s": _coco_model("ustc-community/dfine-small-coco", 41.5),
    "hf/dfine_m": _coco_model("ustc-community/dfine-medium-coco", 78.7),
    "hf/rfdetr_nano": _coco_model("Roboflow/rf-detr-nano", 122),
    "hf/rfdetr_small": _coco_model("Roboflow/rf-detr-small", 128),
    "hf/rfdetr_medium": _coco_model("Roboflow/rf-detr-medium", 135),
}
"""Of the detectors of the library transformers, by the people who trained them."""


def _smp(encoder: str, revision: str, megabytes: float, licence: str) -> Published:
    return hub_file(f"smp-hub/{encoder}.imagenet", revision=revision, megabytes=megabytes, licence=licence)


SMP_FILES = {
    "resnet18": _smp("resnet18", "3f2325ff978283d47aa6a1d6878ca20565622683", 44.7, "BSD-3-Clause"),
    "resnet34": _smp("resnet34", "7a57b34f723329ff020b3f8bc41771163c519d0c", 85.2, "BSD-3-Clause"),
    "mobilenet_v2": _smp("mobilenet_v2", "e67aa804e17f7b404b629127eabbd224c4e0690b", 9.0, "BSD-3-Clause"),
    "efficientnet-b0": _smp("efficientnet-b0", "1bbe7ecc1d5ea1d2058de1a2db063b8701aff314", 16.2, "Apache-2.0"),
}


def no_weights(model: str) -> Mapping[Kind, Published]:
    """Those of a task whose networks start from scratch."""
    return {}


def classifier_weights(model: str) -> Mapping[Kind, Published]:
    """Those of a classifier: its last layer is replaced, so they are of the backbone."""
    found = TIMM_FILES.get(model) or CLASSIFIER_FILES.get(model)
    return {"backbone": found} if found else {}


def detector_weights(model: str) -> Mapping[Kind, Published]:
    """Those of a detector of torchvision, of one on a backbone of it, or of one of transformers."""
    if model in TRANSFORMER_FILES:
        return {"whole": TRANSFORMER_FILES[model]}
    found: dict[Kind, Published] = {}
    if whole := DETECTOR_FILES.get(model) or INSTANCE_FILES.get(model):
        found["whole"] = whole
    backbone = next((name for name in CLASSIFIER_FILES if name in model), None)
    return found | {"backbone": CLASSIFIER_FILES[backbone]} if backbone else found


def segmenter_weights(model: str) -> Mapping[Kind, Published]:
    """Those of a segmentation network of torchvision, of the encoder of one of segmentation-models-pytorch, or of a
    backbone of timm."""
    if model in TIMM_FILES:
        return {"backbone": TIMM_FILES[model]}
    if model.startswith("smp/"):
        name = model.removeprefix("smp/").partition("_")[2]
        encoder = TIMM_FILES.get("timm/" + name.removeprefix("tu-")) if name.startswith("tu-") else SMP_FILES.get(name)
        return {"backbone": encoder} if encoder else {}
    found: dict[Kind, Published] = {"whole": SEGMENTER_FILES[model]} if model in SEGMENTER_FILES else {}
    backbone = SEGMENTER_BACKBONES.get(model.partition("_")[2])
    return found | {"backbone": backbone} if backbone else found
