"""Failures that a GPU adds, and what the studio calls them; and runs that change between CPU and GPU."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from pydantic import JsonValue

from trainingapp.engine.device import choose_device
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values, error_record, needs_gpu
from trainingapp.engine.gpu_check.process import Child, ChildEnded
from trainingapp.engine.gpu_check.training import PauseAfter, attempt, new_training, resume_verdict, run_spec
from trainingapp.engine.tasks.classification.data import Batch

CHILD_S = 60.0
RUN: dict[str, JsonValue] = {"model": "resnet18", "image_size": 64, "augmentation": "strong"}


def wrong_label(plan: Plan) -> Values:
    """A label beyond the classes: on a GPU an assertion within a kernel, after which the process is lost."""
    training = new_training(plan, RUN)
    batch = cast(Batch, next(training.batches()))
    try:
        training.step(iter([replace(batch, targets=torch.full_like(batch.targets, 99))]))
        loss = float(training.step(iter([batch])))
    except Exception as error:  # noqa: BLE001 - what is looked for
        return error_record(error)
    return {"loss": loss, "problem": "no error"}


def missing_gpu(plan: Plan) -> Values:
    """A run for a GPU that the machine does not have."""
    try:
        device = choose_device("cuda:31")
    except Exception as error:  # noqa: BLE001 - what is looked for
        record = error_record(error)
        is_right = record["error_class"] == "bad_config"
        return {**record, **({} if is_right else {"problem": "not recognized"})}
    return {"problem": f"no error: {device}"}


def moved(plan: Plan, before: str, after: str) -> Values:
    """A run that is paused on one device and resumed on the other."""
    needs_gpu(plan)
    folder = plan.folder / "runs" / f"moved-{before}"
    shutil.rmtree(folder, ignore_errors=True)
    spec = run_spec(plan, folder, RUN)
    devices = {"CPU": "cpu", "GPU": plan.device}
    ended = [
        attempt(replace(spec, device=devices[before]), PauseAfter(3)),
        attempt(replace(spec, device=devices[after], attempt=2)),
    ]
    verdict, reason = resume_verdict(folder)
    is_right = ended == ["paused", "completed"] and verdict in ("exact", "near")
    return {
        "ended": " ".join(ended),
        "resume_check": verdict,
        "reason": reason,
        **({} if is_right else {"problem": f"{' '.join(ended)}, {verdict}"}),
    }


def killed(plan: Plan) -> Values:
    """A trainer that is killed within an epoch: a new one resumes from the last checkpoint and frees nothing twice."""
    folder = plan.folder / "runs" / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    spec = run_spec(plan, folder, {**RUN, "epochs": 2})
    child = Child(plan, _die_in_second_epoch, plan)
    try:
        child.receive(CHILD_S)
        return {"problem": "the trainer did not die"}
    except ChildEnded:
        pass
    finally:
        child.end()
    ended = attempt(replace(spec, attempt=2))
    return {"ended": ended, "resume_check": resume_verdict(folder)[0]}


def _die_in_second_epoch(send: Callable[[Values], None], plan: Plan) -> None:
    class Dies(PauseAfter):
        def ending(self) -> None:
            if super().ending():
                os.kill(os.getpid(), signal.SIGKILL)

    spec = run_spec(plan, plan.folder / "runs" / "killed", {**RUN, "epochs": 2})
    batches = 32 // spec.config.batch_size
    attempt(spec, Dies(2 * batches))
    send({})


def cases(plan: Plan) -> list[Case]:
    return [
        Case("label out of range", wrong_label, alone=True),
        Case("GPU that does not exist", missing_gpu),
        Case("paused on the CPU, resumed on the GPU", partial(moved, before="CPU", after="GPU")),
        Case("paused on the GPU, resumed on the CPU", partial(moved, before="GPU", after="CPU")),
        Case("killed in the second epoch", killed, alone=True),
    ]


SECTION = Section("failures", "Failures, and moves between CPU and GPU", 60, cases)
