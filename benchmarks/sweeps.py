"""How long a sampler takes to choose a trial, and what samplers and pruners find with equal epochs.

    python benchmarks/sweeps.py [--quick] [--train]

First the time of a question by the number of trials; then the best result on a drawn objective, by method, with equal
epochs: the median over seeds. Nothing is trained and no database is read: both are pure functions of the trials. With
`--train` random search and TPE with a pruner also search where each trial is really trained (sweeps_trained.py).

The last line is JSON: `ask_ms` of TPE and `importance_ms` at 200 trials, `best` by sampler and pruner, and `ratio`, the
best of TPE with a pruner over that of random search without one; `best_trained` and `ratio_trained` with `--train`.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django

django.setup()

from trainingapp.contract.config import parse_config  # noqa: E402
from trainingapp.models.sweep import Pruner, Sampler, TrialState  # noqa: E402
from trainingapp.runs.sweeps.pruning import Pruning, is_hopeless  # noqa: E402
from trainingapp.runs.sweeps.sampling import Search, TrialRow, importances, propose  # noqa: E402
from trainingapp.runs.sweeps.space import Choice, Range, SearchSpace, checked_space  # noqa: E402

EPOCHS = 27
#: Numbers of trials.
COUNTS = (20, 50, 200)
BASE = parse_config({"epochs": EPOCHS, "warmup_epochs": 0}).model_dump(mode="json")
SPACE = checked_space(
    SearchSpace(
        dimensions=(
            Range(field="learning_rate", low=1e-4, high=1e-1, log=True),
            Range(field="weight_decay", low=1e-5, high=1e-1, log=True),
            Range(field="label_smoothing", low=0, high=0.3),
            Range(field="dropout_rate", low=0, high=0.5),
            Choice(field="optimizer", values=("SGD", "AdamW")),
            Range(field="momentum", low=0.8, high=0.98),
        )
    ),
    BASE,
)


def search(sampler: str, seed: int) -> Search:
    return Search(SPACE, BASE, sampler, seed, higher_is_better=True)


def curve(params: dict[str, object]) -> dict[int, float]:
    """What such a run would measure after each epoch: a peak at a learning rate of 0.01 and little weight decay."""
    rate = math.log10(float(str(params["learning_rate"]))) + 2
    decay = math.log10(float(str(params["weight_decay"]))) + 3.5
    other = (float(str(params["label_smoothing"])) - 0.1) ** 2 + (float(str(params["dropout_rate"])) - 0.2) ** 2
    end = 0.95 * math.exp(-(rate**2) / 2 - decay**2 / 12 - other) - 0.05 * (params["optimizer"] == "SGD")
    return {epoch: end * epoch / (epoch + 2 + abs(rate)) for epoch in range(1, EPOCHS + 1)}


def finished(params: dict[str, object], number: int) -> TrialRow:
    values = curve(params)
    return TrialRow(number, dict(params), value=max(values.values()), curve=values)  # type: ignore[arg-type]


def ask_times(samplers: list[Sampler], repeats: int) -> dict[str, float]:
    """Print the times of questions, and give those of the most trials in milliseconds."""
    found: dict[str, float] = {}
    print(f"{'sampler':10}{'trials':>8}{'median ms':>12}{'worst ms':>11}")
    for sampler in samplers:
        for count in COUNTS:
            rows = [finished(propose([], search(Sampler.RANDOM, 0), number) or {}, number) for number in range(count)]
            propose(rows, search(sampler, 0), count)  # imports
            times = [milliseconds(propose, rows, search(sampler, seed), count) for seed in range(repeats)]
            print(f"{sampler:10}{count:8}{statistics.median(times):12.0f}{max(times):11.0f}")
            found[sampler] = statistics.median(times)
    importances(rows, search(Sampler.TPE, 0))
    times = [milliseconds(importances, rows, search(Sampler.TPE, 0)) for _repeat in range(repeats)]
    print(f"importance of {len(rows)} trials: {statistics.median(times):.0f} ms")
    return {**found, "importance": statistics.median(times)}


def milliseconds(function: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - began) * 1000


def best_with(sampler: str, pruner: str, seed: int, budget: int) -> tuple[float, int]:
    """The best result, and the trials, of one trial after the other until the epochs are used up."""
    rows: list[TrialRow] = []
    pruning = Pruning.of(pruner, BASE, higher_is_better=True)
    used = 0
    while used + EPOCHS <= budget:
        number = len(rows)
        params = propose(rows, search(sampler, seed), number) or {}
        row = TrialRow(number, params, TrialState.RUNNING)
        for epoch, value in curve(dict(params)).items():
            used += 1
            row = replace(row, curve={**row.curve, epoch: value})
            if is_hopeless(row, rows, pruning):
                row = replace(row, state=TrialState.PRUNED)
                break
            row = replace(row, judged_epoch=epoch)
        if row.state == TrialState.RUNNING:
            row = replace(row, state=TrialState.COMPLETED)
        rows.append(replace(row, value=max(row.curve.values())))
    return max(row.value or 0.0 for row in rows), len(rows)


def quality(seeds: int, trials: int) -> dict[str, float]:
    """Print the best results with equal epochs, and give their medians by sampler and pruner."""
    found: dict[str, float] = {}
    print(f"{'sampler':10}{'pruner':12}{'trials':>8}{'median best':>13}{'worst best':>12}")
    for sampler in (Sampler.RANDOM, Sampler.TPE):
        for pruner in (Pruner.NONE, Pruner.MEDIAN, Pruner.HYPERBAND):
            results = [best_with(sampler, pruner, seed, trials * EPOCHS) for seed in range(seeds)]
            best = [value for value, _count in results]
            count = statistics.mean(count for _value, count in results)
            print(f"{sampler:10}{pruner:12}{count:8.0f}{statistics.median(best):13.4f}{min(best):12.4f}")
            found[f"{sampler} {pruner}"] = round(statistics.median(best), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer questions and seeds, without Gaussian processes")
    parser.add_argument("--train", action="store_true", help="search with trials that are really trained, too")
    arguments = parser.parse_args()
    quick = arguments.quick
    samplers = [Sampler.RANDOM, Sampler.TPE, *([] if quick else [Sampler.GP])]
    asked = ask_times(samplers, 3 if quick else 10)
    best = quality(3 if quick else 10, 20 if quick else 30)
    ratio = best[f"{Sampler.TPE} {Pruner.MEDIAN}"] / best[f"{Sampler.RANDOM} {Pruner.NONE}"]
    figures = {"ask_ms": round(asked[Sampler.TPE], 1), "importance_ms": round(asked["importance"], 1)}
    found = {"benchmark": "sweeps", "quick": quick, **figures, "best": best, "ratio": round(ratio, 4)}
    if arguments.train:
        from benchmarks.sweeps_trained import trained_quality  # loads torch

        found |= trained_quality(3 if quick else 10, 20)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
