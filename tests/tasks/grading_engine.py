"""The fourth task's training: a cumulative link model, in which each output says that the grade is above a threshold.

Legend: N images of a batch, C grades, T = C - 1 thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tests.tasks.grading import GradingConfig
from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, Sample, Split
from trainingapp.contract.evaluation import Column, Evaluation, ImageScore
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, top_classes
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_caption
from trainingapp.engine.data.images import PixelStore, load_image
from trainingapp.engine.data.transforms import image_augmentation, switches
from trainingapp.engine.plain_outputs import Outputs
from trainingapp.engine.tasks.task import BaseTask, Found

WIDTHS = {"tiny_grader": 8, "small_grader": 16}


class Grader(nn.Module):
    """Images [N, 3, S, S] to logits [N, T], each of the grade being above that threshold."""

    def __init__(self, width: int, grades: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(width * 4, grades - 1)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(images_NCHW).flatten(1))
        return logits


class GradeProbabilities(nn.Module):
    """A grader for others: probabilities [N, C] instead of logits [N, T]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> Outputs:
        above_NT = F.logsigmoid(self.network(images_NCHW)).cumsum(dim=1).exp()  # ONNX has no cumulative product
        ones_N1 = torch.ones_like(above_NT[:, :1])
        return (torch.cat([ones_N1, above_NT], dim=1) - torch.cat([above_NT, torch.zeros_like(ones_N1)], dim=1),)


@dataclass(frozen=True)
class Batch(TensorBatch):
    """`images_NCHW` is uint8, `grades_N` and `indices_N` int64."""

    images_NCHW: torch.Tensor
    grades_N: torch.Tensor
    indices_N: torch.Tensor


class GradedImages:
    """A split as items: uint8 [3, size, size]."""

    def __init__(self, dataset: DatasetIndex, samples: Sequence[Sample], config: GradingConfig, limit: int) -> None:
        size = config.image_size
        self.sample_count = len(samples)
        self._grades_N = torch.tensor([sample.label for sample in samples])
        self._augmentation = image_augmentation(switches(config), size)
        self._store = PixelStore(
            lambda index: load_image(dataset.folder / samples[index].path, size),
            len(samples),
            (3, size, size),
            memory_limit_bytes=limit,
        )

    def item(self, index: int) -> torch.Tensor:
        return self._store.get(index)

    def training_item(self, index: int) -> torch.Tensor:
        changed: torch.Tensor = self._augmentation(self._store.get(index))
        return changed

    def collate(self, items: list[torch.Tensor], indices_N: torch.Tensor) -> Batch:
        return Batch(torch.stack(items), self._grades_N[indices_N], indices_N)

    def mix(self, batch: Batch) -> Batch:
        return batch


class GradeMeter:
    """Sums of the loss, the errors in grades and the images that are within one grade."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.guesses: list[tuple[int, int, list[float]]] = []

    def update(self, loss: torch.Tensor, logits_NT: torch.Tensor, grades_N: torch.Tensor) -> None:
        errors_N = ((logits_NT.detach() > 0).sum(dim=1) - grades_N).abs()
        images = torch.tensor(float(len(grades_N)), device=grades_N.device)
        self._sums += torch.stack([loss.detach() * images, errors_N.sum(), (errors_N <= 1).sum(), images])

    def reset(self) -> None:
        self._sums.zero_()

    def training_values(self) -> dict[str, float]:
        loss, error, within, images = self._sums.tolist()
        count = max(1.0, images)
        return {"loss": loss / count, "mean_error": error / count, "within_one": within / count}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._sums.copy_(state["sums"])


class GradingTask(BaseTask[Batch, GradeMeter, GradeMeter]):
    """Trains a small network to place images on a scale."""

    _config: GradingConfig

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(spec, dataset, device, unwanted_fds=unwanted_fds)
        self._use(self._items("train"), self._items("val"))

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        return Grader(WIDTHS[config.model], class_count)

    @classmethod
    def plain_network(cls, network: nn.Module, image_size: int) -> nn.Module:
        return GradeProbabilities(network.eval()).eval()

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        return Found(classes=[(grade, round(share, 5)) for grade, share in top_classes(outputs[0])])

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return ("head.",)

    def training_meter(self) -> GradeMeter:
        return GradeMeter(self._device)

    def validation_meter(self) -> GradeMeter:
        return GradeMeter(self._device)

    def loss(self, model: nn.Module, batch: Batch, meter: GradeMeter) -> torch.Tensor:
        logits_NT = model(self._normalised(batch.images_NCHW))
        loss = self._losses(logits_NT, batch.grades_N).mean()
        meter.update(loss, logits_NT, batch.grades_N)
        return loss

    def _losses(self, logits_NT: torch.Tensor, grades_N: torch.Tensor) -> torch.Tensor:
        above_NT = (torch.arange(logits_NT.shape[1], device=grades_N.device) < grades_N[:, None]).float()
        losses_N = F.binary_cross_entropy_with_logits(logits_NT, above_NT, reduction="none").sum(dim=1)
        return losses_N**self._config.focus

    def draw_batch(self, batch: Batch) -> list[Image.Image]:
        names = [self._dataset.classes[grade] for grade in batch.grades_N.tolist()]
        shown = list(zip(batch.images_NCHW.cpu(), names, strict=True))[:BATCH_IMAGES_DRAWN]
        return [image_with_caption(image_CHW, name) for image_CHW, name in shown]

    def evaluate(self, model: nn.Module, batch: Batch, meter: GradeMeter) -> None:
        logits_NT = model(self._normalised(batch.images_NCHW)).float()
        meter.update(self._losses(logits_NT, batch.grades_N).mean(), logits_NT, batch.grades_N)
        (chances_NC,) = GradeProbabilities(nn.Identity())(logits_NT)
        rows = zip(batch.indices_N.tolist(), batch.grades_N.tolist(), chances_NC.tolist(), strict=True)
        meter.guesses.extend(rows)

    def evaluation(self, meter: GradeMeter) -> Evaluation:
        classes = self._dataset.classes
        errors: dict[int, list[int]] = {grade: [] for grade in range(len(classes))}
        counts = [[0] * len(classes) for _name in classes]
        for _index, grade, chances in meter.guesses:
            guess = chances.index(max(chances))
            errors[grade].append(abs(guess - grade))
            counts[grade][guess] += 1
        per_class = [
            {"class": name, "error": sum(errors[grade]) / len(errors[grade]) if errors[grade] else None}
            for grade, name in enumerate(classes)
        ]
        return Evaluation(
            values=meter.training_values(),
            score="mean_error",
            score_higher_is_better=False,
            columns=[Column("error", "Mean error", is_share=False)],
            per_class=per_class,
            confusion_names=classes,
            confusion=counts,
            images=[
                ImageScore(index, float(abs(chances.index(max(chances)) - grade)), (grade,))
                for index, grade, chances in meter.guesses
            ],
            predictions={
                index: {"classes": sorted(([g, round(c, 4)] for g, c in enumerate(chances)), key=lambda row: -row[1])}
                for index, _grade, chances in meter.guesses
            },
        )

    def _items(self, split: Split) -> GradedImages:
        return GradedImages(
            self._dataset, self._samples(split), self._config, self._memory_limit(3 * self._config.image_size**2)
        )
