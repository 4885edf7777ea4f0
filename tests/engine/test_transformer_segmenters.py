"""Transformers as segmenters: patches, exact resume, and the loss of Mask2Former by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.engine.test_segmentation import make_masked_dataset
from tests.helpers.images import make_run_dir
from tests.helpers.trainers import EndAfter, assert_same_result, change_order, curves, newest_content, train_here
from trainingapp.contract.dataset_index import IGNORED_PIXEL
from trainingapp.contract.errors import BadConfig
from trainingapp.engine import deterministic_operations
from trainingapp.engine.deterministic_operations import _DeterministicForms, entropy_of_rows
from trainingapp.engine.tasks.segmentation import from_transformers
from trainingapp.engine.tasks.segmentation.from_transformers import Mask2Former
from trainingapp.engine.tasks.segmentation.networks import build_segmenter, segmenter_head_prefixes

MASK2FORMER = "hf/mask2former_swin_tiny"
CONFIG: dict[str, Any] = {
    "task": "segmentation",
    "image_size": 64,
    "batch_size": 4,
    "epochs": 2,
    "augmentation": "strong",
    "ema_decay": 0.9,
    "autosave_minutes": 0,
}


@pytest.fixture(scope="module")
def masked_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_masked_dataset(tmp_path_factory.mktemp("masked"), train=8, val=3)


@pytest.fixture
def new_run(tmp_path: Path, masked_dir: Path) -> Callable[..., Path]:
    def make(name: str, **config: Any) -> Path:
        return make_run_dir(tmp_path / name, masked_dir, **{**CONFIG, **config})

    return make


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same kind with few weights."""
    swin = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
    queries = {"num_queries": 6, "encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2}
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "dim_feedforward": 32}
    monkeypatch.setattr(from_transformers, "SWINS", {"mask2former_swin_tiny": swin})
    monkeypatch.setattr(from_transformers, "QUERIES", {**queries, **sizes, "encoder_feedforward_dim": 32})
    former = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 16}
    former |= {"num_attention_heads": [1, 1, 2, 2]}
    monkeypatch.setattr(from_transformers, "SEGFORMERS", {"segformer_b0": former})


def _mask2former(classes: int = 3) -> Mask2Former:
    torch.manual_seed(0)
    network = build_segmenter(
        MASK2FORMER, class_count=classes, pretrained="none", weights_cache_dir=Path("unused"), image_size=64
    )
    assert isinstance(network, Mask2Former)
    return network


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("model", ["timm/test_vit", "hf/segformer_b0", MASK2FORMER])
def test_a_resumed_run_is_the_same(new_run: Callable[..., Path], model: str) -> None:
    """With points and dropped layers drawn at random, and with other loaders afterwards."""
    straight, cut = (new_run(name, model=model, num_workers=0) for name in ("straight", "cut"))
    assert train_here(straight) == "completed"
    assert train_here(cut, EndAfter(3)) == "paused"
    change_order(cut, num_workers=2)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    assert 0 <= curves(cut)["val", 4]["mean_iou"] <= 1
    norm = newest_content(cut)["normalisation"]
    assert norm["mean"] == ([0.5] * 3 if model == "timm/test_vit" else [0.485, 0.456, 0.406])


@pytest.mark.usefixtures("small")
def test_adapters_fit_into_a_segmenter(new_run: Callable[..., Path]) -> None:
    config = {"model": "timm/test_vit", "freeze": "backbone", "lora_rank": 2, "epochs": 1, "layer_decay": 0.7}
    run_dir = new_run("run", **config)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    before = newest_content(run_dir)["model_state_dict"]
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    after = newest_content(run_dir)["model_state_dict"]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert all(name.startswith("head.") or ".lora_" in name for name in changed)
    assert any(".lora_up" in name for name in changed)


@pytest.mark.usefixtures("small")
def test_mask2former_trains_and_gives_shares_of_classes() -> None:
    network = _mask2former()
    images, masks = torch.rand(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64), dtype=torch.uint8)
    masks[0, :8] = IGNORED_PIXEL
    loss, logits = network.loss_and_logits(images, masks)
    loss.backward()
    assert logits.shape == (2, 3, 64, 64)
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert all(".encoder.swin.layernorm." in name for name in without)  # of the classifier that Swin was made for
    backbone = [
        name for name, _ in network.named_parameters() if not name.startswith(segmenter_head_prefixes(MASK2FORMER))
    ]
    assert backbone
    assert all(name.startswith("network.model.pixel_level_module.encoder.") for name in backbone)
    # The logits are those of a prediction: the masks of the queries, weighted with their classes.
    network.eval()
    with torch.inference_mode():
        outputs = network.network(images)
        found = network(images).softmax(1)
    chances = outputs.class_queries_logits.softmax(-1)[..., :-1]
    shares = torch.einsum("nqk,nqhw->nkhw", chances, outputs.masks_queries_logits.sigmoid())
    shares = F.interpolate(shares, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(found, shares / shares.sum(1, keepdim=True))


@pytest.mark.usefixtures("small")
def test_deterministic_operations_give_the_same_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of runs on a GPU, where neither `grid_sample` nor the cross-entropy of queries has a deterministic form."""
    network = _mask2former().train()
    for module in network.modules():
        if hasattr(module, "drop_prob") or isinstance(module, torch.nn.Dropout):
            module.eval()
    for name, parameter in network.named_parameters():
        if "sampling_offsets.bias" in name:  # the first places are the centers of pixels, where the gradient jumps
            torch.nn.init.uniform_(parameter.data, 0.2, 0.8)
    images, masks = torch.rand(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64), dtype=torch.uint8)

    def computed() -> tuple[torch.Tensor, list[torch.Tensor]]:
        torch.manual_seed(5)  # the points at which masks are compared
        network.zero_grad()
        loss, _logits = network.loss_and_logits(images, masks)
        loss.backward()
        return loss.detach(), [one.grad.clone() for one in network.parameters() if one.grad is not None]

    expected_loss, expected = computed()
    called: list[torch.device] = []
    of_rows = []

    def replaced(device: torch.device) -> _DeterministicForms:
        called.append(device)
        return _DeterministicForms()

    def entropy(logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
        of_rows.append(logits.shape)
        return entropy_of_rows(logits, targets, **options)

    monkeypatch.setattr(deterministic_operations, "entropy_of_rows", entropy)

    monkeypatch.setattr(from_transformers, "deterministic_operations", replaced)
    loss, found = computed()
    assert called == [torch.device("cpu")]
    assert set(of_rows) == {(2, 4, 6)}
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("small")
def test_an_image_of_ignored_pixels_has_a_loss() -> None:
    masks = torch.full((1, 64, 64), IGNORED_PIXEL, dtype=torch.uint8)
    loss, _logits = _mask2former().loss_and_logits(torch.rand(1, 3, 64, 64), masks)
    assert torch.isfinite(loss)


def test_an_image_beside_the_patches_is_padded() -> None:
    """Patches of 14 pixels: what the last ones see of the image counts, and nothing is scaled."""
    torch.manual_seed(0)
    network = build_segmenter(
        "timm/vit_small_patch14_dinov2.lvd142m",
        class_count=3,
        pretrained="none",
        weights_cache_dir=Path("unused"),
        image_size=64,
    ).eval()
    assert network.get_parameter("backbone.pos_embed").shape[1] == 1 + 5 * 5
    image = torch.rand(1, 3, 64, 64)
    other = image.clone()
    other[..., -1, -1] = 0
    with torch.inference_mode():
        first, second = network(image), network(other)
        padded = network(F.pad(image, (0, 6, 0, 6)))
    assert first.shape == (1, 3, 64, 64)
    assert not torch.equal(first, second)
    torch.testing.assert_close(padded[..., :64, :64], first, atol=1e-5, rtol=1e-5)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainingapp.contract.architectures.find_spec", lambda name: None)
    with pytest.raises(BadConfig, match=r"cvstudio\[transformers\]"):
        _mask2former()
