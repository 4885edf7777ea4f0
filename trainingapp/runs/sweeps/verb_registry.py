"""The verbs of sweeps, one record each: buttons, API, commands, admin and role tests are derived from SWEEP_VERBS."""

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import Verb, can
from trainingapp.accounts.users import AnyUser
from trainingapp.models import Sweep
from trainingapp.models.sweep import SweepStatus
from trainingapp.presentation.text import Text
from trainingapp.runs.sweeps.verbs import can_be_resumed, pause_sweep, resume_sweep, start_sweep, stop_sweep


@dataclass(frozen=True, kw_only=True)
class SweepVerb:
    """A verb that changes the status of a sweep. `name` is part of addresses and of the API, and stays."""

    name: str
    #: Called as function(sweep, by=user name). Returns the sweep.
    function: Callable[..., Sweep]
    label: Text
    #: One sentence for the command line and the API document.
    help: str
    is_possible: Callable[[Sweep], bool]
    icon: str
    style: str = "btn-outline-secondary"
    permission: Verb = Verb.CONTROL
    #: What it does, beside the button.
    hint: Text = ""
    #: Shown after it was done, with %(name)s.
    done: Text

    def is_permitted(self, user: AnyUser, sweep: Sweep) -> bool:
        return can(user, self.permission, sweep)


SWEEP_VERBS: dict[str, SweepVerb] = {
    verb.name: verb
    for verb in (
        SweepVerb(
            name="start",
            function=start_sweep,
            label=_("Start"),
            help="Start new sweeps: workers create their trials.",
            is_possible=lambda sweep: sweep.status == SweepStatus.PENDING,
            icon="bi-play-fill",
            style="btn-primary",
            done=_("“%(name)s” was started."),
        ),
        SweepVerb(
            name="resume",
            function=resume_sweep,
            label=_("Resume"),
            help="Continue paused or ended sweeps while their budgets last.",
            is_possible=can_be_resumed,
            icon="bi-play-fill",
            style="btn-primary",
            hint=_("Paused trials resume, and further ones are created while the budgets last."),
            done=_("“%(name)s” was resumed."),
        ),
        SweepVerb(
            name="pause",
            function=pause_sweep,
            label=_("Pause"),
            help="Create no further trials, and pause those that are queued or running.",
            is_possible=lambda sweep: sweep.status == SweepStatus.RUNNING,
            icon="bi-pause-fill",
            hint=_("No further trials are created; those that train save and free their devices."),
            done=_("“%(name)s” was paused."),
        ),
        SweepVerb(
            name="stop",
            function=stop_sweep,
            label=_("Stop"),
            help="End sweeps: their trials are stopped after saving a checkpoint.",
            is_possible=lambda sweep: sweep.status in (SweepStatus.PENDING, SweepStatus.RUNNING, SweepStatus.PAUSED),
            icon="bi-stop-fill",
            hint=_("Ends the sweep: its trials save and stop."),
            done=_("“%(name)s” was stopped."),
        ),
    )
}
