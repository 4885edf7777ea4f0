"""Where a training step waits for the GPU."""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from trainingapp.engine.gpu_check.architectures import Network, chosen, compiles, has_boxes
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values, is_torch, place
from trainingapp.engine.gpu_check.training import new_training

STEPS = 3
SITES_KEPT = 25
SYNCHRONIZING = "synchronizing CUDA operation"


@contextmanager
def located_warnings(part: str) -> Iterator[Counter[str]]:
    """Counts the warnings that contain `part` by the first line outside of torch that they come from.

    Those of a backward pass, which runs in a thread of its own, come from the line that calls it.
    """
    found: Counter[str] = Counter()

    def note(message: Warning | str, *_about: object, **_more: object) -> None:
        if part in str(message):
            frames = [frame for frame in traceback.extract_stack()[:-1] if not is_internal(frame.filename)]
            found[f"{place(frames[-1])}  {frames[-1].line}" if frames else "?"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield found


def is_internal(file: str) -> bool:
    """Whether a frame belongs to torch or to the warnings themselves."""
    return is_torch(file) or file.endswith("/warnings.py")


def count(plan: Plan, network: Network) -> Values:
    """Synchronizations of a step with the defaults of the architecture, and how long it takes."""
    task, model = network
    training = new_training(
        plan, {"task": task, "model": model, "deterministic": "fast" if compiles(model) else "exact"}
    )
    batches = training.batches()
    for _turn in range(2):
        training.step(batches)
    with located_warnings(SYNCHRONIZING) as found:
        if plan.on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            for _turn in range(STEPS):
                training.step(batches)
        finally:
            if plan.on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    seconds = training.seconds_per_step(batches, 0.3 if plan.on_gpu else 0.0)
    sites = [f"{times / STEPS:.1f}  {site}" for site, times in found.most_common(SITES_KEPT)]
    return {
        "per_step": round(found.total() / STEPS, 1) if plan.on_gpu else None,
        "ms_per_step": round(1000 * seconds, 2),
        "batch_size": training.state.config.batch_size,
        "sites": [*sites],
    }


def cases(plan: Plan) -> list[Case]:
    networks = sorted(chosen(plan), key=lambda network: not has_boxes(network[0]))
    return [Case(model, partial(count, network=(task, model))) for task, model in networks]


SECTION = Section("synchronizations", "Synchronizations of a training step, by line", 60, cases)
