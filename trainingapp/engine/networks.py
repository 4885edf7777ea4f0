"""The network that a configuration describes, without data or a run."""

from pathlib import Path
from typing import Any

from torch import nn

from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.contract.tasks.detection import DetectionConfig
from trainingapp.contract.tasks.segmentation import SegmentationConfig
from trainingapp.engine.tasks.classification.networks import build_classifier
from trainingapp.engine.tasks.detection.networks import DetectorOptions, build_detector
from trainingapp.engine.tasks.segmentation.networks import build_segmenter
from trainingapp.engine.transfer import library_state


def build_network(config: RunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
    """The network of `config` for so many classes, on the CPU, with weights drawn at random.

    Where `weights_from` is given, what `config.pretrained` names is loaded, fetched into that folder. Raises
    BadConfig, WeightsUnavailable.
    """
    if isinstance(config, ClassificationConfig):
        return build_classifier(
            config.model,
            class_count=class_count,
            image_size=config.image_size,
            dropout_rate=config.dropout_rate,
            pretrained_from=weights_from if config.pretrained else None,
        )
    if isinstance(config, DetectionConfig):
        return _detector(config, class_count, weights_from)
    assert isinstance(config, SegmentationConfig)
    return _segmenter(config, class_count, weights_from)


def _detector(config: DetectionConfig, class_count: int, weights_from: Path | None) -> nn.Module:
    options = DetectorOptions(
        class_count=class_count,
        image_size=config.image_size,
        score_thresh=config.conf_thres,
        nms_thresh=config.iou_thres,
        detections_per_img=config.max_det,
        anchor_scale=config.anchor_scale,
        frozen_norms=config.pretrained != "none",
    )
    return build_detector(config.model, options, pretrained=config.pretrained, weights_from=weights_from)


def _segmenter(config: SegmentationConfig, class_count: int, weights_from: Path | None) -> nn.Module:
    return build_segmenter(
        config.model,
        class_count=class_count + 1,  # the background
        pretrained=config.pretrained if weights_from else "none",
        weights_cache_dir=weights_from or Path(),
    )


def load_network(card: dict[str, Any], path: Path) -> nn.Module:
    """The network of an entry of the library, ready to be used. Raises WeightsUnavailable, BadConfig."""
    network = build_network(parse_config(card["config"]), len(card["classes"]))
    try:
        network.load_state_dict(library_state(path))
    except RuntimeError as error:
        raise WeightsUnavailable(f"The weights do not fit the network {card['architecture']}: {error}") from error
    return network.eval().requires_grad_(False)
