"""The learning rates with which published weights are usually trained on (no torch).

They are lower than those of training from scratch, which the defaults of a network are for: what the weights know would
be lost in the first steps.
"""

import re

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.published import FINE_TUNING_RATE
from trainingapp.contract.number_text import field_number

USUAL_OPTIMIZERS = ("Adam", "AdamW")
"""Of these rates."""

MUCH_HIGHER = 3.0
"""Factor above the usual rate from which on the form says so."""

_USUAL_RATES: tuple[tuple[tuple[str, ...], re.Pattern[str], float], ...] = (
    (("classification",), re.compile(r"convnext"), 0.00005),
    (("detection", "instances"), re.compile(r"(fcos|retinanet|fasterrcnn|maskrcnn)_"), 0.0001),
    (("detection",), re.compile(r"hf/"), 0.0001),
    (("segmentation",), re.compile(r"smp/"), 0.0001),
)
"""Tasks, the names of their networks, and the rate, in this order:

- ConvNeXt: Liu et al., arXiv:2201.03545, table 5 (AdamW);
- detectors of torchvision, and Mask R-CNN: that of AdamW with a published ResNet in MMDetection's configurations of
  "ResNet strikes back" (Wightman et al., arXiv:2110.00476), and of Li et al., arXiv:2203.16527;
- transformers that detect: Lv et al., arXiv:2407.17140;
- segmentation-models-pytorch: its own examples (Adam).
"""


def usual_rate(task: str, model: str) -> float | None:
    """The usual learning rate of fine-tuning; None where none is known."""
    return next((rate for tasks, name, rate in _USUAL_RATES if task in tasks and name.search(model)), None)


def rate_advice(task: str, model: str, *, optimizer: str, learning_rate: float) -> Message | None:
    """What the form says where the run will start from published weights; None where its rate is not much higher."""
    usual = usual_rate(task, model)
    if usual is None or optimizer not in USUAL_OPTIMIZERS or learning_rate < MUCH_HIGHER * usual:
        return None
    return FINE_TUNING_RATE(rate=field_number(usual), optimizer=optimizer, present=field_number(learning_rate))
