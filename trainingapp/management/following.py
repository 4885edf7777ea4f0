"""A job that a command started: it runs in this process, or in a worker that the command watches."""

import threading

from django.core.management import CommandError
from django.db import connection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainingapp.jobs import execution, lease
from trainingapp.jobs.attempts import warm_process
from trainingapp.jobs.texts import job_message
from trainingapp.jobs.verbs import cancel_job
from trainingapp.models import Job

POLL_S = 0.2


def follow_job(job: Job, title: str, *, is_held: bool = False) -> Job:
    """Run the job in this process, or watch the worker that claimed it, until it ends.

    `is_held`: this process already holds the lease of the job. Raises CommandError if the job fails or is canceled;
    Ctrl-C cancels it.
    """
    thread = threading.Thread(target=_work, args=(job, is_held), daemon=True)
    thread.start()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(title, total=None)
            while not job.is_over:
                is_working = thread.is_alive()
                thread.join(POLL_S) if is_working else threading.Event().wait(POLL_S)
                job.refresh_from_db()
                if is_held and not is_working and not job.is_over:  # an error ended the thread: no other process works
                    raise CommandError(f"Job {job.pk} ended without a result.")
                description = job_message(job) or title
                progress.update(bar, completed=job.done, total=job.total or None, description=description)
    except KeyboardInterrupt:
        cancel_job(job)
        thread.join()
        raise
    thread.join()
    if job.state != Job.State.DONE:
        raise CommandError(job_message(job))
    return job


def _work(job: Job, is_held: bool) -> None:
    """Run the job in this thread, unless a worker has claimed it."""
    try:
        mine = Job.objects.get(pk=job.pk)
        if is_held or lease.claim(mine):
            execution.work(mine)
            warm_process.drop()
    finally:
        connection.close()  # each thread has its own
