"""The pure parts of sweeps: the search space, the values of the next trial, and which trials are pruned."""

from typing import Any

import numpy as np
import pytest

from trainingapp.contract.config import correct_config, parse_config
from trainingapp.models.sweep import Origin, Pruner, Sampler, TrialState
from trainingapp.models.verbs import FieldError
from trainingapp.runs.sweeps.pruning import Pruning, brackets, is_hopeless, rungs_of
from trainingapp.runs.sweeps.sampling import Search, TrialRow, importances, propose
from trainingapp.runs.sweeps.space import Choice, Condition, Range, SearchSpace, checked_space, grid

BASE = parse_config({"epochs": 27}).model_dump(mode="json")
LR = Range(field="learning_rate", low=1e-4, high=1e-1, log=True)
OPTIMIZER = Choice(field="optimizer", values=("SGD", "AdamW"))
MOMENTUM = Range(field="momentum", low=0.5, high=0.95)
BATCH = Range(field="batch_size", low=4, high=64, log=True)
SIZE = Range(field="image_size", low=32, high=128)
SPACE = checked_space(SearchSpace(dimensions=(LR, MOMENTUM, OPTIMIZER, BATCH, SIZE)), BASE)


def search(sampler: str = Sampler.TPE, space: SearchSpace = SPACE, **fields: Any) -> Search:
    return Search(space=space, base=BASE, sampler=sampler, higher_is_better=True, **{"seed": 7, **fields})


def result(params: dict[str, Any]) -> float:
    """Best at a learning rate of 0.01; the rest matters little."""
    return 1.0 - abs(float(np.log10(params["learning_rate"])) + 2.0) / 3 - params["image_size"] / 1e5


def tried(count: int, sampler: str = Sampler.RANDOM, **fields: Any) -> list[TrialRow]:
    rows: list[TrialRow] = []
    asked = search(sampler, **fields)
    for number in range(count):
        params = propose(rows, asked, number)
        assert params is not None
        rows.append(TrialRow(number=number, params=params, value=result(params)))
    return rows


def test_a_dimension_follows_the_one_that_it_depends_on() -> None:
    assert SPACE.fields.index("optimizer") < SPACE.fields.index("momentum")


@pytest.mark.parametrize(
    ("dimension", "field"),
    [
        (Range(field="learning_rate", low=0.1, high=0.01), "learning_rate"),
        (Range(field="learning_rate", low=0.0, high=0.01), "learning_rate"),
        (Range(field="weight_decay", low=0.0, high=0.1, log=True), "weight_decay"),
        (Range(field="momentum", low=0.5, high=1.0), "momentum"),
        (Range(field="image_size", low=33, high=64), "image_size"),
        (Range(field="optimizer", low=1, high=2), "optimizer"),
        (Choice(field="optimizer", values=("SGD", "Lion")), "optimizer"),
        (Choice(field="optimizer", values=("SGD", "SGD")), "optimizer"),
        (Choice(field="batch_size", values=(0, 8)), "batch_size"),
        (Range(field="epochs", low=1, high=9), "epochs"),
        (Choice(field="device", values=("cpu", "cuda")), "device"),
        (Range(field="momentum", low=0.5, high=0.9), "momentum"),  # AdamW has none
        (Range(field="mixup", low=0, high=1, when=Condition(field="nothing", values=(1,))), "mixup"),
    ],
)
def test_the_configuration_decides_what_can_be_searched(dimension: Range | Choice, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        checked_space(SearchSpace(dimensions=(dimension,)), BASE)
    assert caught.value.field == field


def test_conditions_in_a_circle_are_refused() -> None:
    one = Range(field="mixup", low=0, high=1, when=Condition(field="cutmix", values=(0,)))
    other = Range(field="cutmix", low=0, high=1, when=Condition(field="mixup", values=(0,)))
    with pytest.raises(FieldError, match="depend on each other"):
        checked_space(SearchSpace(dimensions=(one, other)), BASE)


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.TPE])
def test_the_same_rows_and_seed_give_the_same_values(sampler: str) -> None:
    rows = tried(25)
    assert propose(rows, search(sampler), 25) == propose(list(rows), search(sampler), 25)
    assert propose(rows, search(sampler), 25) != propose(rows, search(sampler, seed=8), 25)
    assert propose(rows, search(sampler), 25) != propose(rows, search(sampler), 26)


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.TPE])
def test_suggested_values_make_a_configuration(sampler: str) -> None:
    """Within the bounds, whole where the field is whole, and only what counts beside the other values."""
    rows = tried(20, sampler)
    for row in rows:
        config, corrections = correct_config({**BASE, **row.params})
        assert not corrections
        assert 1e-4 <= config.learning_rate <= 1e-1
        assert config.image_size in (32, 64, 96, 128)
        assert 4 <= config.batch_size <= 64
        assert ("momentum" in row.params) == (config.optimizer == "SGD")
    assert {row.params["optimizer"] for row in rows} == {"SGD", "AdamW"}


@pytest.mark.slow
def test_a_gaussian_process_suggests_within_the_space() -> None:
    space = checked_space(SearchSpace(dimensions=(LR, SIZE)), BASE)
    rows = tried(12, space=space)
    asked = search(Sampler.GP, space)
    found = propose(rows, asked, 12)
    assert found is not None
    assert found == propose(rows, asked, 12)
    assert 1e-4 <= found["learning_rate"] <= 1e-1


def test_trials_that_run_are_heeded() -> None:
    """The constant liar: the trial beside one that runs is another one."""
    rows = tried(20)
    first = propose(rows, search(), 20)
    assert first is not None
    running = TrialRow(number=20, params=first, state=TrialState.RUNNING)
    assert propose([*rows, running], search(), 20) != first


def test_tpe_finds_more_than_random() -> None:
    """At equal numbers of trials, over several seeds, on a smooth objective."""
    space = checked_space(SearchSpace(dimensions=(LR, SIZE)), BASE)
    best: dict[str, list[float]] = {Sampler.TPE: [], Sampler.RANDOM: []}
    for seed in range(5):
        for sampler, found in best.items():
            found.append(max(row.value or 0.0 for row in tried(40, sampler, space=space, seed=seed)))
    assert np.mean(best[Sampler.TPE]) > np.mean(best[Sampler.RANDOM])


def test_values_outside_of_the_space_are_left_out_of_the_search() -> None:
    rows = tried(15)
    outside = TrialRow(number=15, params={"learning_rate": 5.0}, origin=Origin.BASE, value=9.0)
    assert propose([*rows, outside], search(), 16) == propose(rows, search(), 16)


def test_each_third_trial_is_random() -> None:
    rows, asked = tried(20), search(control_every=3)
    origins = [asked.origin(number) for number in range(6)]
    assert origins == [Origin.SUGGESTED, Origin.SUGGESTED, Origin.CONTROL] * 2
    assert propose(rows, asked, 20) == propose(rows, search(Sampler.RANDOM), 20)


def test_a_grid_tries_each_combination_once() -> None:
    space = checked_space(SearchSpace(dimensions=(OPTIMIZER, MOMENTUM.model_copy(update={"points": 3}))), BASE)
    combinations = list(grid(space, BASE))
    assert combinations == [
        {"optimizer": "SGD", "momentum": 0.5},
        {"optimizer": "SGD", "momentum": 0.725},
        {"optimizer": "SGD", "momentum": 0.95},
        {"optimizer": "AdamW"},
    ]
    asked = search(Sampler.GRID, space)
    rows = [TrialRow(number=0, params={"optimizer": "AdamW"}, origin=Origin.BASE)]
    while (params := propose(rows, asked, len(rows))) is not None:
        rows.append(TrialRow(number=len(rows), params=params))
    assert [row.params for row in rows[1:]] == combinations


def test_a_grid_can_be_too_large() -> None:
    names = ("learning_rate", "weight_decay", "dropout_rate", "label_smoothing")
    axes = tuple(Range(field=name, low=0.001, high=0.1, points=20) for name in names)
    with pytest.raises(FieldError, match="combinations"):
        checked_space(SearchSpace(dimensions=axes), BASE, is_grid=True)


def test_repeated_seeds_count_up() -> None:
    asked = Search(SearchSpace(), {**BASE, "seed": 40}, Sampler.REPEAT, 0, higher_is_better=True)
    assert [propose([], asked, number) for number in range(3)] == [{"seed": 40}, {"seed": 41}, {"seed": 42}]


def test_the_field_that_matters_is_the_most_important() -> None:
    space = checked_space(SearchSpace(dimensions=(LR, SIZE)), BASE)
    found = importances(tried(30, space=space), search(space=space))
    assert max(found, key=lambda name: found[name]) == "learning_rate"
    assert sum(found.values()) == pytest.approx(1.0)
    assert importances(tried(4, space=space), search(space=space)) == {}


# Pruning

MEDIAN = Pruning(Pruner.MEDIAN, epochs=27, warmup=2, higher_is_better=True)
HYPERBAND = Pruning(Pruner.HYPERBAND, epochs=27, warmup=1, higher_is_better=True)


def running(number: int, *values: float, **fields: Any) -> TrialRow:
    return TrialRow(number, {}, TrialState.RUNNING, curve=dict(enumerate(values, start=1)), **fields)


def complete(number: int, *values: float) -> TrialRow:
    return TrialRow(number, {}, curve=dict(enumerate(values, start=1)), value=max(values))


def test_the_median_prunes_the_worse_half() -> None:
    done = [complete(number, 0.1, 0.2, 0.3 + number / 100) for number in range(5)]
    assert is_hopeless(running(9, 0.1, 0.1, 0.31), done, MEDIAN)
    assert not is_hopeless(running(9, 0.1, 0.1, 0.33), done, MEDIAN)


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (running(9, 0.0, 0.0), 5),  # in its warm-up
        (running(9, 0.0, 0.0, 0.0), 4),  # too few are completed
        (running(9, 0.0, 0.0, 0.0, judged_epoch=3), 5),  # judged before
        (running(9, 0.0, 0.0, 0.0, origin=Origin.BASE), 5),
        (running(9), 5),  # nothing measured yet
        (complete(9, 0.0, 0.0, 0.0), 5),
    ],
)
def test_the_median_leaves_others_alone(row: TrialRow, count: int) -> None:
    done = [complete(number, 0.5, 0.5, 0.5) for number in range(count)]
    assert not is_hopeless(row, done, MEDIAN)


def test_a_loss_is_pruned_where_it_is_high() -> None:
    low = Pruning(Pruner.MEDIAN, epochs=27, warmup=2, higher_is_better=False)
    done = [complete(number, 0.5, 0.5, 0.5) for number in range(5)]
    assert is_hopeless(running(9, 0.9, 0.9, 0.9), done, low)
    assert not is_hopeless(running(9, 0.9, 0.9, 0.4), done, low)


def test_brackets_of_hyperband() -> None:
    assert brackets(HYPERBAND) == 4
    assert [rungs_of(number, HYPERBAND) for number in range(4)] == [[1, 3, 9], [3, 9], [9], []]


def test_hyperband_keeps_the_best_third_of_a_rung() -> None:
    peers = [running(4 * number, 0.1 * number) for number in range(1, 7)]
    assert is_hopeless(running(0, 0.45), peers, HYPERBAND)
    assert not is_hopeless(running(0, 0.65), peers, HYPERBAND)
    assert not is_hopeless(running(3, 0.0), peers, HYPERBAND)  # its bracket has no rung
    assert not is_hopeless(running(0, 0.9, 0.0), peers, HYPERBAND)  # the best so far counts


def test_an_epoch_between_two_rungs_is_not_judged() -> None:
    peers = [running(4 * number, 0.9, 0.9) for number in range(1, 7)]
    assert not is_hopeless(running(0, 0.1, 0.1, judged_epoch=1), peers, HYPERBAND)


def test_the_warm_up_of_the_schedule_is_added() -> None:
    config = parse_config({"epochs": 20, "warmup_epochs": 2.5}).model_dump(mode="json")
    assert Pruning.of(Pruner.MEDIAN, config, higher_is_better=True).warmup == 3 + 2


@pytest.mark.long
def test_tpe_with_a_pruner_finds_at_least_as_much_as_random_in_the_same_epochs() -> None:
    """On the drawn objective of benchmarks/sweeps.py, whose trials train epoch by epoch."""
    from benchmarks.sweeps import EPOCHS, best_with

    budget = 25 * EPOCHS
    pruned = [best_with(Sampler.TPE, Pruner.HYPERBAND, seed, budget)[0] for seed in range(6)]
    random = [best_with(Sampler.RANDOM, Pruner.NONE, seed, budget)[0] for seed in range(6)]
    assert np.mean(pruned) >= np.mean(random)
