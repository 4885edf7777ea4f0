"""One label for each image, or several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from trainingapp.contract.base_config import BaseRunConfig
from trainingapp.contract.dataset_index import DatasetIndex, LabelMode, Split
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import Evaluation
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.tasks import SEVERAL_LABELS
from trainingapp.contract.model_card import Card
from trainingapp.contract.prediction import Floats, Prepared, likely_classes, thresholds_of, top_classes
from trainingapp.contract.published_weights import Kind, Published
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.classification import ClassificationConfig
from trainingapp.engine.checkpoint_content import Normalisation
from trainingapp.engine.data.drawing import BATCH_IMAGES_DRAWN, image_with_caption
from trainingapp.engine.data.transforms import augmented_each
from trainingapp.engine.plain_outputs import SigmoidProbabilities
from trainingapp.engine.tasks.classification.data import Batch, LabelledImages
from trainingapp.engine.tasks.classification.from_timm import published_timm
from trainingapp.engine.tasks.classification.mixing import mixed
from trainingapp.engine.tasks.classification.multi_label import MultiLabel
from trainingapp.engine.tasks.classification.networks import TIMM, build_classifier, head_prefix
from trainingapp.engine.tasks.classification.objective import ClassMeter, Objective, SingleLabel
from trainingapp.engine.tasks.task import IMAGENET, BaseTask, Found
from trainingapp.engine.timm_facts import normalisation_of, patch_remarks, published_remarks

OBJECTIVES: dict[LabelMode, type[Objective]] = {"single": SingleLabel, "multi": MultiLabel}


class ClassificationTask(BaseTask[Batch, ClassMeter, ClassMeter]):
    """Trains torchvision's and timm's classifiers: with cross-entropy, or with binary cross-entropy for each class."""

    _config: ClassificationConfig

    def __init__(
        self, spec: RunSpec, dataset: DatasetIndex, device: torch.device, *, unwanted_fds: Sequence[int] = ()
    ) -> None:
        super().__init__(spec, dataset, device, unwanted_fds=unwanted_fds)
        mode = self._config.label_mode
        if mode == "single" and dataset.label_mode == "multi":
            raise BadData(SEVERAL_LABELS())
        self._objective = OBJECTIVES[mode](self._config, len(dataset.classes), device)
        train, val = self._items("train"), self._items("val")
        self._train_items = train
        self._use(train, val, weights_N=self._objective.prepare(train.targets))

    @classmethod
    def build_network(cls, config: BaseRunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
        assert isinstance(config, ClassificationConfig)
        return build_classifier(
            config.model,
            class_count=class_count,
            image_size=config.image_size,
            dropout_rate=config.dropout_rate,
            pretrained_from=weights_from if config.pretrained == "backbone" else None,
        )

    @classmethod
    def normalisation_of(cls, config: BaseRunConfig) -> Normalisation:
        known = normalisation_of(config.model.removeprefix(TIMM)) if config.model.startswith(TIMM) else None
        return known or IMAGENET

    def remarks(self) -> list[Message]:
        if not self._config.model.startswith(TIMM):
            return []
        name, size = self._config.model.removeprefix(TIMM), self._config.image_size
        is_pretrained = str(self._config.pretrained) not in ("False", "none")
        return [*patch_remarks(name, size), *(published_remarks(name, size) if is_pretrained else [])]

    @classmethod
    def published(cls, model: str) -> Mapping[Kind, Published]:
        return published_timm(model.removeprefix(TIMM)) if model.startswith(TIMM) else {}

    @classmethod
    def plain_network_of(cls, network: nn.Module, card: Card) -> nn.Module:
        if card["config"].get("label_mode") == "multi":
            return SigmoidProbabilities(network.eval()).eval()
        return cls.plain_network(network, card["image_size"])

    @classmethod
    def prediction(cls, outputs: Sequence[Floats], card: Card, image: Prepared) -> Found:
        if thresholds_C := thresholds_of(card):
            found = likely_classes(outputs[0][0], thresholds_C)
            reached = [label for label, share in found if share >= thresholds_C[label]]
            return Found(classes=[(label, round(share, 5)) for label, share in found], labels=reached)
        return Found(classes=[(label, round(share, 5)) for label, share in top_classes(outputs[0])])

    def head_prefixes(self, model: nn.Module) -> tuple[str, ...]:
        return (head_prefix(model),)

    def augmented(self, batch: Batch) -> Batch:
        if not batch.seeds:
            return batch
        images = augmented_each(list(batch.images_NCHW), batch.seeds, self._train_items.augmented)
        return replace(batch, images_NCHW=torch.stack(images), seeds=())

    def training_meter(self) -> ClassMeter:
        return self._objective.training_meter()

    def validation_meter(self) -> ClassMeter:
        return self._objective.validation_meter()

    def loss(self, model: nn.Module, batch: Batch, meter: ClassMeter) -> torch.Tensor:
        images_NCHW = self._normalised(batch.images_NCHW)
        if batch.mix is None:
            logits_NC = model(images_NCHW)
            loss = self._objective.loss(logits_NC, batch.targets)
        else:
            logits_NC = model(mixed(images_NCHW, batch.mix))
            own = self._objective.loss(logits_NC, batch.targets)
            other = self._objective.loss(logits_NC, batch.targets.roll(1, 0))
            loss = batch.mix.keep * own + (1 - batch.mix.keep) * other
        meter.update(loss, logits_NC, batch.targets)
        return loss

    def draw_batch(self, batch: Batch) -> list[Image.Image]:
        images_NCHW = batch.images_NCHW.cpu()
        if batch.mix is not None:
            images_NCHW = mixed(images_NCHW.float(), batch.mix).round().to(torch.uint8)
        shown = list(images_NCHW)[:BATCH_IMAGES_DRAWN]
        return [image_with_caption(image_CHW, self._caption(batch, number)) for number, image_CHW in enumerate(shown)]

    def _caption(self, batch: Batch, number: int) -> str:
        own, other = self._names(batch.targets[number]), self._names(batch.targets[number - 1])
        if batch.mix is None or own == other:
            return own
        return f"{own} {batch.mix.keep:.0%} + {other} {1 - batch.mix.keep:.0%}"

    def _names(self, target: torch.Tensor) -> str:
        return ", ".join(self._dataset.classes[label] for label in self._objective.labels(target)) or "–"

    def evaluate(self, model: nn.Module, batch: Batch, meter: ClassMeter) -> None:
        logits_NC = model(self._normalised(batch.images_NCHW)).float()
        losses_N = self._objective.losses(logits_NC, batch.targets)
        meter.update(losses_N.mean(), logits_NC, batch.targets)
        self._objective.record(meter, batch.indices_N, batch.targets, losses_N, logits_NC)

    def evaluation(self, meter: ClassMeter) -> Evaluation:
        return meter.evaluation(self._dataset.classes)

    def _items(self, split: Split) -> LabelledImages:
        samples = self._samples(split)
        limit = self._memory_limit(3 * self._config.image_size**2)
        return LabelledImages(self._dataset, samples, self._config, limit, self._objective.targets(samples))
