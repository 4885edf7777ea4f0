"""Training that keeps the backbone: adapters (LoRA) and linear probes; what is saved is a plain network."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from tests.helpers.library_weights import make_card
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, events_of, newest_content, train_here
from trainingapp.contract.config import changed_by_continuing, parse_config
from trainingapp.contract.errors import BadConfig
from trainingapp.engine.adapters import ADAPTERS, add_adapters, merged
from trainingapp.engine.freezing import set_training
from trainingapp.engine.layers import layer_depths
from trainingapp.engine.model_files import take_checkpoint
from trainingapp.engine.networks import load_network
from trainingapp.engine.optim import make_optimizer
from trainingapp.engine.tasks.classification.networks import build_classifier, head_prefix
from trainingapp.engine.tasks.classification.task import ClassificationTask
from trainingapp.engine.tasks.task import IMAGENET, BaseTask
from trainingapp.engine.timm_facts import patch_remarks, published_remarks
from trainingapp.engine.transfer import checkpoint_weights, load_matching

VIT = "timm/test_vit"
LORA: dict[str, Any] = {
    "model": VIT,
    "freeze": "backbone",
    "lora_rank": 2,
    "image_size": 32,
    "batch_size": 11,
    "epochs": 2,
    "learning_rate": 0.01,
    "autosave_minutes": 0,
    "dropout_rate": 0.2,
    "ema_decay": 0.5,
}


def _network(name: str = VIT, size: int = 32) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(name, class_count=3, image_size=size, dropout_rate=0.0, pretrained_from=None)


def _adapted() -> nn.Module:
    network = _network()
    add_adapters(network, (head_prefix(network),), 2)
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.endswith("lora_up"):
            nn.init.normal_(parameter, std=0.1)
    return network


# Adapters


def test_a_weight_that_is_used_without_calling_its_layer_is_the_merged_one() -> None:
    """As EVA-02 does."""
    layer = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    add_adapters(layer, ("1.",), 3)
    adapted = layer[0]
    nn.init.normal_(adapted.lora_up)
    features = torch.rand(5, 6)
    used = nn.functional.linear(features, adapted.weight, adapted.bias)
    torch.testing.assert_close(used, adapted(features), atol=1e-5, rtol=1e-5)
    used.sum().backward()
    assert adapted.lora_up.grad is not None
    assert "0.weight" in layer.state_dict()


def test_the_merged_network_computes_the_same() -> None:
    adapted, plain = _adapted(), _network()
    images = torch.rand(2, 3, 32, 32)
    before = plain.eval()(images)
    plain.load_state_dict(merged(adapted.state_dict()))
    outputs = adapted.eval()(images)
    assert (outputs - before).abs().max() > 1e-3
    torch.testing.assert_close(plain(images), outputs, atol=1e-5, rtol=1e-4)


def test_adapters_begin_without_effect_and_get_gradients() -> None:
    network = _network()
    images = torch.rand(2, 3, 32, 32)
    before = network.eval()(images)
    prefixes = (head_prefix(network),)
    add_adapters(network, prefixes, 4)
    assert torch.equal(network.eval()(images), before)
    set_training(network, prefixes, frozen=True)
    network(images).square().sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    adapters = {name for name, _ in network.named_parameters() if name.endswith(ADAPTERS)}
    assert trained == adapters | {f"{prefixes[0]}weight", f"{prefixes[0]}bias"}
    assert all(parameter.shape[0] == 4 for name, parameter in network.named_parameters() if name.endswith("lora_down"))


def test_a_network_without_linear_layers_is_refused() -> None:
    network = _network("resnet18")
    with pytest.raises(BadConfig, match="no linear layers"):
        add_adapters(network, (head_prefix(network),), 4)


def test_adapters_alone_change_and_a_resumed_run_is_the_same(new_run) -> None:
    straight, cut = new_run("straight", **LORA), new_run("cut", **LORA)
    assert train_here(straight) == "completed"
    assert train_here(cut, EndAfter(3)) == "paused"
    before = newest_content(cut)["model_state_dict"]
    change_order(cut, num_workers=2)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    after = newest_content(cut)["model_state_dict"]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {name for name in after if name.endswith(ADAPTERS) or name.startswith("head.")}


def test_a_run_with_adapters_becomes_a_plain_model_and_a_start(new_run, tmp_path: Path) -> None:
    run_dir = new_run(**LORA)
    assert train_here(run_dir) == "completed"
    content = newest_content(run_dir)
    path = sorted((run_dir / "checkpoints").glob("epoch_*.pt"))[-1]
    card = make_card("classification", VIT, 32, content["classes"]) | {"config": content["config"]}
    made = take_checkpoint(card, path, tmp_path)
    assert made["report"]["is_whole"]
    assert made["normalisation"] == content["normalisation"]
    plain = load_network(card, tmp_path / "weights.safetensors")
    assert not any(name.endswith(ADAPTERS) for name in plain.state_dict())
    adapted = build_classifier(VIT, class_count=2, image_size=32, dropout_rate=0.0, pretrained_from=None)
    add_adapters(adapted, (head_prefix(adapted),), 2)
    adapted.load_state_dict(content["ema_state_dict"])
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(plain(images), adapted.eval()(images), atol=1e-5, rtol=1e-4)
    # Of the next run with adapters, which begin anew, the weights below are the merged ones.
    weights = checkpoint_weights(path)
    report = load_matching(adapted, weights)
    assert not report.missing
    assert not report.unused
    assert torch.equal(adapted.state_dict()["blocks.0.attn.qkv.weight"], plain.state_dict()["blocks.0.attn.qkv.weight"])


def test_a_fork_keeps_the_rank_and_with_it_the_frozen_backbone() -> None:
    stored = parse_config(LORA).model_dump(mode="json")
    assert changed_by_continuing("classification", stored, {**stored, "learning_rate": 1.0}) == []
    assert changed_by_continuing("classification", stored, {**stored, "lora_rank": 4}) == ["lora_rank"]
    assert changed_by_continuing("classification", stored, {**stored, "freeze": "none"}) == ["lora_rank"]
    plain = {**stored, "lora_rank": 0}
    assert changed_by_continuing("classification", plain, {**plain, "freeze": "none"}) == []


def test_a_linear_probe_keeps_every_bit_of_the_backbone(new_run) -> None:
    """Norm statistics too, and with layers that are dropped at random."""
    config = {**LORA, "lora_rank": 0, "model": "timm/test_resnet", "ema_decay": 0.0, "keep_checkpoints": 10}
    run_dir = new_run(**config)
    assert train_here(run_dir) == "completed"
    first, last = (
        {**torch_content["model_state_dict"]}
        for torch_content in (_content(run_dir, "epoch_1.pt"), newest_content(run_dir))
    )
    assert any(name.endswith("running_mean") for name in first)
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed == {"fc.weight", "fc.bias"}


def _content(run_dir: Path, file: str) -> dict[str, Any]:
    from trainingapp.engine.checkpoint import load_checkpoint

    content: dict[str, Any] = load_checkpoint(run_dir / "checkpoints" / file)
    return content


# Layer-wise learning rates


def _factors(network: nn.Module, **config: Any) -> dict[str, float]:
    values = parse_config({"learning_rate": 0.1, "weight_decay": 0.3, **config})
    optimizer = make_optimizer(network, values, (head_prefix(network),))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(p)]: group["lr_factor"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found) == len(names)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0) or "token" in names[id(parameter)]
    return found


def test_rates_fall_by_the_layers_of_a_transformer() -> None:
    network = _network("timm/vit_tiny_patch16_224")
    found = _factors(network, layer_decay=0.5, backbone_lr_factor=0.8)
    assert (found["head.weight"], found["head.bias"]) == (1.0, 1.0)
    for block in range(12):
        assert found[f"blocks.{block}.mlp.fc1.weight"] == pytest.approx(0.8 * 0.5 ** (12 - block))
    stem = [found[name] for name in ("patch_embed.proj.weight", "pos_embed", "cls_token")]
    assert stem == pytest.approx([0.8 * 0.5**13] * 3)
    assert found["norm.weight"] == found["blocks.11.norm1.bias"]


def test_rates_equal_those_of_timm() -> None:
    network = timm.create_model("test_vit", num_classes=3)
    ours = _factors(network, layer_decay=0.7)
    theirs = param_groups_layer_decay(network, weight_decay=0.3, layer_decay=0.7)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    expected = {names[id(p)]: group["lr_scale"] for group in theirs for p in group["params"]}
    assert ours == pytest.approx(expected)


def test_a_network_of_another_library_has_its_blocks_as_layers() -> None:
    network = _network("resnet18")
    depths = layer_depths(network, [name for name, _ in network.named_parameters() if not name.startswith("fc.")])
    assert [depths[name] for name in ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer4.1.bn2.bias")] == [
        0,
        0,
        1,
        8,
    ]
    assert depths["layer2.0.downsample.0.weight"] == depths["layer2.0.conv2.weight"] == 3
    assert _factors(network, layer_decay=0.5)["layer4.1.conv1.weight"] == 0.5


def test_without_layer_decay_the_groups_are_those_of_before() -> None:
    network = _network("resnet18")
    assert len(make_optimizer(network, parse_config({})).param_groups) == 2
    assert len(make_optimizer(network, parse_config({"backbone_lr_factor": 0.5}), ("fc.",)).param_groups) == 4


def test_runs_with_layer_decay_resume_exactly(new_run) -> None:
    config = {**LORA, "lora_rank": 0, "freeze": "none", "layer_decay": 0.7, "optimizer": "SGD"}
    straight, cut = new_run("straight", **config), new_run("cut", **config)
    assert train_here(straight) == "completed"
    assert train_here(cut, EndAfter(5)) == "paused"
    change_order(cut)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)


# What timm knows


def test_a_run_normalises_as_its_network(new_run) -> None:
    run_dir = new_run(**{**LORA, "epochs": 1})
    assert train_here(run_dir, EndAfter(1)) == "paused"
    assert newest_content(run_dir)["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_a_run_of_the_version_before_keeps_the_statistics_of_imagenet(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, cut = (new_run(name, **{**LORA, "epochs": 1}) for name in ("straight", "cut"))
    with monkeypatch.context() as before:
        before.setattr(ClassificationTask, "normalisation_of", BaseTask.normalisation_of)
        assert train_here(straight) == "completed"
        assert train_here(cut, EndAfter(2)) == "paused"
    change_order(cut)
    assert train_here(cut) == "completed"
    assert newest_content(cut)["normalisation"] == IMAGENET
    assert_same_result(cut, straight)


def test_what_timm_knows_is_told() -> None:
    (patches,) = patch_remarks("vit_small_patch14_dinov2.lvd142m", 256)
    assert (patches.params["rest"], patches.params["fitting"]) == (4, 224)
    assert patch_remarks("vit_small_patch14_dinov2.lvd142m", 224) == patch_remarks("resnet10t", 33) == []
    size, licence = published_remarks("vit_small_patch16_dinov3.lvd1689m", 128)
    assert (size.params["published"], licence.params["licence"]) == (256, "dinov3-license")
    assert published_remarks("vit_small_patch14_dinov2.lvd142m", 448) == []


def test_remarks_are_logged_when_a_run_starts(new_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.engine.timm_facts.patch_size", lambda name: 14)
    run_dir = new_run(**LORA)
    assert train_here(run_dir, EndAfter(0)) == "paused"
    assert any("does not see the last 4" in event["message"] for event in events_of(run_dir, "log"))


def test_a_network_that_ignores_the_size_is_refused() -> None:
    with pytest.raises(BadConfig, match="cannot be built for images of 64 pixels"):
        _network("timm/efficientformer_l1", 64)
