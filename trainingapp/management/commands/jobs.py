"""manage.py jobs: exports, checks, predictions, imports and previews."""

import json
import uuid
from argparse import ArgumentParser

import yaml
from django.core.management import CommandError

from trainingapp.jobs import verbs as job_verbs
from trainingapp.jobs.texts import job_message
from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.models import Job

HEADING = ("ID", "KIND", "STATE", "DONE", "OWNER", "CREATED", "MESSAGE")
LISTED = 50


class Command(StudioCommand):
    help = "List, show and cancel jobs: exports, checks, predictions, imports and previews."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help=f"List the {LISTED} newest jobs.")
        listing.add_argument("--state", choices=Job.State.values, help="Only jobs in this state.")
        show = actions.add_parser("show", help="Show a job with its result.")
        cancel = actions.add_parser("cancel", help="Cancel a job; one that has ended does not change.")
        for action in (show, cancel):
            action.add_argument("job", metavar="ID", help="The ID of the job, or its beginning.")
        for action in (listing, show, cancel):
            action.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: object, **options: object) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _list(self, options: Options) -> None:
        jobs = Job.objects.select_related("owner").order_by("-created_at", "pk")
        jobs = (jobs.filter(state=options["state"]) if options["state"] else jobs)[:LISTED]
        if options["json"]:
            self.stdout.write(json.dumps([_record(job) for job in jobs], ensure_ascii=False))
            return
        for line in table_lines(HEADING, map(_summary, jobs)):
            self.stdout.write(line)

    def _show(self, options: Options) -> None:
        self._print(_found(options["job"]), options)

    def _cancel(self, options: Options) -> None:
        self._print(job_verbs.cancel_job(_found(options["job"])), options)

    def _print(self, job: Job, options: Options) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(_record(job), ensure_ascii=False))
        else:
            self.stdout.write(yaml.safe_dump(_record(job), sort_keys=False, allow_unicode=True).rstrip())


def _found(wanted: str) -> Job:
    """The job whose ID starts with `wanted`. Raises CommandError if there is none, or more than one."""
    try:
        # A complete ID is looked up as such; the beginning of one, as the list shows it, among the newest jobs.
        jobs = list(Job.objects.filter(pk=uuid.UUID(wanted)))
    except ValueError:
        newest = Job.objects.order_by("-created_at", "pk")[:1000]
        jobs = [job for job in newest if wanted and str(job.pk).startswith(wanted.lower())]
    if len(jobs) != 1:
        several = f"The IDs of {len(jobs)} jobs begin with {wanted}."
        raise CommandError(several if jobs else f"There is no job {wanted}.")
    return jobs[0]


def _record(job: Job) -> dict[str, object]:
    return {
        "id": str(job.pk),
        "kind": job.kind,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "message": job_message(job),
        "owner": job.owner.get_username(),
        "worker": job.worker,
        "tries": job.tries,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
        "result": job.result,
    }


def _summary(job: Job) -> tuple[str, ...]:
    progress = f"{job.done}/{job.total}" if job.total else ""
    created = job.created_at.strftime("%Y-%m-%d %H:%M")
    return (str(job.pk)[:8], job.kind, job.state, progress, job.owner.get_username(), created, job_message(job))
