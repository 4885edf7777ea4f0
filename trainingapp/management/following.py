"""A job that a command asked for: done here, or watched where a worker has it."""

import threading
from typing import Any

from django.core.management import CommandError
from django.db import connection
from rich.console import Console
from rich.progress import Progress

from trainingapp.jobs import execution as jobs
from trainingapp.models import Job

POLL_S = 0.2


def follow_job(job: Job, title: str) -> Job:
    """Do the job here, or watch the worker that has it, until it is over. Raises CommandError when it failed."""
    thread = threading.Thread(target=_work, args=(job.pk,), daemon=True)
    thread.start()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=None)
        while not job.is_over:
            thread.join(POLL_S) if thread.is_alive() else threading.Event().wait(POLL_S)
            job.refresh_from_db()
            progress.update(bar, completed=job.done, total=job.total or None, description=job.message or title)
    thread.join()
    if job.state != Job.State.DONE:
        raise CommandError(job.message or "The job was cancelled.")
    return job


def _work(pk: Any) -> None:
    """Do the job in this process, unless a worker was quicker."""
    try:
        job = Job.objects.get(pk=pk)
        if jobs.claim(job):
            jobs.work(job)
            jobs.drop_warm()
    finally:
        connection.close()
