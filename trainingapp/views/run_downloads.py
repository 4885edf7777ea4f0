"""What a run can be taken away as, beside its checkpoints."""

import asyncio
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from trainingapp.engine.config import parse_config
from trainingapp.engine.run_files import TENSORBOARD_DIR
from trainingapp.engine.script import training_script
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.permissions import Verb
from trainingapp.views.access import controlled_run

CHUNK_BYTES = 1 << 20


@require_safe
def run_script(request: HttpRequest, pk: int) -> HttpResponse:
    """train.py: the run as a script that needs no studio."""
    run = controlled_run(request, pk, Verb.DOWNLOAD)
    text = training_script(
        parse_config(run.config),
        name=run.name,
        fingerprint=run.dataset.fingerprint,
        environment=run.environment,
        notes=_script_notes(run),
    )
    response = HttpResponse(text, content_type="text/x-python; charset=utf-8")
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


def _script_notes(run: TrainingRun) -> Iterator[str]:
    """What in the history of the run its configuration does not tell."""
    done = run.events.filter(type=RunEvent.Type.STATUS, data__state="order", data__command="epochs").order_by("seq")
    changes = [f"{event.data['epochs']} from step {event.step}" for event in done if "epochs" in event.data]
    if changes:
        yield f"Its epochs were changed while it ran ({', '.join(changes)}): the learning rate was another one before."
    if run.forked_checkpoint:
        yield f"The run began with the checkpoint {run.forked_checkpoint} of run {run.forked_from_id}: this does not."


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
