"""Segmentation networks: each gives logits for every pixel and trains; weights come from the cache or not at all."""

from pathlib import Path

import pytest
import torch
import torchvision

from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.tasks.segmentation import SEGMENTERS
from trainingapp.engine.tasks.segmentation.losses import pixel_loss
from trainingapp.engine.tasks.segmentation.networks import build_segmenter, segmenter_head_prefixes

pytestmark = pytest.mark.usefixtures("no_network")

#: One of each library, family and backbone; the rest of the table are combinations of them.
TYPICAL = [
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet18",
    "fcn_resnet34",
    "smp/unet_resnet18",
    "smp/unetplusplus_mobilenet_v2",
    "smp/fpn_resnet34",
    "smp/deeplabv3plus_mobilenet_v2",
    "smp/segformer_efficientnet-b0",
    "smp/fpn_tu-convnextv2_atto",
    "timm/vit_tiny_patch16_224",
    "timm/vit_small_patch14_dinov2.lvd142m",
    "timm/vit_small_patch16_dinov3.lvd1689m",
    "hf/segformer_b0",
]


def _build(name: str, folder: Path = Path("unused"), *, pretrained: str = "none", classes: int = 3) -> torch.nn.Module:
    return build_segmenter(name, class_count=classes, pretrained=pretrained, weights_cache_dir=folder)


@pytest.mark.parametrize("name", TYPICAL)
def test_network_gives_logits_of_every_pixel_and_trains(name: str) -> None:
    assert name in SEGMENTERS
    model = _build(name)
    torch.use_deterministic_algorithms(True)
    try:
        logits = model(torch.rand(2, 3, 64, 64))
        pixel_loss("combined", logits, torch.randint(0, 3, (2, 64, 64), dtype=torch.uint8)).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert logits.shape == (2, 3, 64, 64)
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert len(trained) > 0.95 * len(list(model.parameters()))  # some encoders have an unused last layer


@pytest.mark.parametrize("name", TYPICAL)
def test_head_and_backbone_are_distinguished(name: str) -> None:
    prefixes = segmenter_head_prefixes(name)
    names = [parameter for parameter, _ in _build(name).named_parameters()]
    backbone = [parameter for parameter in names if not parameter.startswith(prefixes)]
    assert {parameter.partition(".")[0] for parameter in backbone} <= {"backbone", "encoder", "network"}
    assert 0 < len(backbone) < len(names)


@pytest.mark.parametrize("name", [name for name in SEGMENTERS if name not in TYPICAL])
def test_every_name_of_the_table_builds(name: str) -> None:
    with torch.device("meta"):
        assert _build(name)


def test_weights_load_into_torchvisions_own_model() -> None:
    plain = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=3)
    ours = _build("lraspp_mobilenet_v3_large").eval()
    plain.load_state_dict(ours.state_dict())
    images = torch.rand(1, 3, 64, 96)
    assert torch.equal(plain.eval()(images)["out"], ours(images))


@pytest.mark.parametrize(
    ("name", "backbone"), [("lraspp_mobilenet_v3_large", "mobilenet_v3_large"), ("fcn_resnet18", "resnet18")]
)
def test_backbone_weights_from_the_cache(tmp_path: Path, name: str, backbone: str) -> None:
    source = torchvision.models.get_model(backbone)
    _put_into_cache(tmp_path, torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url, source)
    ours = _build(name, tmp_path, pretrained="backbone").state_dict()
    first = "features.0.0.weight" if "mobilenet" in backbone else "conv1.weight"
    place = f"backbone.{first.removeprefix('features.')}"
    assert torch.equal(ours[place], source.state_dict()[first])


def test_whole_weights_from_the_cache_but_the_last_layer(tmp_path: Path) -> None:
    source = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None)
    url = torchvision.models.get_model_weights("lraspp_mobilenet_v3_large")["DEFAULT"].url
    _put_into_cache(tmp_path, url, source)
    ours = _build("lraspp_mobilenet_v3_large", tmp_path, pretrained="whole").state_dict()
    assert torch.equal(ours["classifier.cbr.0.weight"], source.state_dict()["classifier.cbr.0.weight"])
    assert ours["classifier.low_classifier.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("name", "host"),
    [("deeplabv3_resnet18", "download.pytorch.org"), ("smp/unet_resnet18", "huggingface.co")],
)
def test_weights_that_cannot_be_downloaded(
    tmp_path: Path, name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it tries for half a minute
    with pytest.raises(WeightsUnavailable) as caught:
        _build(name, tmp_path, pretrained="backbone")
    assert host in str(caught.value)
    assert "turn pretrained off" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pretrained", "says"),
    [
        ("smp/unet_resnet18", "whole", "no published weights of the whole model"),
        ("fcn_resnet18", "whole", "no published weights of the whole model"),
        ("smp/nonet_resnet18", "none", "has no architecture named nonet"),
        ("smp/unet_nothing", "none", "unet_nothing cannot be built"),
        ("timm/vit_tiny_patch16_224", "whole", "no published weights of the whole model"),
        ("timm/resnet10t", "none", "smp/unet_tu-resnet10t"),
        ("timm/no_network", "none", "has no network named no_network"),
        ("hf/segformer_b0", "backbone", "license excludes commercial use"),
        ("hf/mask2former_swin_tiny", "backbone", "no published ImageNet weights"),
        ("hf/none", "none", "has no architecture named none"),
    ],
)
def test_unavailable_weights_are_named(tmp_path: Path, name: str, pretrained: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        _build(name, tmp_path, pretrained=pretrained)


def _put_into_cache(folder: Path, url: str, model: torch.nn.Module) -> None:
    path = folder / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
