"""What a run can be taken away as, beside its checkpoints."""

import asyncio
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from trainingapp import downloads
from trainingapp.engine.run_files import TENSORBOARD_DIR
from trainingapp.permissions import Verb
from trainingapp.views.access import controlled_run

CHUNK_BYTES = 1 << 20


@require_safe
def run_script(request: HttpRequest, pk: int) -> HttpResponse:
    """train.py: the run as a script that needs no studio."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    response = HttpResponse(downloads.run_script(run), content_type="text/x-python; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="train.py"'
    return response


@require_safe
def run_tensorboard(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The run's event files for TensorBoard as a zip, with a folder that has the run's name."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    files = sorted((run.folder / TENSORBOARD_DIR).glob("events.out.tfevents.*"))
    if not files:
        raise Http404(_("The run has no files for TensorBoard yet."))
    name = f"{slugify(run.name) or 'run'}-{run.pk}"
    packed = _zipped(files, name)
    response = StreamingHttpResponse(_chunks(packed), content_type="application/zip")
    response.headers["Content-Length"] = str(packed.seek(0, 2))
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-tensorboard.zip"'
    return response


def _zipped(files: list[Path], folder: str) -> IO[bytes]:
    """A temporary file that goes when it is closed."""
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{folder}/{file.name}")
    return packed


async def _chunks(packed: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        packed.seek(0)
        while chunk := await asyncio.to_thread(packed.read, CHUNK_BYTES):
            yield chunk
    finally:
        packed.close()
