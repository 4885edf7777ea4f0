"""The downloads of a run besides its checkpoints."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from trainingapp.accounts.permissions import Verb, can
from trainingapp.models.verbs import VerbError
from trainingapp.runs.downloads import (
    metrics_csv_response,
    metrics_parquet_response,
    metrics_tensorboard_response,
    script_response,
    tensorboard_response,
)
from trainingapp.runs.report import ReportFormat, report_response
from trainingapp.views.access import controlled_run


@require_safe
def run_script(request: HttpRequest, pk: int) -> HttpResponse:
    """train.py: the run as a script that needs no studio."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    try:
        return script_response(run)
    except VerbError as error:
        messages.error(request, str(error))
        return redirect(run)


@require_safe
def run_metrics_csv(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The metrics of the run as a table."""
    return metrics_csv_response(controlled_run(request, pk, Verb.DOWNLOAD))


@require_safe
def run_metrics_parquet(request: HttpRequest, pk: int) -> HttpResponse | StreamingHttpResponse:
    """The same as Parquet, where the package for it is installed."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    try:
        return metrics_parquet_response(run)
    except VerbError as error:
        messages.error(request, str(error))
        return redirect("run_charts", pk=run.pk)


@require_safe
def run_metrics_tensorboard(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The same as an event file of TensorBoard."""
    return metrics_tensorboard_response(controlled_run(request, pk, Verb.DOWNLOAD))


@require_safe
def run_tensorboard(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The run's event files for TensorBoard as a zip, with a folder that has the run's name."""
    response = tensorboard_response(controlled_run(request, pk, Verb.DOWNLOAD))
    if response is None:
        raise Http404(_("The run has no files for TensorBoard yet."))
    return response


@require_safe
def run_report(request: HttpRequest, pk: int, format_: ReportFormat) -> HttpResponse:
    """The report of the run: HTML in one file, or Markdown with its drawings in a zip."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    return report_response(run, format_, with_images=can(request.user, Verb.SEE, run.dataset))
