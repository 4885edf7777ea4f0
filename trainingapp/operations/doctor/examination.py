"""The complete examination, in the order of the report."""

from django.db import DatabaseError
from django.utils.translation import gettext as _

from trainingapp.operations.doctor.finding import Finding, Severity, ok
from trainingapp.operations.doctor.health import health_checks, living_hosts
from trainingapp.operations.doctor.machine import database, disk, object_store, torch_and_gpus
from trainingapp.operations.doctor.orphans import orphans
from trainingapp.operations.doctor.series import series
from trainingapp.operations.doctor.stuck import stuck_runs

#: For each quick check that the report repeats: the severity of its failure, and the setting or command to look at.
#: The other quick checks have a detailed check of their own below.
FAILED_VITALS: dict[str, tuple[Severity, str]] = {
    "database": ("error", "DATABASE_URL"),
    "migrations": ("error", "manage.py migrate"),
    "queue": ("warning", "REDIS_URL"),
}


def examine(*, full: bool = False) -> list[Finding]:
    """Run all checks. Without a database with all migrations, only those that do not need one.

    The time does not grow with the events of the runs, unless `full` has the complete database file and all metrics
    read.
    """
    failed = {check.name: check.detail for check in health_checks() if not check.ok}
    found = [
        Finding(name, severity, failed[name], _("See %(what)s.") % {"what": remedy})
        for name, (severity, remedy) in FAILED_VITALS.items()
        if name in failed
    ]
    if "database" in failed or "migrations" in failed:
        return [*found, *disk(), *object_store(), *torch_and_gpus()]
    try:
        if hosts := living_hosts():
            worker = ok("worker", _("Workers: %(names)s") % {"names": ", ".join(sorted(hosts))})
        else:
            worker = Finding("worker", "warning", _("No worker is running."), _("Runs wait until one is started."))
        found += [*database(full=full), worker, *disk(), *object_store(), *torch_and_gpus(), *stuck_runs(), *orphans()]
        found += series(full=full)
    except DatabaseError as error:
        found.append(Finding("database", "error", _("The database failed: %(error)s") % {"error": error}))
    return found
