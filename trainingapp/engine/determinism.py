"""Which algorithms a run uses: deterministic ones, unless its network has an operation without one on GPUs.

Which networks have such an operation depends on the versions of torch and torchvision, and for Faster R-CNN on whether
Triton and a C compiler are installed: torchvision compiles a deterministic RoIAlign. Therefore no list is kept. Before
a run trains on a GPU, its first step is made twice with two images: an operation that raises is named, and so is a
gradient that differs between the two.
"""

import logging
from dataclasses import dataclass, replace

import torch
from torch import nn

from trainingapp.contract.dataset_index import DatasetIndex, Split
from trainingapp.contract.errors import NotDeterministic, nondeterministic_operation
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.training import (
    ALGORITHMS_FAST,
    COMPILER_MISSING,
    GRADIENT_DIFFERS,
    NOT_DETERMINISTIC_MODEL,
    OPERATION_EXCLUDED,
)
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.checkpoint_content import AlgorithmsContent
from trainingapp.engine.device import Precision, device_name, prepare_backend
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.memory import release
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.tasks.registry import make_task
from trainingapp.engine.tasks.task import Task

PROBE_IMAGES = 2
#: Modules whose errors say that a compiler is missing or has failed.
COMPILERS = ("torch._inductor", "torch._dynamo", "triton")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Algorithms:
    """The algorithms of one attempt; `warning` says why they are not deterministic where that was not chosen."""

    deterministic: bool
    warning: Message | None = None


def choose_algorithms(
    spec: RunSpec, dataset: DatasetIndex, precision: Precision, found: Found | None, *, cpu_threads: int
) -> Algorithms:
    """Set torch's switches for the run and return them.

    What a checkpoint of the same GPU was trained with is kept, without another probe. Raises NotDeterministic where the
    configuration requires deterministic algorithms and the network has none.
    """
    chosen = _chosen(spec, dataset, precision, found, cpu_threads)
    prepare_backend(deterministic=chosen.deterministic, cpu_threads=cpu_threads, tf32=precision.tf32)
    return chosen


def _chosen(
    spec: RunSpec, dataset: DatasetIndex, precision: Precision, found: Found | None, cpu_threads: int
) -> Algorithms:
    choice = spec.config.deterministic
    if choice == "fast":
        return Algorithms(deterministic=False)
    if not needs_probe(precision.device):
        return Algorithms(deterministic=True)
    before = found.content.get("algorithms") if found else None
    if before and before["device"] == device_name(precision.device) and (before["deterministic"] or choice == "auto"):
        return Algorithms(before["deterministic"])
    prepare_backend(deterministic=True, cpu_threads=cpu_threads, tf32=precision.tf32)
    reason = excluded_by(spec, dataset, precision, found)
    if reason is None:
        return Algorithms(deterministic=True)
    if choice == "exact":
        raise NotDeterministic(NOT_DETERMINISTIC_MODEL(model=spec.config.model, reason=reason))
    return Algorithms(deterministic=False, warning=ALGORITHMS_FAST(reason=reason))


def needs_probe(device: torch.device) -> bool:
    """Whether networks have operations without a deterministic algorithm there: on a CPU none of ours has."""
    return device.type == "cuda"


def recorded(algorithms: Algorithms, device: torch.device) -> AlgorithmsContent:
    """What a checkpoint holds about them."""
    return {"deterministic": algorithms.deterministic, "device": device_name(device)}


def excluded_by(
    spec: RunSpec, dataset: DatasetIndex, precision: Precision, found: Found | None = None
) -> Message | None:
    """Why the network cannot be trained with deterministic algorithms on this device; None where it can.

    A run that continues from the checkpoint `found` is probed as it will compute.
    """
    config = spec.config.model_copy(update={"batch_size": PROBE_IMAGES, "num_workers": 0})
    task = make_task(replace(spec, config=config), _few_images(dataset), precision.device)
    if found:
        task.continue_from(found.content)
    seed_everything(config.seed)
    model = task.build_model(pretrained=False)
    set_training(model, task.head_prefixes(model), frozen=is_frozen(config, config.epochs))
    try:
        first, second = (_gradients(task, model, precision, config.seed) for _turn in range(2))
    except Exception as error:
        if reason := _reason(error):
            return reason
        raise
    finally:
        del model
        release(precision.device)
    differing = [name for name, gradient in first.items() if not torch.equal(gradient, second[name])]
    return GRADIENT_DIFFERS(name=differing[0]) if differing else None


def _gradients(task: Task, model: nn.Module, precision: Precision, seed: int) -> dict[str, torch.Tensor]:
    """The gradients of the first batch; the same at every call, as far as the algorithms allow."""
    seed_everything(seed)  # dropout
    with precision.autocast():
        loss = task.loss(model, next(task.train_batches(1, skip=0)), task.training_meter())
    loss.backward()
    named = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad(set_to_none=True)
    # NaN differs from itself; whether gradients are finite is not the question here.
    return {name: gradient.nan_to_num() for name, gradient in named.items()}


def _reason(error: Exception) -> Message | None:
    """Why a step with deterministic algorithms failed; None where something else is wrong."""
    if operation := nondeterministic_operation(error):
        return OPERATION_EXCLUDED(operation=operation)
    if type(error).__module__.startswith(COMPILERS):
        logger.warning("A deterministic algorithm could not be compiled.", exc_info=error)
        return COMPILER_MISSING(error=next(iter(str(error).strip().splitlines()), type(error).__name__))
    return None


def _few_images(dataset: DatasetIndex) -> DatasetIndex:
    """The dataset with two training images and a validation image, annotated ones first: they reach every loss."""
    counts: list[tuple[Split, int]] = [("train", PROBE_IMAGES), ("val", 1)]
    samples = [
        sample
        for split, count in counts
        for sample in sorted(dataset.split(split), key=lambda one: not one.boxes)[:count]
    ]
    return replace(dataset, samples=samples)
