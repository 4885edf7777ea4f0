"""The detectors of transformers: losses as the library's, gradients, exact resume, published weights and exports.

Most tests are about small networks of each family (`tests/helpers/tiny_transformers.py`).
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.engine.test_detection import HARD, boxes_dir  # noqa: F401
from tests.helpers.hub import put
from tests.helpers.images import make_run_dir
from tests.helpers.library_weights import make_card, make_weights
from tests.helpers.tiny_transformers import TINY, tiny_transformers  # noqa: F401
from tests.helpers.trainers import EndAfter, assert_bit_equal, assert_same_result, change_order, events_of, train_here
from trainingapp.contract.architectures import OPTIONAL_LIBRARIES, missing_library
from trainingapp.contract.config import config_fields, parse_config
from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.export_options import ExportOptions
from trainingapp.contract.messages import MessageError
from trainingapp.contract.prediction import prepared, suppressed
from trainingapp.contract.published_weights import TRANSFORMER_FILES
from trainingapp.contract.tasks.detection import TAKES_SIZES
from trainingapp.contract.tasks.transformer_detectors import TRANSFORMER_DETECTORS
from trainingapp.engine.deterministic_operations import _DeterministicForms, sampled
from trainingapp.engine.export import differences, drawn_images
from trainingapp.engine.networks import load_plain_network
from trainingapp.engine.tasks.detection import from_transformers
from trainingapp.engine.tasks.detection.from_transformers import published_state
from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.set_losses import bin_losses, bin_values, share_of_pairs, teaching_losses
from trainingapp.engine.tasks.detection.losses.set_matching import Pairs, SetTargets, matched_lists, united
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded
from trainingapp.engine.tasks.detection.networks import (
    LOSS_NAMES,
    DetectorOptions,
    build_detector,
    head_prefixes,
    loss_parts,
)
from trainingapp.engine.tasks.detection.plain_outputs import export_detector, plain_detector
from trainingapp.engine.tasks.detection.transformer_configs import (
    CLASSES_OF_COCO,
    VARIANTS,
    library_config,
    query_count,
)
from trainingapp.engine.tasks.detection.validation_loss import boxes_and_losses

SIZE = 64
NAMES = list(TINY)
RT_DETR, D_FINE, RF_DETR = NAMES

pytestmark = pytest.mark.usefixtures("tiny_transformers")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library adds up numbers of objects over a process group, which a run in this process may have left behind."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)


def _build(name: str, size: int = SIZE, *, class_count: int = 3, noise: float = 0.0, **options: Any) -> Any:
    """The network; `noise` is added to its weights, so that no two queries find the same."""
    torch.manual_seed(0)
    chosen = {"pretrained": "none", "weights_from": None} | {
        key: options.pop(key) for key in ("pretrained", "weights_from") if key in options
    }
    made = build_detector(name, DetectorOptions(class_count, size, 0.0, 1.0, 7, **options), **chosen)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return made


def _images_and_targets() -> tuple[torch.Tensor, PaddedTargets]:
    """Three images, one of them without an object."""
    boxes = [torch.tensor([[10.0, 10, 40, 50], [40, 20, 60, 60]]), torch.zeros(0, 4), torch.tensor([[5.0, 5, 60, 60]])]
    labels = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([1])]
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return images, PaddedTargets.of(*padded(boxes, labels), [2, 0, 1], 0)


def _library_labels(targets: SetTargets) -> list[dict[str, torch.Tensor]]:
    objects = zip(targets.boxes_NM4, targets.labels_NM, targets.counts, strict=True)
    return [{"boxes": boxes[:count], "class_labels": labels[:count]} for boxes, labels, count in objects]


# Losses


@pytest.mark.parametrize("name", [RT_DETR, RF_DETR])
def test_the_loss_and_its_gradient_are_those_of_the_library(name: str) -> None:
    images, targets = _images_and_targets()
    model = _build(name, noise=0.05).train()
    torch.manual_seed(1)
    ours = torch.stack(list(detector_losses(model, images, targets).values())).sum()
    mine = torch.autograd.grad(ours, list(model.parameters()))
    labels = _library_labels(SetTargets.of(targets, SIZE))
    torch.manual_seed(1)
    theirs = model.network(model.transform.normalised(images), labels=labels).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for own, other in zip(mine, torch.autograd.grad(theirs, list(model.parameters())), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [RT_DETR, D_FINE])
@pytest.mark.parametrize("side", [32, 96])
def test_images_of_another_size_have_a_loss(name: str, side: int) -> None:
    """As multi-scale training gives them."""
    assert TAKES_SIZES.holds({"model": name})
    _images, targets = _images_and_targets()
    scaled = replace(targets, boxes_NM4=targets.boxes_NM4 * (side / SIZE))
    model = _build(name).train()
    loss = torch.stack(list(detector_losses(model, torch.randn(3, 3, side, side), scaled).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)


def test_the_distributions_of_d_fine_lose_what_they_lose_in_the_library() -> None:
    from transformers.loss.loss_d_fine import DFineLoss

    images, targets = _images_and_targets()
    model, objects = _build(D_FINE, noise=0.05).eval(), SetTargets.of(targets, SIZE)
    found = model.outputs(images, objects).predictions
    lists = matched_lists(found.logits_LNQC, found.boxes_LNQ4, objects)
    pairs = Pairs.of(lists, objects.object_count, images.device)
    bins = bin_losses(found.bins_LNQ4B, found.references_LNQ4, found.boxes_LNQ4, pairs, objects, up=0.5, scale=4.0)
    criterion = DFineLoss(model.network.config)
    labels = _library_labels(objects)
    scores = found.logits_LNQC[-1].sigmoid().amax(dim=-1)
    for layer, images_of_layer in enumerate(lists):
        indices = [tuple(torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T) for pairs in images_of_layer]
        outputs = {
            "pred_boxes": found.boxes_LNQ4[layer],
            "pred_corners": found.bins_LNQ4B[layer].flatten(-2),
            "ref_points": found.references_LNQ4[layer],
            "teacher_corners": found.bins_LNQ4B[-1].flatten(-2),
            "teacher_logits": found.logits_LNQC[-1],
        }
        theirs = criterion.loss_local(outputs, labels, indices, objects.object_count)
        torch.testing.assert_close(bins[layer], 0.15 * theirs["loss_fgl"], rtol=1e-4, atol=1e-5)
        assert float(bins[layer]) > 0
        if layer == len(lists) - 1:
            continue
        own = Pairs.of([images_of_layer], objects.object_count, images.device)
        taught = teaching_losses(
            found.bins_LNQ4B[layer : layer + 1],
            found.boxes_LNQ4[layer : layer + 1],
            found.bins_LNQ4B[-1],
            scores,
            own,
            objects,
            share_of_pairs(own, scores.shape[1]),
        )
        torch.testing.assert_close(taught[0], 1.5 * theirs["loss_ddf"], rtol=1e-3, atol=1e-5)
        assert float(taught[0]) > 0


def test_sampling_by_rows_is_bilinear_sampling_with_its_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, 5, 7, generator=draw, dtype=torch.float64).float().requires_grad_()
    places = (2.5 * torch.rand(2, 11, 4, 2, generator=draw) - 1.25).requires_grad_()  # also outside of the map
    weights = torch.randn(2, 3, 11, 4, generator=draw)
    ours, theirs = sampled(values, places), F.grid_sample(values, places, align_corners=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for own, other in zip(
        *(torch.autograd.grad((one * weights).sum(), [values, places]) for one in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    with _DeterministicForms():
        assert torch.equal(F.grid_sample(values, places, mode="bilinear", align_corners=False), ours)


def test_bins_are_those_of_the_library() -> None:
    from transformers.models.d_fine.modeling_d_fine import weighting_function

    torch.testing.assert_close(
        bin_values(33, 0.5, 4.0, torch.device("cpu")), weighting_function(32, torch.tensor([0.5]), torch.tensor([4.0]))
    )


def test_each_query_keeps_the_object_that_it_was_given_most_often() -> None:
    first, second, third = [(0, 0), (1, 1)], [(0, 1), (2, 0)], [(0, 1), (1, 1)]
    assert united([[first], [second], [third]]) == [[(0, 1), (1, 1), (2, 0)]]
    assert united([[[(4, 1)]], [[(4, 0)]]]) == [[(4, 0)]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("amp", [False, True])
def test_a_step_reaches_every_parameter_that_is_trained(name: str, amp: bool) -> None:
    images, targets = _images_and_targets()
    model = _build(name).train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    reached: set[str] = set()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)  # more can leave a layer of so small a network dead
    for _step in range(3):  # heads that begin with zeros hide what is before them
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            losses = detector_losses(model, images, targets)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        assert [LOSS_NAMES[part] for part in losses] == list(losses)
        assert sorted(losses) == sorted(loss_parts(name))
        torch.stack(list(losses.values())).sum().backward()
        reached |= {key for key, value in model.named_parameters() if value.grad is not None and value.grad.any()}
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert [key for key, _value in model.named_parameters() if key not in reached] == []
    assert all(torch.isfinite(value).all() for value in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_images_without_an_object_have_a_loss(name: str) -> None:
    images, _targets = _images_and_targets()
    none = [torch.zeros(0, 4)] * 3
    targets = PaddedTargets.of(*padded(none, [torch.zeros(0, dtype=torch.int64)] * 3), [0, 0, 0], 0)
    losses = detector_losses(_build(name).train(), images, targets)
    assert float(losses["loss_class"]) > 0
    assert float(losses["loss_box"]) == float(losses["loss_giou"]) == 0
    torch.stack(list(losses.values())).sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_validation_loss_denoises_too_and_changes_nothing(name: str) -> None:
    images, targets = _images_and_targets()
    model = _build(name, noise=0.05).eval()
    with torch.inference_mode():
        alone = model(images)
        before = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
        boxes, losses = boxes_and_losses(model, images, targets, seed=3)
        again = boxes_and_losses(model, images, targets, seed=3)
        other = boxes_and_losses(model, images, targets, seed=4)[1]
        assert_bit_equal(boxes, alone)
        assert_bit_equal(again, (boxes, losses))
        assert_bit_equal((torch.get_rng_state(), model.state_dict()), before)
    assert not any(module.training or "forward" in vars(module) for module in model.modules())
    assert sorted(losses) == sorted(loss_parts(name))
    if name != RF_DETR:
        assert float(losses["loss_denoising"]) > 0
        assert float(other["loss_denoising"]) != float(losses["loss_denoising"])
    # What the library caches in evaluation serves training too.
    torch.stack(list(detector_losses(model.train(), images, targets).values())).sum().backward()


# Networks


@pytest.mark.parametrize("name", NAMES)
def test_the_most_confident_boxes_are_found_within_the_image(name: str) -> None:
    images, _targets = _images_and_targets()
    model = _build(name, noise=0.05).eval()
    with torch.inference_mode():
        found = model(images)
        boxes_NQ4, scores_NQC = model.boxes_and_scores(images)
    assert len(found) == 3
    for one, scores_QC in zip(found, scores_NQC, strict=True):
        assert one["boxes"].shape == (7, 4)
        assert ((one["boxes"] >= 0) & (one["boxes"] <= SIZE)).all()
        assert torch.equal(one["scores"], scores_QC.flatten().sort(descending=True).values[:7])
        assert set(one["labels"].tolist()) <= {0, 1, 2}
    assert boxes_NQ4.shape[:2] == scores_NQC.shape[:2]


def test_published_images_are_normalized_as_the_authors_do() -> None:
    images = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = (images - mean) / std
    torch.testing.assert_close(_build(RT_DETR).transform.normalised(normalised), images)
    torch.testing.assert_close(_build(D_FINE).transform.normalised(normalised), images)
    assert torch.equal(_build(RF_DETR).transform.normalised(normalised), normalised)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layers_are_those_of_the_backbone(name: str) -> None:
    model = _build(name)
    prefixes = head_prefixes(model)
    frozen = {key for key, _value in model.named_parameters() if not key.startswith(prefixes)}
    body = "network.model.backbone.backbone." if name == RF_DETR else "network.model.backbone.model."
    assert frozen == {key for key, _value in model.named_parameters() if key.startswith(body)}
    assert frozen
    assert ("network.model.backbone.projector." in prefixes) == (name == RF_DETR)


def test_constants_of_d_fine_are_no_parameters() -> None:
    names = [key for key, _value in _build(D_FINE).named_parameters()]
    assert not [key for key in names if key.endswith((".up", ".reg_scale"))]


def test_small_images_have_fewer_queries() -> None:
    assert query_count(TINY[RT_DETR], SIZE) == 20
    assert query_count(TINY[RF_DETR], 32) == 4


def test_published_configurations_have_all_queries_at_their_size() -> None:
    for name, architecture in TRANSFORMER_DETECTORS.items():
        if name not in TINY:
            assert query_count(VARIANTS[name], int(str(architecture.defaults["image_size"]))) == 300


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "hf/dfine_s" else pytest.mark.long) for name in TRANSFORMER_DETECTORS],
)
def test_the_published_networks_are_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many parameters as their publications have: the files on the hub are as large."""
    monkeypatch.undo()
    variant = VARIANTS[name]
    size, count = int(str(TRANSFORMER_DETECTORS[name].defaults["image_size"])), CLASSES_OF_COCO[variant.family]
    config = library_config(variant, count, size, frozen_norms=True)
    with torch.device("meta"):
        network = from_transformers._kind(variant.family)(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == TRANSFORMER_DETECTORS[name].parameters
    assert 4 * parameters / 1e6 == pytest.approx(TRANSFORMER_FILES[name].megabytes, rel=0.02)
    made = build_detector(name, DetectorOptions(3, 128, 0.0, 1.0, 7), pretrained="none", weights_from=None).eval()
    with torch.inference_mode():
        [found] = made(torch.randn(1, 3, 128, 128))
    assert len(found["scores"]) == 7


# Published weights


@pytest.fixture
def published(tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The state of each network for COCO, "published" as the library writes files: by the names of older versions."""
    states = {}
    for name, variant in TINY.items():
        torch.manual_seed(5)
        config = library_config(
            variant, CLASSES_OF_COCO[variant.family], variant.backbone.get("image_size", 640), frozen_norms=False
        )
        network = from_transformers._kind(variant.family)(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        network.save_pretrained(tmp_path / name)
        states[name] = network.state_dict()
        put(TRANSFORMER_FILES[name], tmp_path, (tmp_path / name / "model.safetensors").read_bytes())
    return states


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_are_loaded_but_for_other_classes(
    name: str, published: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    theirs = published[name]
    variant = TINY[name]
    random = torch.random.get_rng_state()
    assert_bit_equal(dict(published_state(name, tmp_path)), dict(theirs))
    assert torch.equal(torch.random.get_rng_state(), random)
    size = variant.backbone.get("image_size", 128)
    model = _build(name, size, pretrained="whole", weights_from=tmp_path, frozen_norms=True)
    fresh = _build(name, size).network.state_dict()
    own = model.network.state_dict()
    differing = {key for key in own if own[key].shape != theirs[key].shape}
    assert all("class_embed" in key or "enc_score_head" in key for key in differing), differing
    assert differing
    assert all(torch.equal(own[key], fresh[key]) for key in differing)
    same = [key for key in own if key not in differing]
    assert all(torch.equal(own[key], theirs[key]) for key in same)
    assert len(same) > 50
    whole = _build(name, size, class_count=CLASSES_OF_COCO[variant.family], pretrained="whole", weights_from=tmp_path)
    assert all(torch.equal(value, theirs[key]) for key, value in whole.network.state_dict().items() if key in theirs)


def test_published_positions_and_queries_are_fitted_to_the_image_size(
    published: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    theirs = published[RF_DETR]
    model = _build(RF_DETR, 32, pretrained="whole", weights_from=tmp_path).network
    embeddings = model.model.backbone.backbone.embeddings
    assert embeddings.position_embeddings.shape == (1, 2 * 2 + 1, 32)
    # As the library does while it runs.
    library = type(embeddings).__mro__[1]
    embeddings.position_embeddings = nn.Parameter(theirs["model.backbone.backbone.embeddings.position_embeddings"])
    expected = library.interpolate_pos_encoding(embeddings, torch.zeros(1, 5, 32), 32, 32)
    fresh = _build(RF_DETR, 32, pretrained="whole", weights_from=tmp_path).network
    assert torch.equal(fresh.model.backbone.backbone.embeddings.position_embeddings, expected)
    groups = theirs["model.query_feat.weight"].view(3, 10, -1)
    assert torch.equal(fresh.model.query_feat.weight, groups[:, :4].flatten(0, 1))


@pytest.mark.usefixtures("no_network")
def test_published_weights_that_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"huggingface\.co"):
        _build(D_FINE, pretrained="whole", weights_from=tmp_path)


def test_every_network_has_published_weights_under_a_free_licence() -> None:
    assert list(TRANSFORMER_FILES) == list(TRANSFORMER_DETECTORS) == list(VARIANTS)
    assert {published.licence for published in TRANSFORMER_FILES.values()} == {"Apache-2.0"}


# What is refused


def test_there_are_no_weights_of_the_backbone_alone(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="backbone"):
        _build(RT_DETR, pretrained="backbone", weights_from=tmp_path)
    with pytest.raises(ValueError, match="must not be backbone"):
        parse_config({"task": "detection", "model": RT_DETR, "pretrained": "backbone"})
    assert parse_config({"task": "detection", "pretrained": "backbone"})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONAL_LIBRARIES, "hf/", "no_such_library")
    assert missing_library(RT_DETR) == "no_such_library"
    assert missing_library("fcos_resnet18_fpn") is None
    with pytest.raises(BadConfig, match="no_such_library"):
        _build(RT_DETR)


def test_fields_without_an_effect_are_hidden() -> None:
    fields = config_fields("detection")
    for name in ("iou_thres", "anchor_scale"):
        assert not fields[name].setting.has_effect({"model": RT_DETR})
        assert fields[name].setting.has_effect({"model": "fcos_resnet18_fpn"})
    assert not fields["pretrained"].setting.can_choose("backbone", {"model": RF_DETR})
    config = parse_config({"task": "detection", "model": RT_DETR})
    assert config.model_dump()["iou_thres"] == 1


# Runs

RUN = {**HARD, "epochs": 1, "learning_rate": 0.001, "backbone_lr_factor": 0.1, "freeze": "none", "weight_decay": 0.0001}


@pytest.mark.parametrize(
    ("name", "workers", "workers_then"),
    [
        (RT_DETR, 0, 2),
        (D_FINE, 2, 0),
        (RF_DETR, 0, 0),
        pytest.param(RT_DETR, 2, 0, marks=pytest.mark.long),
        pytest.param(D_FINE, 0, 2, marks=pytest.mark.long),
        pytest.param(RF_DETR, 2, 2, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_run_resumes_bit_exactly(
    boxes_dir: Path,  # noqa: F811
    tmp_path: Path,
    name: str,
    workers: int,
    workers_then: int,
) -> None:
    straight = make_run_dir(tmp_path / "straight", boxes_dir, **{**RUN, "model": name, "num_workers": workers_then})
    assert train_here(straight) == "completed"
    cut = make_run_dir(tmp_path / "cut", boxes_dir, **{**RUN, "model": name, "num_workers": workers})
    assert train_here(cut, EndAfter(2)) == "paused"
    change_order(cut, num_workers=workers_then)
    assert train_here(cut) == "completed"
    assert_same_result(cut, straight)
    assert next(event for event in events_of(cut) if event.get("state") == "resume_check")["verdict"] == "exact"


# Exports


def test_a_free_image_size_is_refused(tmp_path: Path) -> None:
    card = make_card("detection", RT_DETR, SIZE, ["disc", "ring", "star"])
    with pytest.raises(MessageError, match="fixed image size"):
        export_detector(_build(RT_DETR), card, ExportOptions(size="dynamic"))


@pytest.mark.parametrize("name", NAMES)
def test_several_images_are_predicted_as_each_alone(name: str) -> None:
    images, _targets = _images_and_targets()
    network = _build(name, noise=0.05)
    plain = plain_detector(network, SIZE)
    several = export_detector(
        network, make_card("detection", name, SIZE, ["a", "b", "c"]), ExportOptions(batch="dynamic")
    )
    with torch.inference_mode():
        together, batch = plain.by_image(images), several(images)
        for place, outputs in enumerate(together):
            for part, alone, of_batch in zip(outputs, plain(images[place : place + 1]), batch, strict=True):
                torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-3)
                assert torch.equal(part, of_batch[place])


def test_boxes_of_one_object_are_all_kept() -> None:
    """What an export and the page of predictions suppress with the overlap of 1 that the networks have."""
    card = make_card("detection", RT_DETR, SIZE, ["disc"])
    assert card["config"]["iou_thres"] == 1
    rows = [[0, 0.9, 0.0, 0.0, 10.0, 10.0], [0, 0.8, 0.0, 0.0, 10.0, 10.0], [0, 0.7, 0.0, 0.0, 9.9, 10.0]]
    assert suppressed(rows, card["config"]["iou_thres"], 10) == rows


@pytest.mark.parametrize("name", NAMES)
def test_an_export_finds_what_the_network_finds(name: str, tmp_path: Path) -> None:
    import onnxruntime

    card = make_card("detection", name, SIZE, ["disc", "ring", "star"])
    weights = make_weights(tmp_path / "entry", card, seed=11)
    module = load_plain_network(card, weights)
    with torch.no_grad():  # without noise all queries are equal
        torch.manual_seed(0)
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    image = torch.from_numpy(prepared(drawn_images(tmp_path / "drawn", 1)[0], card).image_NCHW)
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(module, (image,), file, input_names=["image"], dynamo=False, opset_version=17)
        expected = module(image)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(part) for part in session.run(None, {"image": image.numpy()})]
    assert [part.shape for part in expected] == [(query_count(TINY[name], SIZE), 4), (query_count(TINY[name], SIZE), 3)]
    assert (found[1] - expected[1]).abs().max() <= 1e-4
    assert (found[0] - expected[0]).abs().max() <= 1e-2  # pixels
    scores, boxes = differences(card, expected, found)
    assert scores <= 1e-4
    assert boxes is not None
    assert boxes <= 0.01
