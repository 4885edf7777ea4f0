"""The learning rate over the epochs as numbers, for pages that draw it (no torch)."""

from dataclasses import dataclass

from trainingapp.contract.config import RunConfig, with_epochs
from trainingapp.contract.schedule import make_schedule

#: Steps per epoch where the number of images is unknown: enough for a smooth line.
USUAL_STEPS = 100
POINTS = 200

Point = tuple[float, float]
"""(epochs done, learning rate of the step that follows)."""


@dataclass(frozen=True)
class Extension:
    """The learning rate before and after a change of the number of epochs.

    `before` is the whole run as planned so far, `after` the part from `at_epoch` on with the new number. The rate can
    jump there from `rate_before` to `rate_after`: the schedule is computed for the new length at the same step.
    """

    at_epoch: float
    before: list[Point]
    after: list[Point]
    rate_before: float
    rate_after: float


def lr_curve(
    config: RunConfig, *, from_epoch: float = 0.0, steps_per_epoch: int = USUAL_STEPS, points: int = POINTS
) -> list[Point]:
    """At most `points` values of the rate from `from_epoch` to the end, including the first and the last step."""
    schedule = make_schedule(config, steps_per_epoch)
    first, last = _step(from_epoch, steps_per_epoch), schedule.total_steps - 1
    if first > last:
        return []
    count = max(1, min(points - 1, last - first))
    steps = dict.fromkeys(first + (last - first) * number // count for number in range(count + 1))
    return [(step / steps_per_epoch, schedule.lr_at(step)) for step in steps]


def extension(
    config: RunConfig,
    epochs: int,
    *,
    done_epochs: float,
    steps_per_epoch: int = USUAL_STEPS,
    points: int = POINTS,
) -> Extension:
    """The effect of `epochs` instead of the configured number on a run that has completed `done_epochs`.

    Raises pydantic.ValidationError for a number that the configuration does not allow.
    """
    changed = with_epochs(config, epochs)
    return Extension(
        at_epoch=done_epochs,
        before=lr_curve(config, steps_per_epoch=steps_per_epoch, points=points),
        after=lr_curve(changed, from_epoch=done_epochs, steps_per_epoch=steps_per_epoch, points=points),
        rate_before=_rate_at(config, done_epochs, steps_per_epoch),
        rate_after=_rate_at(changed, done_epochs, steps_per_epoch),
    )


def _rate_at(config: RunConfig, epoch: float, steps_per_epoch: int) -> float:
    """The rate of the next step, or of the last one at the end of the run."""
    schedule = make_schedule(config, steps_per_epoch)
    return schedule.lr_at(min(_step(epoch, steps_per_epoch), schedule.total_steps - 1))


def _step(epoch: float, steps_per_epoch: int) -> int:
    return round(epoch * steps_per_epoch)
