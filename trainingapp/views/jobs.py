"""The page of a job, and its cancel button."""

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from trainingapp.jobs import verbs as job_verbs
from trainingapp.jobs.kinds import kind_of
from trainingapp.models import Job
from trainingapp.views.access import visible


@require_safe
def job_state(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The job's progress, its result or its error; htmx asks again until it is over."""
    return show_job(request, own_job(request, pk))


@require_POST
def job_cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Cancel the job."""
    job = job_verbs.cancel_job(own_job(request, pk))
    return show_job(request, job) if getattr(request, "htmx", None) else redirect("job", job.pk)


def show_job(request: HttpRequest, job: Job) -> HttpResponse:
    """The job alone for htmx, a page of it for others."""
    template = "jobs/_job.html" if getattr(request, "htmx", None) else "jobs/detail.html"
    return render(request, template, {"job": job, "result_template": kind_of(job).template})


def started_job(request: HttpRequest, job: Job) -> HttpResponse:
    """The response to a form that requested a job: the job itself for htmx, a redirect to its page for others."""
    return show_job(request, job) if getattr(request, "htmx", None) else redirect("job", job.pk)


def own_job(request: HttpRequest, pk: uuid.UUID) -> Job:
    """A job of the user's, or any for an administrator. Raises Http404."""
    return visible(request, Job.objects.all(), pk=pk)
