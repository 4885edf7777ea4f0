"""Runs on the pretend GPU: `python -m tests.engine.rehearsal.rehearse FOLDER NETWORKS` prints a line of JSON for each.

NETWORKS is a JSON list of {"model", "task"?, "fault"?, "deterministic"?}. Each trains an epoch by the real loop, is
paused after a step, resumed and validated. `fault` is one of FAULTS, which the rehearsal is to find.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from tests.engine.rehearsal.pretend import PretendDevice, pretend_gpu
from trainingapp.contract.events import EVENTS_FILE, Started, read_events
from trainingapp.engine import determinism, loop
from trainingapp.engine.gpu_check.case import Plan, Values, error_record
from trainingapp.engine.gpu_check.scenes import draw_scenes
from trainingapp.engine.gpu_check.training import SCENES, PauseAfter, attempt, newest, resume_verdict, run_spec
from trainingapp.engine.step import Step
from trainingapp.engine.tasks.classification.task import ClassificationTask
from trainingapp.engine.tasks.registry import make_task
from trainingapp.engine.tasks.task import Task

IMAGES, BATCH_SIZE = 12, 4
"""Three steps: the run is paused after the first, and the last one does nothing for the first time."""
SIDE = 96
#: Devices mix and wait alike at every size: one at which no network takes minutes. Its layers need more in one network.
IMAGE_SIZE = 96
LARGER = {"ssd300_vgg16": 288}
PROPOSALS = 16


def rehearse(plan: Plan, device: PretendDevice, network: dict[str, str]) -> Values:
    """What came of a run: how it ended, and what its steps did to the device."""
    device.refused.clear()
    # Without loader processes: beside them another thread pins memory, where nothing is pretended.
    values = {
        "model": network["model"],
        "batch_size": BATCH_SIZE,
        "image_size": LARGER.get(network["model"], IMAGE_SIZE),
        "cpu_threads": 1,
        "num_workers": 0,
    }
    values |= {name: network[name] for name in ("task", "deterministic") if name in network}
    folder = plan.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    spec = run_spec(plan, folder, values)
    found: Values = {"model": network["model"]}
    with counted_steps(device) as steps:
        try:
            ended = [attempt(spec, PauseAfter(1)), attempt(replace(spec, attempt=2))]
            verdict, reason = resume_verdict(folder)
            found |= {"ended": [*ended], "resume_check": verdict, "reason": reason}
            found["metrics"] = {**newest(folder).metrics}
            found["deterministic"] = [one.environment["deterministic"] for one in starts(folder)]
        except Exception as error:  # noqa: BLE001 - the other networks are to run
            found["error"] = error_record(error)
    waits = steps[-1] if steps else Counter[str]()
    return {**found, "waits": waits.total(), "lines": {**waits}, "refused": {**device.refused}}


def starts(folder: Path) -> list[Started]:
    events = (event for event, _offset in read_events(folder / EVENTS_FILE, 0, -1))
    return [event for event in events if isinstance(event, Started)]


@contextmanager
def counted_steps(device: PretendDevice) -> Iterator[list[Counter[str]]]:
    """The waits of each training step within."""
    steps: list[Counter[str]] = []
    make_step = loop.training_step

    def counted(*arguments: Any, **options: Any) -> Step:
        device.waits.clear()
        step = make_step(*arguments, **options)
        steps.append(device.waits.copy())
        return step

    # On a busy machine a step may take longer than the loop waits for one that is not saved.
    with patch.multiple(loop, training_step=counted, LONGEST_STEP_AHEAD_S=float("inf")):
        yield steps


def with_few_proposals(make: Callable[..., Task], *arguments: Any, **options: Any) -> Task:
    """The task; detectors in two stages get few proposals.

    Where algorithms are deterministic, torchvision pools them from tensors with a value for each pixel that is read: of
    those of a usual batch, with 100 million.
    """
    task = make(*arguments, **options)
    build = task.build_model

    def build_model(**given: Any) -> nn.Module:
        model = build(**given)
        if isinstance(model, FasterRCNN):
            model.rpn._pre_nms_top_n = model.rpn._post_nms_top_n = {"training": PROPOSALS, "testing": PROPOSALS}
            model.roi_heads.fg_bg_sampler.batch_size_per_image = PROPOSALS
        return model

    task.build_model = build_model  # type: ignore[method-assign]
    return task


# Faults


class Reads(ClassificationTask):
    """Reads the loss at each step."""

    def loss(self, *arguments: Any) -> torch.Tensor:
        loss = super().loss(*arguments)
        assert loss.item() >= 0
        return loss


class Mixes(ClassificationTask):
    """Adds a tensor of the CPU."""

    def loss(self, *arguments: Any) -> torch.Tensor:
        return super().loss(*arguments) + torch.zeros(1)


class Pools(ClassificationTask):
    """Uses an operation that has no deterministic gradient on CUDA."""

    def loss(self, model: Any, batch: Any, meter: Any) -> torch.Tensor:
        loss = super().loss(model, batch, meter)
        return loss + torch.nn.functional.adaptive_avg_pool2d(model.conv1.weight, 3).mean()


FAULTS = {"reads": Reads, "mixes": Mixes, "pools": Pools}


def main(folder: Path, networks: list[dict[str, str]]) -> None:
    torch.set_num_threads(1)
    plan = Plan("cuda:0", folder)
    draw_scenes(folder / SCENES, train=IMAGES, val=BATCH_SIZE, width=SIDE, height=SIDE, files=16, suffix=".png")
    with pretend_gpu() as device:
        for network in networks:
            fault = FAULTS.get(network.get("fault", ""))
            make = partial(with_few_proposals, fault or make_task)
            with patch.object(loop, "make_task", make), patch.object(determinism, "make_task", make):
                sys.stdout.write(json.dumps(rehearse(plan, device, network)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
