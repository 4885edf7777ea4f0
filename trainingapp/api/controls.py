"""What the control endpoint can do: one line for each action."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from pydantic import ValidationError

from trainingapp.api.problems import Problem, wrong_config, wrong_field
from trainingapp.contract.config import correct_config
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.runs import verbs as run_verbs

if TYPE_CHECKING:
    from trainingapp.api.schemas import TrainingControlRequest

Action = Callable[[TrainingRun, "TrainingControlRequest", Any], TrainingRun]


def _plain(verb: Callable[..., TrainingRun]) -> Action:
    """A verb that needs the run alone."""
    return lambda run, _order, user: verb(run, by=user.get_username())


def _clone(run: TrainingRun, order: TrainingControlRequest, user: Any) -> TrainingRun:
    return run_verbs.clone_run(run, owner=user, name=order.name or "")


def _fork(run: TrainingRun, order: TrainingControlRequest, user: Any) -> TrainingRun:
    try:
        config, corrections = correct_config({**run.config, **order.config})
    except ValidationError as error:
        raise wrong_config(error) from None
    return run_verbs.fork_run(
        run,
        _fork_point(run, order.checkpoint),
        owner=user,
        config=config,
        corrections=corrections,
        mode=order.mode,
        name=order.name or "",
        priority=run.priority,
    )


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
    return run_verbs.extend_run(run, order.epochs, by=user.get_username())


ACTIONS: dict[str, Action] = {
    "start": _plain(run_verbs.start_run),
    "pause": _plain(run_verbs.pause_run),
    "resume": _plain(run_verbs.resume_run),
    "stop": _plain(run_verbs.stop_run),
    "force_stop": _plain(run_verbs.force_stop_run),
    "retry": _plain(run_verbs.retry_run),
    "checkpoint": _plain(run_verbs.checkpoint_now),
    "evaluate": _plain(run_verbs.evaluate_now),
    "extend": _extend,
    "clone": _clone,
    "fork": _fork,
}
#: Actions that leave the run as it is: who sees it may take them.
MAKING_NEW_RUNS = frozenset({"clone", "fork"})
