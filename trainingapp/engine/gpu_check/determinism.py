"""What deterministic algorithms refuse, and what they cost."""

import itertools
from collections.abc import Iterable
from functools import partial

import torch
from pydantic import JsonValue

from trainingapp.contract.errors import classify
from trainingapp.engine.gpu_check.architectures import UNLISTED, Network, chosen, compiles, listed
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values, error_record, needs_gpu
from trainingapp.engine.gpu_check.families import NOT_OF_ALGORITHMS
from trainingapp.engine.gpu_check.synchronizations import located_warnings
from trainingapp.engine.gpu_check.training import PHOTOS, new_training

REFUSAL = "deterministic"
SMALL: dict[str, JsonValue] = {"model": "resnet18", "image_size": 32, "batch_size": 2}
"""In place of resnet50 on a CPU."""

COMPARED: dict[str, dict[str, JsonValue]] = {
    "resnet50": {"model": "resnet50", "image_size": 224, "batch_size": 64},
    "fpn": {"model": "smp/fpn_resnet50", "image_size": 256, "batch_size": 16},
    "deeplabv3plus": {
        "model": "smp/deeplabv3plus_resnet50",
        "image_size": 256,
        "batch_size": 16,
    },
    "fasterrcnn": {"model": "fasterrcnn_resnet50_fpn", "image_size": 320, "batch_size": 8},
}
"""Whose step is measured with and without."""


def refused(plan: Plan, network: Network) -> Values:
    """One step under deterministic algorithms; where it is refused, a second one lists everything that would be."""
    needs_gpu(plan)
    task, model = network
    training = new_training(plan, {"task": task, "model": model, "batch_size": 2, "deterministic": "exact"})
    batch = next(training.batches())
    try:
        training.step(iter([batch]))
        return {"refused": False}
    except Exception as error:
        if classify(error).error_class in NOT_OF_ALGORITHMS:
            raise
        record = error_record(error)
    training.state.optimizer.zero_grad(set_to_none=True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with located_warnings(REFUSAL) as found:
        training.step(iter([batch]))
    return {"refused": True, "message": record["message"], "where": record["where"], "sites": [*found]}


def cost(plan: Plan, values: dict[str, JsonValue]) -> Values:
    """Milliseconds of a step with and without."""
    small: dict[str, JsonValue] = {} if plan.on_gpu else SMALL
    milliseconds = {}
    for deterministic in (False, True):
        training = new_training(
            plan, {**values, **small, "deterministic": "exact" if deterministic else "fast"}, dataset=PHOTOS
        )
        batch = next(training.batches())
        milliseconds[deterministic] = 1000 * training.seconds_per_step(
            itertools.repeat(batch), 1.0 if plan.on_gpu else 0.0
        )
        del training
    return {
        "deterministic_ms": round(milliseconds[True], 2),
        "fast_ms": round(milliseconds[False], 2),
        "ratio": round(milliseconds[True] / milliseconds[False], 2),
    }


def cases(plan: Plan) -> list[Case]:
    compared = dict(list(COMPARED.items())[:1]) if plan.quick else COMPARED
    costs = [Case(f"cost: {name}", partial(cost, values=values), budget_s=90) for name, values in compared.items()]
    first = chosen(plan)
    others = [] if plan.quick else [*UNLISTED, *(one for one in listed() if one not in first)]

    def refusals(networks: Iterable[Network]) -> list[Case]:
        return [Case(model, partial(refused, network=(task, model)), budget_s=90) for task, model in networks]

    # What compiles takes longest and comes last.
    plain = [one for one in first if not compiles(one[1])]
    compiled = [one for one in first if compiles(one[1])][:1]
    rest = [one for one in others if not compiles(one[1])]
    return [*refusals(plain), *costs[:-1], *refusals(rest), *refusals(compiled), *costs[-1:]]


SECTION = Section("determinism", "What deterministic algorithms refuse, and what they cost", 120, cases)
