"""What a checkpoint of a run holds, as the engine sees it: plain values and tensors."""

from typing import NotRequired, TypeAlias, TypedDict

import torch
from pydantic import JsonValue

from trainingapp.contract.deep_images import ConversionData

Weights: TypeAlias = dict[str, torch.Tensor]


class BestContent(TypedDict):
    """The best validation result so far; `epoch` is 0 and `value` None before the first."""

    value: float | None
    epoch: int


class Normalisation(TypedDict):
    """For pixels from 0 to 1, by channel."""

    mean: list[float]
    std: list[float]


class TaskDescription(TypedDict):
    """What makes a checkpoint usable on its own; see `BaseTask.description`."""

    classes: list[str]
    dataset_fingerprint: str
    normalisation: Normalisation
    conversion: NotRequired[ConversionData]
    """Of a dataset with images of more than 8 bits or of many bands."""
    computation: NotRequired[int]
    """See `BaseTask.latest_computation`; 1 where it is missing."""


class AlgorithmsContent(TypedDict):
    """Whether the algorithms were deterministic, and the device that this was decided for."""

    deterministic: bool
    device: str


class CheckpointContent(TaskDescription):
    """`torch.load(weights_only=True)` reads all of it.

    `step` counts the optimizer steps of the run, `step_in_epoch` those of its epoch. `timestamp` is in Unix seconds and
    identifies the checkpoint for the resume check. `config` is a RunConfig. `thresholds` are those of the classes, from
    the last validation, where an image can have several labels.
    """

    format: int
    epoch: int
    step: int
    step_in_epoch: int
    steps_per_epoch: int
    validated: bool
    model_state_dict: Weights
    ema_state_dict: NotRequired[Weights]
    optimizer_state_dict: dict[str, object]
    scheduler_state_dict: dict[str, object]
    scaler_state_dict: dict[str, object]
    meter_state_dict: Weights
    rng_state: Weights
    batch_seeds: NotRequired[bool]
    """Whether random numbers of the model depend on (seed, epoch, batch number); see `TrainingState.seeds_batches`."""
    metrics: dict[str, float]
    is_best: bool
    thresholds: NotRequired[list[float]]
    best: BestContent
    patience_from: NotRequired[int]
    timestamp: float
    elapsed_s: float
    attempt: int
    cpu_threads: int
    algorithms: NotRequired[AlgorithmsContent]
    precision: NotRequired[str]
    """See `Precision.name`. Missing in those of version 0.1, which trained in float32 on a CPU with `amp: auto`."""
    config: dict[str, JsonValue]
