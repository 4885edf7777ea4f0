"""The values of the next trial, as a pure function of the trials so far.

Nothing is remembered between two questions: the rows of the database are the whole state of a search, so that a killed
worker loses none of it. Random, grid and repeated seeds need no library; TPE, GP and the importance of fields are
Optuna's, rebuilt in memory from the rows.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from django.utils.translation import gettext as _
from pydantic import JsonValue

from trainingapp.models.sweep import REPEATED_FIELDS, Origin, Sampler, TrialState
from trainingapp.models.verbs import VerbError
from trainingapp.runs.sweeps.space import (
    Choice,
    Params,
    Range,
    SearchSpace,
    Value,
    fitted,
    grid,
    is_active,
    is_inside,
    searchable_fields,
    step_of,
)

if TYPE_CHECKING:
    import optuna

#: Trials with a result before TPE and GP suggest anything: until then they are random.
STARTUP_TRIALS = 10
#: Completed trials before the importance of fields says something.
LEAST_FOR_IMPORTANCE = 8
OPTUNA_SAMPLERS = frozenset({Sampler.TPE, Sampler.GP})


@dataclass(frozen=True)
class TrialRow:
    """What a trial says to samplers and pruners. `curve` has the metric after each validation, by epoch."""

    number: int
    params: Params
    state: str = TrialState.COMPLETED
    origin: str = Origin.SUGGESTED
    value: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    judged_epoch: int = 0


@dataclass(frozen=True)
class Search:
    """What is searched, and how: the part of a sweep that does not change while it runs."""

    space: SearchSpace
    base: Mapping[str, JsonValue]
    sampler: str
    seed: int
    higher_is_better: bool
    control_every: int = 0

    def origin(self, number: int) -> Origin:
        """Whether the trial of this number is suggested by the sampler or belongs to the random control group."""
        every = self.control_every
        return Origin.CONTROL if every and number % every == every - 1 else Origin.SUGGESTED


def has_optuna() -> bool:
    return find_spec("optuna") is not None


def require_optuna(sampler: str) -> None:
    """Raises VerbError where the sampler needs Optuna and it is not installed."""
    if sampler in OPTUNA_SAMPLERS and not has_optuna():
        text = _("The sampler %(sampler)s needs Optuna. Install it with: pip install 'cvstudio[sweeps]'")
        raise VerbError(text % {"sampler": Sampler(sampler).label})


def propose(rows: Sequence[TrialRow], search: Search, number: int) -> Params | None:
    """The values of the trial with this number; None where the grid has no other combination, or there is no fold.

    The same rows and the same seed give the same values.
    """
    sampler = search.sampler
    if sampler in REPEATED_FIELDS:
        name = REPEATED_FIELDS[sampler]
        value = int(str(search.base[name])) + number
        return {name: value} if name == "seed" or value < int(str(search.base["folds"])) else None
    if sampler == Sampler.GRID:
        tried = [_known(row.params) for row in rows if row.origin != Origin.BASE]
        return next((params for params in grid(search.space, search.base) if _known(params) not in tried), None)
    if sampler == Sampler.RANDOM or search.origin(number) == Origin.CONTROL:
        return _random(search, number)
    return _suggested(rows, search, number)


def _known(params: Mapping[str, object]) -> frozenset[tuple[str, str]]:
    return frozenset((name, repr(value)) for name, value in params.items())


def _random(search: Search, number: int) -> Params:
    random = np.random.default_rng([search.seed, number])
    known, params = searchable_fields(str(search.base["task"])), Params()
    for dimension in search.space:
        # Drawn for each dimension, also where it does not count: one condition must not shift the values of others.
        place = float(random.random())
        if is_active(dimension, known[dimension.field], {**search.base, **params}):
            params[dimension.field] = _at(dimension, search, place)
    return params


def _at(dimension: Range | Choice, search: Search, place: float) -> Value:
    """The value at a place from 0 to 1 of the dimension."""
    if isinstance(dimension, Choice):
        return dimension.values[min(int(place * len(dimension.values)), len(dimension.values) - 1)]
    found = searchable_fields(str(search.base["task"]))[dimension.field]
    low, high = dimension.low, dimension.high
    if found.kind == "whole" and not dimension.log:  # each number as likely as the others
        low, high = low - step_of(dimension.field) / 2, high + step_of(dimension.field) / 2
    value = low * (high / low) ** place if dimension.log else low + (high - low) * place
    return fitted(dimension, found, value)


# Optuna


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces each trial and each option that may change in a later version."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _seed_of(search: Search, number: int) -> int:
    return int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])


def _suggested(rows: Sequence[TrialRow], search: Search, number: int) -> Params:
    import optuna

    seed = _seed_of(search, number)
    with _quiet():
        if search.sampler == Sampler.GP:
            sampler: optuna.samplers.BaseSampler = optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False
            )
        else:
            # Trials that run count as bad ones (the constant liar), so that two at once are not the same.
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True
            )
        trial = _study(rows, search, sampler).ask()
        known, params = searchable_fields(str(search.base["task"])), Params()
        for dimension in search.space:
            if is_active(dimension, known[dimension.field], {**search.base, **params}):
                params[dimension.field] = _suggest(trial, dimension, search)
    return params


def _suggest(trial: "optuna.Trial", dimension: Range | Choice, search: Search) -> Value:
    name = dimension.field
    if isinstance(dimension, Choice):
        return cast("Value", trial.suggest_categorical(name, dimension.values))
    config = searchable_fields(str(search.base["task"]))[name]
    if config.kind == "whole":
        low, high = int(dimension.low), int(dimension.high)
        if dimension.log:  # Optuna has no logarithmic scale with steps
            return fitted(dimension, config, trial.suggest_int(name, low, high, log=True))
        return trial.suggest_int(name, low, high, step=step_of(name))
    return fitted(dimension, config, trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log))


def _distribution(dimension: Range | Choice, search: Search) -> Any:
    import optuna.distributions as of

    if isinstance(dimension, Choice):
        return of.CategoricalDistribution(dimension.values)
    if searchable_fields(str(search.base["task"]))[dimension.field].kind == "whole":
        step = 1 if dimension.log else step_of(dimension.field)
        return of.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return of.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _study(rows: Sequence[TrialRow], search: Search, sampler: "optuna.samplers.BaseSampler | None") -> "optuna.Study":
    """The trials that say something, as a study in memory."""
    import optuna

    study = optuna.create_study(
        direction="maximize" if search.higher_is_better else "minimize",
        sampler=sampler,
        storage=optuna.storages.InMemoryStorage(),
    )
    known = {dimension.field: _distribution(dimension, search) for dimension in search.space}
    states = {
        TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
        TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
        TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
        TrialState.WAITING: optuna.trial.TrialState.RUNNING,
    }
    trials = []
    for row in rows:
        params = {name: value for name, value in row.params.items() if name in known}
        state = states.get(TrialState(row.state))
        # Values outside of the space (of the base configuration, or entered by a person) tell Optuna nothing.
        if state is None or not is_inside(search.space, params) or (state.name == "COMPLETE" and row.value is None):
            continue
        trials.append(
            optuna.trial.create_trial(
                state=state,
                value=row.value if state.name == "COMPLETE" else None,
                params=params,
                distributions={name: known[name] for name in params},
                intermediate_values=dict(row.curve),
            )
        )
    study.add_trials(trials)
    return study


def importances(rows: Sequence[TrialRow], search: Search) -> dict[str, float]:
    """How much each field matters for reaching the best results, by PED-ANOVA: shares that add up to 1.

    Empty where too few trials are completed, or Optuna is not installed. Fields that not every trial has are left out.
    """
    complete = [row for row in rows if row.state == TrialState.COMPLETED and row.value is not None]
    if len(complete) < LEAST_FOR_IMPORTANCE or len(search.space) < 2 or not has_optuna():
        return {}
    import optuna

    with _quiet():
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            found = optuna.importance.get_param_importances(_study(complete, search, None), evaluator=evaluator)
        except (ValueError, RuntimeError):  # all results are the same
            return {}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}
