"""Data and files of a run."""

from django.http import Http404, HttpRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from trainingapp.contract.system_series import SYSTEM
from trainingapp.runs.downloads import checkpoint_response
from trainingapp.runs.run_page import chart_points
from trainingapp.views.access import visible_checkpoint, visible_run


@require_safe
def run_metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """Points of the charts above event ?after=, and the number of the newest event that they cover.

    With ?split=system those of the System tab.
    """
    run = visible_run(request, pk)
    after = request.GET.get("after", "0")
    split = SYSTEM if request.GET.get("split") == SYSTEM else ""
    points = chart_points(run, after=int(after) if after.isdecimal() else 0, split=split)
    seq = max([run.event_seq, *(point["seq"] for point in points)])
    return JsonResponse({"seq": seq, "points": points})


@require_safe
def checkpoint_download(request: HttpRequest, pk: int, file: str) -> StreamingHttpResponse:
    """A checkpoint as a file for torch.load; ?format=safetensors gives its weights alone."""
    response = checkpoint_response(visible_checkpoint(request, pk, file), request.GET.get("format", "pt"))
    if response is None:
        raise Http404
    return response
