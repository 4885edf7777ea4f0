"""The whole examination, in the order of a report."""

from django.db import DatabaseError
from django.utils.translation import gettext as _

from trainingapp.operations.doctor.finding import Finding, Severity, ok
from trainingapp.operations.doctor.health import Vital, living_hosts, vitals
from trainingapp.operations.doctor.machine import database, disk, torch_and_gpus
from trainingapp.operations.doctor.orphans import orphans
from trainingapp.operations.doctor.stuck import stuck_runs

#: What a vital sign means when it is not well, and how bad that is.
MEANINGS: dict[str, str] = {
    "database": "DATABASE_URL",
    "migrations": "manage.py migrate",
    "queue": "REDIS_URL",
}


def examine() -> list[Finding]:
    """Look at everything. Without a database only that is told."""
    signs = {sign.name: sign for sign in vitals()}
    found = [_of_sign(signs[name]) for name in ("database", "migrations", "queue") if not signs[name].ok]
    if not signs["database"].ok or not signs["migrations"].ok:
        return [*found, *disk(), *torch_and_gpus()]
    try:
        found += [*database(), *_workers(), *disk(), *torch_and_gpus(), *stuck_runs(), *orphans()]
    except DatabaseError as error:
        found.append(Finding("database", "error", _("The database failed: %(error)s") % {"error": error}))
    return found


def _of_sign(sign: Vital) -> Finding:
    severity: Severity = "warning" if sign.name == "queue" else "error"
    return Finding(sign.name, severity, sign.detail, _("See %(what)s.") % {"what": MEANINGS[sign.name]})


def _workers() -> list[Finding]:
    if hosts := living_hosts():
        return [ok("worker", _("Workers: %(names)s") % {"names": ", ".join(sorted(hosts))})]
    return [Finding("worker", "warning", _("No worker has been heard of."), _("Runs wait until one is started."))]
