"""What pages show of jobs."""

from django import template
from django.utils.translation import gettext

from trainingapp.jobs.texts import job_message as message_of
from trainingapp.models import Job

register = template.Library()


@register.filter
def job_message(job: Job) -> str:
    """Why the job failed, in the reader's language."""
    return message_of(job)


@register.filter
def job_phase(job: Job | None) -> str:
    """The phase of a job that is not over; None is one that a worker has yet to create."""
    if job is None or job.state == Job.State.WAITING:
        return gettext("Waiting for a worker …")
    return message_of(job) or gettext("In progress …")
