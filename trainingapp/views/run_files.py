"""Data and files of a run."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from django.http import Http404, HttpRequest, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from trainingapp.engine.storage.durable import Bytes, Damaged
from trainingapp.engine.storage.exporting import EXPORT_FORMS, ExportForm, export_pieces, export_size
from trainingapp.engine.storage.reading import is_plain, open_checkpoint
from trainingapp.models import Checkpoint
from trainingapp.run_state import chart_points
from trainingapp.views.access import visible_run

CHUNK_BYTES = 1 << 20


@require_safe
def run_metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """Points of the charts above event ?after=, and the number of the newest event that they cover."""
    run = visible_run(pk)
    after = request.GET.get("after", "0")
    points = chart_points(run, after=int(after) if after.isdecimal() else 0)
    seq = max([run.event_seq, *(point["seq"] for point in points)])
    return JsonResponse({"seq": seq, "points": points})


@require_safe
def checkpoint_download(request: HttpRequest, pk: int, file: str) -> StreamingHttpResponse:
    """A checkpoint as a file for torch.load; ?format=safetensors gives its weights alone."""
    checkpoint = get_object_or_404(Checkpoint.objects.select_related("run"), run_id=pk, file=file)
    wanted = request.GET.get("format", "pt")
    form = next((form for form in EXPORT_FORMS if form == wanted), None)
    if form is None or not checkpoint.path.is_file():
        raise Http404
    if form == "pt" and is_plain(checkpoint.path):
        response = _download(_chunks(checkpoint.path), checkpoint.path.stat().st_size)
        response.headers["X-Checksum-SHA256"] = checkpoint.sha256
    else:
        response = _exported(checkpoint.path, form)
    name = f"{slugify(checkpoint.run.name) or 'run'}-{checkpoint.run_id}-{Path(checkpoint.file).stem}.{form}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _exported(path: Path, form: ExportForm) -> StreamingHttpResponse:
    """The file is made while it is sent; one that turns out to be damaged ends before its announced length."""
    try:
        opened = open_checkpoint(path)
    except (Damaged, OSError):
        raise Http404 from None
    return _download(_pieces(export_pieces(opened, form)), export_size(opened, form))


def _download(content: AsyncIterator[Bytes], size_bytes: int) -> StreamingHttpResponse:
    response = StreamingHttpResponse(content, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(size_bytes)
    return response


async def _pieces(pieces: Iterator[Bytes]) -> AsyncIterator[Bytes]:
    """Each piece is read, decompressed and compared with its hash in a thread."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield bytes(piece)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """The file piece by piece: under ASGI a plain FileResponse would be read into memory as a whole."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
