"""What the control endpoint can do: one line for each action."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from pydantic import ValidationError

from trainingapp import lifecycle
from trainingapp.api.problems import Problem, wrong_config, wrong_field
from trainingapp.engine.config import correct_config
from trainingapp.models import Checkpoint, TrainingRun

if TYPE_CHECKING:
    from trainingapp.api.schemas import TrainingControlRequest

Action = Callable[[TrainingRun, "TrainingControlRequest", Any], TrainingRun]
#: The verbs that are there; those of runs that are made from others come with them.
_verbs: Any = lifecycle


def _plain(name: str) -> Action:
    """A verb that needs the run alone."""
    return lambda run, _order, user: getattr(_verbs, name)(run, by=user.get_username())


def _clone(run: TrainingRun, order: TrainingControlRequest, user: Any) -> TrainingRun:
    copy: TrainingRun = _verbs.clone_run(run, owner=user, name=order.name or "")
    return copy


def _fork(run: TrainingRun, order: TrainingControlRequest, user: Any) -> TrainingRun:
    try:
        config, corrections = correct_config({**run.config, **order.config})
    except ValidationError as error:
        raise wrong_config(error) from None
    fork: TrainingRun = _verbs.fork_run(
        run,
        _fork_point(run, order.checkpoint),
        owner=user,
        config=config,
        corrections=corrections,
        mode=order.mode,
        name=order.name or "",
        priority=run.priority,
    )
    return fork


def _fork_point(run: TrainingRun, file: str | None) -> Checkpoint:
    """The named checkpoint; else the best, else the last."""
    if file is not None:
        found = run.checkpoints.filter(file=file).first()
        if found is None:
            raise wrong_field("#/checkpoint", _("The run has no such checkpoint."))
        return found
    best = run.checkpoints.order_by("-is_best", "-is_last", "-step").first()
    if best is None:
        raise Problem(409, _("The run has no checkpoint yet."), kind="not-possible")
    return best


def _extend(run: TrainingRun, order: TrainingControlRequest, user: Any) -> TrainingRun:
    if order.epochs is None:
        raise wrong_field("#/epochs", _("This is needed."))
    longer: TrainingRun = _verbs.extend_run(run, order.epochs, by=user.get_username())
    return longer


#: action -> (the verb that it needs, what it does)
_TABLE: dict[str, tuple[str, Action]] = {
    "start": ("start_run", _plain("start_run")),
    "pause": ("pause_run", _plain("pause_run")),
    "resume": ("resume_run", _plain("resume_run")),
    "stop": ("stop_run", _plain("stop_run")),
    "retry": ("retry_run", _plain("retry_run")),
    "force_stop": ("force_stop_run", _plain("force_stop_run")),
    "checkpoint": ("checkpoint_now", _plain("checkpoint_now")),
    "evaluate": ("evaluate_now", _plain("evaluate_now")),
    "extend": ("extend_run", _extend),
    "clone": ("clone_run", _clone),
    "fork": ("fork_run", _fork),
}
ACTIONS = {name: action for name, (verb, action) in _TABLE.items() if hasattr(_verbs, verb)}
#: Actions that leave the run as it is: who sees it may take them.
MAKING_NEW_RUNS = frozenset({"clone", "fork"})
