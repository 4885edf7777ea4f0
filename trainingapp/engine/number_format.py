"""The number format of a run: that of its checkpoint, or what suits device and network when it begins.

A CPU with units for bfloat16 trains ResNets and vision transformers 1.5 to 2.5 times as fast in it, and networks of
depthwise convolutions (MobileNet, EfficientNet) only half as fast: oneDNN has no fast kernels for their gradients.
"""

import logging

import torch
from torch import nn

from trainingapp.contract.dataset_index import DatasetIndex
from trainingapp.contract.messages import Message
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.device import Precision, choose_precision, has_bfloat16_units
from trainingapp.engine.tasks.registry import implementation

logger = logging.getLogger(__name__)


def precision_for(
    spec: RunSpec, dataset: DatasetIndex, device: torch.device, found: Found | None = None
) -> tuple[Precision, Message | None]:
    """As `choose_precision`, for a run that continues from the checkpoint `found`, or begins."""
    config = spec.config
    if found:
        trained_in = found.content.get("precision", "")
    else:
        is_asked = config.amp == "auto" and device.type == "cpu" and has_bfloat16_units()
        trained_in = "bfloat16" if is_asked and suits_bfloat16(spec, len(dataset.classes)) else ""
    return choose_precision(device, amp=config.amp, deterministic=config.deterministic, trained_in=trained_in)


def suits_bfloat16(spec: RunSpec, class_count: int) -> bool:
    """Whether the network has no depthwise convolutions.

    It is built without memory, which takes milliseconds. One that cannot be is assumed not to suit.
    """
    try:
        with torch.device("meta"):
            network = implementation(spec.config.task).build_network(spec.config, class_count)
    except (RuntimeError, NotImplementedError) as error:
        logger.info("The network cannot be built without memory: %s", error)
        return False
    return not any(
        isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 for module in network.modules()
    )
