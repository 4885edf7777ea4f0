"""Messages about sweeps: why one ended or was paused."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

TRIALS_DONE = define(
    "sweep_trials_done", ngettext("%(count)d trial is finished.", "All %(count)d trials are finished.")
)
GRID_DONE = define("sweep_grid_done", gettext_noop("Every combination of the grid was tried."))
HOURS_USED = define("sweep_hours_used", gettext_noop("The budget of %(hours)g h is used up."))
DEVICE_HOURS_USED = define("sweep_device_hours_used", gettext_noop("The budget of %(hours)g h of training is used up."))
FAILURES = define(
    "sweep_failures",
    gettext_noop(
        "Paused: the last %(number)d trials failed. Open their runs to see why, then resume the sweep or stop it."
    ),
)
REFUSED = define("sweep_refused", gettext_noop("Paused: a trial could not be created. %(reason)s"))
