"""Data and files of a run."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import Http404, HttpRequest, JsonResponse, StreamingHttpResponse
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from trainingapp.run_state import chart_points
from trainingapp.views.access import visible_checkpoint, visible_run

CHUNK_BYTES = 1 << 20


@require_safe
def run_metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """Points of the charts above event ?after=, and the number of the newest event that they cover."""
    run = visible_run(request, pk)
    after = request.GET.get("after", "0")
    points = chart_points(run, after=int(after) if after.isdecimal() else 0)
    seq = max([run.event_seq, *(point["seq"] for point in points)])
    return JsonResponse({"seq": seq, "points": points})


@require_safe
def checkpoint_download(request: HttpRequest, pk: int, file: str) -> StreamingHttpResponse:
    """A checkpoint as it lies on the disk."""
    checkpoint = visible_checkpoint(request, pk, file)
    if not checkpoint.path.is_file():
        raise Http404
    name = f"{slugify(checkpoint.run.name) or 'run'}-{checkpoint.run_id}-{checkpoint.file}"
    response = StreamingHttpResponse(_chunks(checkpoint.path), content_type="application/octet-stream")
    response.headers["Content-Length"] = str(checkpoint.path.stat().st_size)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["X-Checksum-SHA256"] = checkpoint.sha256
    return response


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """The file piece by piece: under ASGI a plain FileResponse would be read into memory as a whole."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
