"""The detectors of the library transformers, which is imported only for runs that need it: that takes seconds.

Legend: that of `losses/transformers.py`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.architectures import HF, OPTIONAL_LIBRARIES, missing_library
from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.contract.messages.tasks import (
    LIBRARY_MISSING,
    NO_PUBLISHED_BACKBONE,
    NO_PUBLISHED_WEIGHTS_FIT,
    SIZE_STEP,
)
from trainingapp.contract.messages.weights import PUBLISHED_UNFIT
from trainingapp.contract.published_weights import TRANSFORMER_FILES
from trainingapp.engine.deterministic_operations import deterministic_operations
from trainingapp.engine.published import obtained
from trainingapp.engine.tasks.detection.losses import detector_losses
from trainingapp.engine.tasks.detection.losses.set_matching import SetTargets, corners
from trainingapp.engine.tasks.detection.losses.transformers import Outputs, Predictions, transformer_losses
from trainingapp.engine.tasks.detection.transformer_configs import (
    CLASSES_OF_COCO,
    VARIANTS,
    Family,
    Variant,
    library_config,
    smallest_step,
)
from trainingapp.engine.transfer import load_matching

Boxes = list[dict[str, torch.Tensor]]

FLOAT32_MODULES = re.compile(
    r"model\.decoder_input_proj\.\d+|model\.backbone\.projector|(.*\.)?(class_embed|bbox_embed)(\.\d+)?"
    r"|model\.enc_out_(class|bbox)_embed\.\d+|model\.enc_(score|bbox)_head|model\.decoder\.(pre_bbox_head|lqe_layers\.\d+)"
)
"""Modules whose outputs are float32 under mixed precision: anchors and boxes are computed with them, and in bfloat16
they would be exact to two or four pixels only."""

KEPT_WEIGHTS = re.compile(r"\.encoder_attn\.|class_embed|enc_score_head|denoising")
"""Layers that the library initializes as their authors do."""

FIRST_BOX_HEADS = ("model.enc_bbox_head", "model.decoder.pre_bbox_head")
"""Begin with boxes that are those of their anchors."""


class TransformerDetector(nn.Module):
    """A detector of the library as the others of this folder; images are normalized as ImageNet's.

    Its losses are those of `detector_losses`. In evaluation mode it takes the images and returns boxes, labels and
    scores, the most confident first, as torchvision's detectors do. Each object is found once: nothing is suppressed.
    """

    def __init__(self, network: nn.Module, transform: nn.Module, family: Family, options: "Thresholds") -> None:
        super().__init__()
        self.network: Any = network
        self.transform: Any = transform
        self.family = family
        self._options = options

    def forward(self, images_NCHW: torch.Tensor) -> Boxes:
        boxes_NQ4, scores_NQC = self.boxes_and_scores(images_NCHW)
        count, class_count = scores_NQC.shape[0], scores_NQC.shape[2]
        most = min(self._options.detections_per_img, scores_NQC[0].numel())
        scores_ND, places_ND = scores_NQC.flatten(1).topk(most, dim=1)
        found = []
        for number in range(count):
            is_sure = scores_ND[number] > self._options.score_thresh
            places_D = places_ND[number][is_sure]
            boxes_D4 = boxes_NQ4[number][places_D // class_count]
            found.append({"boxes": boxes_D4, "labels": places_D % class_count, "scores": scores_ND[number][is_sure]})
        return found

    def boxes_and_scores(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes [N, Q, 4] xyxy in pixels of the images, and scores [N, Q, C]; in evaluation mode."""
        found = self.network(self.transform.normalised(images_NCHW))
        height, width = images_NCHW.shape[-2:]
        boxes_NQ4 = corners(found.pred_boxes.float()).clamp(0, 1)
        return boxes_NQ4 * boxes_NQ4.new_tensor([width, height, width, height]), found.logits.float().sigmoid()

    def outputs(self, images_NCHW: torch.Tensor, targets: SetTargets) -> Outputs:
        """What the losses are computed of, in any mode. Denoising adds noise to the targets, with random numbers of
        torch's global generator of the device."""
        images_NCHW = self.transform.normalised(images_NCHW)
        with deterministic_operations(images_NCHW.device):
            return self._outputs(images_NCHW, targets)

    def _outputs(self, images_NCHW: torch.Tensor, targets: SetTargets) -> Outputs:
        """The same of images as the network takes them."""
        if self.family == "rfdetr":
            return _of_groups(self.network, images_NCHW)
        labels = [
            {"boxes": boxes_M4[:count], "class_labels": labels_M[:count]}
            for boxes_M4, labels_M, count in zip(targets.boxes_NM4, targets.labels_NM, targets.counts, strict=True)
        ]
        model = self.network.model
        # In evaluation mode the library neither denoises nor gives the outputs of all layers.
        with _as_in_training([model, model.decoder]):
            found = model(images_NCHW, labels=labels)
        return _of_layers(found)

    def head_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the names of all parameters outside of the backbone."""
        body = "network.model.backbone.backbone." if self.family == "rfdetr" else "network.model.backbone.model."
        names = [name for name, _parameter in self.named_parameters() if not name.startswith(body)]
        modules = (name.split(".")[:-1] for name in names)
        return tuple(sorted({".".join(path[: 4 if path[2:3] == ["backbone"] else 3]) + "." for path in modules}))


@dataclass(frozen=True)
class Thresholds:
    """Boxes that a detector returns: those above the score, and so many at most."""

    score_thresh: float
    detections_per_img: int


def build_transformer(
    name: str,
    transform: nn.Module,
    thresholds: Thresholds,
    *,
    class_count: int,
    image_size: int,
    frozen_norms: bool,
    pretrained: str,
    weights_from: Path | None,
) -> TransformerDetector:
    """As `build_detector`, for a name of VARIANTS. `transform` normalizes images as the published weights expect them.

    Raises BadConfig, WeightsUnavailable.
    """
    if package := missing_library(name):
        raise BadConfig(LIBRARY_MISSING(name=name, package=package, extra=OPTIONAL_LIBRARIES[HF]))
    if pretrained == "backbone":
        raise BadConfig(NO_PUBLISHED_BACKBONE(name=name))
    variant = VARIANTS[name]
    if image_size % (step := smallest_step(variant)):
        raise BadConfig(SIZE_STEP(name=name, step=step))
    network = _network(variant, class_count, image_size, frozen_norms=frozen_norms)
    detector = TransformerDetector(network, transform, variant.family, thresholds)
    if pretrained == "whole" and weights_from is not None:
        state = published_state(name, weights_from)
        fitted = _fitted(state, network, variant)
        if not load_matching(network, fitted).matched:
            raise BadConfig(NO_PUBLISHED_WEIGHTS_FIT(name=name))
    return detector


def published_state(name: str, weights_cache_dir: Path) -> dict[str, torch.Tensor]:
    """The published weights of the network, downloaded into this folder, by the names that the library has for them.

    Raises WeightsUnavailable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers.utils import logging

    logging.disable_progress_bar()  # for a terminal
    variant, path = VARIANTS[name], obtained(TRANSFORMER_FILES[name], weights_cache_dir)
    try:
        state = load_file(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsUnavailable(PUBLISHED_UNFIT(path=str(path), name=name, error=str(error))) from error
    size = variant.backbone.get("image_size", 640)
    config = library_config(variant, CLASSES_OF_COCO[variant.family], size, frozen_norms=False)
    # The library renames tensors of older versions. What is drawn for others must not shift the random numbers.
    with torch.random.fork_rng(devices=[]):
        loaded = _kind(variant.family).from_pretrained(
            None, config=config, state_dict=state, ignore_mismatched_sizes=True
        )
    whole: dict[str, torch.Tensor] = loaded.state_dict()
    return whole


def _kind(family: Family) -> Any:
    """The library's class."""
    from transformers import DFineForObjectDetection, RfDetrForObjectDetection, RTDetrV2ForObjectDetection

    if family == "rfdetr":
        return RfDetrForObjectDetection
    return RTDetrV2ForObjectDetection if family == "rtdetrv2" else DFineForObjectDetection


def _network(variant: Variant, class_count: int, image_size: int, *, frozen_norms: bool) -> nn.Module:
    """The library's network with random weights."""
    config = library_config(variant, class_count, image_size, frozen_norms=frozen_norms)
    network: nn.Module = _kind(variant.family)(config)
    if variant.family == "rfdetr":
        _keep_positions(network)
    else:
        _draw_weights(network)
    if variant.family == "dfine":
        _as_buffers(network.get_submodule("model.decoder"), ("up", "reg_scale"))
    for path, module in network.named_modules():
        if FLOAT32_MODULES.fullmatch(path):
            module.register_forward_hook(_as_float32)
    return network


def _draw_weights(network: nn.Module) -> None:
    """Draw the weights outside of the backbone as the authors of RT-DETR do.

    The library draws those of convolutions, batch norms and linear layers around 0.01, which suits only networks that
    get published weights afterwards. Layers that it sets to constants keep them.
    """
    for path, module in network.named_modules():
        if path.startswith("model.backbone.") or KEPT_WEIGHTS.search(path):
            continue
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear) and bool(module.weight.any()):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for path in FIRST_BOX_HEADS:
        head: Any = dict(network.named_modules()).get(path)
        if head is not None:
            nn.init.zeros_(head.layers[-1].weight)


def _as_buffers(module: nn.Module, names: Sequence[str]) -> None:
    """Make buffers of these parameters, which are constants: whoever unfreezes a network would train them."""
    for name in names:
        value = getattr(module, name).detach()
        delattr(module, name)
        module.register_buffer(name, value)


def _keep_positions(network: nn.Module) -> None:
    """Let the backbone take its positions as they are: they are made for the size of the images of the run.

    The library interpolates them whenever a network is traced, with an operation that ONNX lacks.
    """
    from transformers.models.rf_detr.modeling_rf_detr import RfDetrDinov2Embeddings

    class OwnPositions(RfDetrDinov2Embeddings):  # type: ignore[misc]
        def interpolate_pos_encoding(self, embeddings: torch.Tensor, height: int, width: int) -> torch.Tensor:
            positions: torch.Tensor = self.position_embeddings
            return positions

    embeddings: Any = network.get_submodule("model.backbone.backbone.embeddings")
    embeddings.__class__ = OwnPositions


def _as_float32(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    """A hook after a module."""
    return output.float()


def _fitted(state: dict[str, torch.Tensor], network: nn.Module, variant: Variant) -> dict[str, torch.Tensor]:
    """The published weights for the image size and the number of queries of the network."""
    if variant.family != "rfdetr":
        return state
    own, fitted = network.state_dict(), dict(state)
    config: Any = network.config
    groups = int(config.group_detr)
    for name in ("model.reference_point_embed.weight", "model.query_feat.weight"):
        count, width = own[name].shape
        fitted[name] = state[name].view(groups, -1, width)[:, : count // groups].reshape(count, width)
    name = "model.backbone.backbone.embeddings.position_embeddings"
    fitted[name] = _resized_positions(state[name], own[name].shape[1] - 1)
    return fitted


def _resized_positions(positions_1TD: torch.Tensor, count: int) -> torch.Tensor:
    """The positions of `count` patches, after that of the whole image, as the library interpolates them."""
    before, after = (round(number**0.5) for number in (positions_1TD.shape[1] - 1, count))
    if before == after:
        return positions_1TD
    map_1DHW = positions_1TD[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    map_1DHW = F.interpolate(map_1DHW, size=(after, after), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions_1TD[:, :1], map_1DHW.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@contextmanager
def _as_in_training(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within, these modules are in training mode, and not what is in them: norms and dropout keep theirs."""
    before = [module.training for module in modules]
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode


def _of_layers(found: Any) -> Outputs:
    """The outputs of RT-DETRv2 and D-FINE, of which the first queries are those for denoising."""
    logits, boxes = found.intermediate_logits.float(), found.intermediate_reference_points.float()
    bins, references = found.intermediate_predicted_corners, found.initial_reference_points
    meta = found.denoising_meta_values
    denoising_count = meta["dn_num_split"][0] if meta else 0
    first = [found.enc_topk_logits.float()], [found.enc_topk_bboxes.float()]
    own = _of_queries(slice(denoising_count, None), logits, boxes, bins, references, first)
    if not meta:
        return Outputs(own)
    denoised = _of_queries(slice(denoising_count), logits, boxes, bins, references, ([], []))
    return Outputs(own, denoised, meta["dn_num_group"])


def _of_queries(
    queries: slice,
    logits_NLQC: torch.Tensor,
    boxes_NLQ4: torch.Tensor,
    bins_NLQ: torch.Tensor | None,
    references_NLQ4: torch.Tensor | None,
    first: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> Predictions:
    """The predictions of some of the queries."""
    logits, boxes = logits_NLQC[:, :, queries].transpose(0, 1), boxes_NLQ4[:, :, queries].transpose(0, 1)
    bins = references = None
    first_logits, first_boxes = list(first[0]), list(first[1])
    if bins_NLQ is not None and references_NLQ4 is not None:
        bins = bins_NLQ[:, :, queries].transpose(0, 1).float().unflatten(-1, (4, -1))
        references = references_NLQ4[:, :, queries].transpose(0, 1).float()
        boxes = boxes.clamp(0, 1)
        # What the first layer finds before its distributions are applied.
        first_logits.append(logits[0])
        first_boxes.append(boxes[0])
        logits, boxes = logits[1:], boxes[1:]
    empty_logits, empty_boxes = logits[:0], boxes[:0]
    firsts = (
        torch.stack(first_logits) if first_logits else empty_logits,
        torch.stack(first_boxes).clamp(0, 1) if first_boxes else empty_boxes,
    )
    return Predictions(logits, boxes, firsts, bins, references)


def _of_groups(network: Any, images_NCHW: torch.Tensor) -> Outputs:
    """The outputs of RF-DETR, in training mode with several groups of queries."""
    found = network.model(images_NCHW)
    logits, boxes = network.predict_class_and_boxes(
        found.intermediate_hidden_states, found.intermediate_reference_points
    )
    first_logits = network.predict_encoder_class_logits(found.enc_outputs_class)
    first = (first_logits.float()[None], found.enc_outputs_coord_logits.float()[None])
    groups = network.model.group_detr if network.training else 1
    return Outputs(Predictions(logits.float(), boxes.float(), first), groups=groups)


detector_losses.register(TransformerDetector, transformer_losses)
