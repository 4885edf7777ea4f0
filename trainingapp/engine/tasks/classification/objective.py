"""What labels are: their targets, the loss and the metrics. One label per image here, several in `multi_label.py`.

Legend: N images of a batch, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch.nn import functional as F

from trainingapp.contract.dataset_index import LabelMode, Sample
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages.tasks import IMAGE_WITHOUT_LABEL
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.tasks.classification.metrics import ClassificationMeter, ValidationRecord


class ClassMeter(Protocol):
    """Running sums of a training or validation; see `Meter` of `engine/tasks/task.py`."""

    def update(self, loss: torch.Tensor, logits_NC: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch; `loss` is the mean over its N images."""

    def reset(self) -> None: ...

    def training_values(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None: ...

    def evaluation(self, classes: list[str]) -> Evaluation: ...


class Objective(ABC):
    """Targets, loss and metrics of a run. Targets have an image in each row of their first dimension."""

    mode: LabelMode

    def __init__(self, config: ClassificationConfig, class_count: int, device: torch.device) -> None:
        self._config, self._class_count, self._device = config, class_count, device

    @abstractmethod
    def targets(self, samples: Sequence[Sample]) -> torch.Tensor:
        """The targets of the images, on the CPU. Raises BadData where images lack labels of this kind."""

    @abstractmethod
    def prepare(self, targets: torch.Tensor) -> torch.Tensor | None:
        """Compute class weights from the training targets; returns the weights of a sampler, None without one."""

    @abstractmethod
    def loss(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The training loss, the mean over the batch; linear in the targets, so that mixed images can mix losses."""

    @abstractmethod
    def losses(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float [N]: the loss of each image, without class weights and smoothing."""

    @abstractmethod
    def training_meter(self) -> ClassMeter: ...

    @abstractmethod
    def validation_meter(self) -> ClassMeter: ...

    @abstractmethod
    def record(
        self,
        meter: ClassMeter,
        indices_N: torch.Tensor,
        targets: torch.Tensor,
        losses_N: torch.Tensor,
        logits_NC: torch.Tensor,
    ) -> None:
        """Keep the results of a validation batch for each of its images."""

    @abstractmethod
    def labels(self, target: torch.Tensor) -> list[int]:
        """The labels of an image from its row of the targets."""


class SingleLabel(Objective):
    """Exactly one label per image: softmax and cross-entropy. Targets are int64 [N]."""

    mode: LabelMode = "single"
    _weights_C: torch.Tensor | None = None

    def targets(self, samples: Sequence[Sample]) -> torch.Tensor:
        if any(sample.label < 0 for sample in samples):
            raise BadData(IMAGE_WITHOUT_LABEL())
        return torch.tensor([sample.label for sample in samples], dtype=torch.int64)

    def prepare(self, targets: torch.Tensor) -> torch.Tensor | None:
        counts_C = torch.bincount(targets, minlength=self._class_count).double().clamp(min=1)
        if self._config.class_balance == "weights":
            self._weights_C = balanced_weights(counts_C).to(self._device)
        return (1 / counts_C)[targets] if self._config.class_balance == "sampler" else None

    def loss(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weight = None if self._weights_C is None else self._weights_C.to(logits_NC.dtype)
        return F.cross_entropy(logits_NC, targets, weight=weight, label_smoothing=self._config.label_smoothing)

    def losses(self, logits_NC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits_NC, targets, reduction="none")

    def training_meter(self) -> ClassificationMeter:
        return ClassificationMeter(self._class_count, self._device)

    def validation_meter(self) -> ClassificationMeter:
        return ClassificationMeter(self._class_count, self._device, validation=True)

    def record(
        self,
        meter: ClassMeter,
        indices_N: torch.Tensor,
        targets: torch.Tensor,
        losses_N: torch.Tensor,
        logits_NC: torch.Tensor,
    ) -> None:
        assert isinstance(meter, ClassificationMeter)
        meter.record(ValidationRecord.of(indices_N, targets, losses_N, logits_NC))

    def labels(self, target: torch.Tensor) -> list[int]:
        return [int(target.item())]


def balanced_weights(counts_C: torch.Tensor) -> torch.Tensor:
    """float32 [C]: weights N / (C n_c) of classes with n_c of the N images, as scikit-learn's class_weight="balanced".

    Rare classes count more; the mean weight of an image is 1.
    """
    return (counts_C.sum() / (len(counts_C) * counts_C)).float()
