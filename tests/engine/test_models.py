"""Networks: every architecture trains a step, and pretrained weights come from the cache or not at all."""

from pathlib import Path

import pytest
import torch
import torchvision

from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.tasks.classification import CLASSIFIERS
from trainingapp.engine.tasks.classification.networks import build_classifier

pytestmark = pytest.mark.usefixtures("no_network")


def _build(name: str, pretrained_from: Path | None = None, **options: object) -> torch.nn.Module:
    values: dict = {"class_count": 3, "image_size": 32, "dropout_rate": 0.0, **options}
    return build_classifier(name, pretrained_from=pretrained_from, **values)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_architecture_gives_a_logit_a_class_and_gradients(name: str) -> None:
    model = _build(name)
    logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny"])
def test_weights_load_into_torchvisions_own_model(name: str) -> None:
    plain = torchvision.models.get_model(name, num_classes=3)
    plain.load_state_dict(_build(name, dropout_rate=0.5).state_dict())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_dropout_is_that_of_the_configuration(name: str) -> None:
    images = torch.rand(4, 3, 64, 64)
    for rate, same in ((0.0, True), (0.5, False)):
        model = _build(name, dropout_rate=rate)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.0
        model.train()
        assert torch.equal(model(images), model(images)) == same


def test_weights_that_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        _build("resnet18", tmp_path)
    assert "download.pytorch.org" in str(caught.value)
    assert "turn pretrained off" in str(caught.value)


def test_weights_from_the_cache_get_a_new_head(tmp_path: Path) -> None:
    source = torchvision.models.mobilenet_v3_small()
    _put_into_cache(tmp_path, "mobilenet_v3_small", source)
    model = _build("mobilenet_v3_small", tmp_path)
    assert torch.equal(model.state_dict()["features.0.0.weight"], source.state_dict()["features.0.0.weight"])
    assert model.state_dict()["classifier.3.weight"].shape[0] == 3


def test_corrupted_weights_are_named(tmp_path: Path) -> None:
    path = _put_into_cache(tmp_path, "mobilenet_v3_small", torch.nn.Linear(1, 1))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsUnavailable, match=path.name):
        _build("mobilenet_v3_small", tmp_path)


def test_vit_interpolates_its_pretrained_positions_to_another_size(tmp_path: Path) -> None:
    source = torchvision.models.vit_b_16()
    _put_into_cache(tmp_path, "vit_b_16", source)
    model = _build("vit_b_16", tmp_path, image_size=64)
    positions = model.state_dict()["encoder.pos_embedding"]
    assert positions.shape == (1, 1 + (64 // 16) ** 2, 768)
    assert torch.equal(positions[:, 0], source.state_dict()["encoder.pos_embedding"][:, 0])
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)


def _put_into_cache(folder: Path, name: str, model: torch.nn.Module) -> Path:
    url = torchvision.models.get_model_weights(name)["DEFAULT"].url
    path = folder / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    return path
