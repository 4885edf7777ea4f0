"""Files that are handed out, piece by piece."""

import asyncio
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO

from django.http import HttpResponse, StreamingHttpResponse
from django.utils.text import slugify

from trainingapp.contract.config import parse_config
from trainingapp.contract.run_directory import TENSORBOARD_DIR
from trainingapp.contract.script import training_script
from trainingapp.contract.storage.durable import Bytes, CorruptedFile
from trainingapp.contract.storage.exporting import EXPORT_FORMS, export_pieces, export_size
from trainingapp.contract.storage.reading import is_plain, open_checkpoint
from trainingapp.models import Checkpoint, RunEvent, TrainingRun
from trainingapp.models.verbs import require_task
from trainingapp.runs.series_export import metrics_csv
from trainingapp.runs.series_files import metrics_parquet, metrics_tensorboard
from trainingapp.runs.stream_clients import in_thread

CHUNK_BYTES = 1 << 20
SCRIPT_TYPE = "text/x-python"
ZIP_TYPE = "application/zip"
CSV_TYPE = "text/csv"
PARQUET_TYPE = "application/vnd.apache.parquet"


def file_response(path: Path, name: str, sha256: str = "") -> StreamingHttpResponse:
    """The file at `path`, to be saved as `name`, which is plain ASCII."""
    return _attachment(_chunks(lambda: path.open("rb")), path.stat().st_size, name, sha256)


def checkpoint_response(checkpoint: Checkpoint, form: str = "pt") -> StreamingHttpResponse | None:
    """The checkpoint as a file for torch.load ("pt"), or its weights alone ("safetensors").

    It is made while it is sent; one that turns out to be damaged ends before its announced length. None where there is
    no such form, or no file that can be opened.
    """
    wanted = next((known for known in EXPORT_FORMS if known == form), None)
    if wanted is None or not checkpoint.path.is_file():
        return None
    stem = file_stem(checkpoint.run.name, "run")
    name = f"{stem}-{checkpoint.run_id}-{Path(checkpoint.file).stem}.{wanted}"
    if wanted == "pt" and is_plain(checkpoint.path):
        return file_response(checkpoint.path, name, checkpoint.sha256)
    try:
        opened = open_checkpoint(checkpoint.path)
    except (CorruptedFile, OSError):
        return None
    return _attachment(_pieces(export_pieces(opened, wanted)), export_size(opened, wanted), name)


def script_response(run: TrainingRun) -> HttpResponse:
    """train.py of the run. Raises VerbError for a task that is not installed."""
    response = HttpResponse(run_script(run), content_type=f"{SCRIPT_TYPE}; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="train.py"'
    return response


def tensorboard_response(run: TrainingRun) -> StreamingHttpResponse | None:
    """The run's event files for TensorBoard as a zip, with a folder that has the run's name; None where it has none."""
    files = sorted((run.folder / TENSORBOARD_DIR).glob("events.out.tfevents.*"))
    if not files:
        return None
    stem = f"{file_stem(run.name, 'run')}-{run.pk}"
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - _chunks closes it, which removes it
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{stem}/{file.name}")
    size_bytes = packed.tell()
    packed.seek(0)
    response = _attachment(_chunks(lambda: packed), size_bytes, f"{stem}-tensorboard.zip")
    response.headers["Content-Type"] = ZIP_TYPE
    return response


def metrics_csv_response(run: TrainingRun) -> StreamingHttpResponse:
    """The metrics of the run as a CSV file, which is written while it is sent."""
    pieces = (piece.encode() for piece in metrics_csv(run))
    return _metrics_response(pieces, f"{CSV_TYPE}; charset=utf-8", f"{file_stem(run.name, 'run')}-{run.pk}-metrics.csv")


def metrics_parquet_response(run: TrainingRun) -> StreamingHttpResponse:
    """The same as Parquet. Raises VerbError where the package for it is not installed."""
    name = f"{file_stem(run.name, 'run')}-{run.pk}-metrics.parquet"
    return _metrics_response(metrics_parquet(run), PARQUET_TYPE, name)


def metrics_tensorboard_response(run: TrainingRun) -> StreamingHttpResponse:
    """The same as an event file; TensorBoard finds it by its name."""
    return _metrics_response(metrics_tensorboard(run), "application/octet-stream", event_file_name(run))


def event_file_name(run: TrainingRun) -> str:
    return f"events.out.tfevents.{run.pk}.{file_stem(run.name, 'run')}"


def _metrics_response(pieces: Iterator[bytes], content_type: str, name: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_read_pieces(pieces), content_type=content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def _read_pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is read from the database in a thread, which keeps no connection open meanwhile."""
    while (piece := await in_thread(next, pieces, None)) is not None:
        yield piece


def _attachment(content: AsyncIterator[Bytes], size_bytes: int, name: str, sha256: str = "") -> StreamingHttpResponse:
    response = StreamingHttpResponse(content, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(size_bytes)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if sha256:
        response.headers["X-Checksum-SHA256"] = sha256
    return response


def run_script(run: TrainingRun) -> str:
    """train.py: the run as a script that needs no studio. Raises VerbError for a task that is not installed."""
    require_task(run.task)
    return training_script(
        parse_config(run.config),
        name=run.name,
        fingerprint=run.dataset.fingerprint,
        environment=run.environment,
        notes=_script_notes(run),
    )


def _script_notes(run: TrainingRun) -> Iterator[str]:
    """What in the history of the run its configuration does not tell."""
    done = run.events.filter(type=RunEvent.Type.STATUS, data__command="epochs")
    done = done.filter(data__state__in=("request_done", "order")).order_by("seq")  # "order": rows of version 0.1
    changes = [f"{event.data['epochs']} from step {event.step}" for event in done if "epochs" in event.data]
    if changes:
        yield f"Its epochs were changed while it ran ({', '.join(changes)}): the learning rate was another one before."
    if run.forked_checkpoint:
        yield f"The run began with the checkpoint {run.forked_checkpoint} of run {run.forked_from_id}: this does not."


def file_stem(name: str, otherwise: str) -> str:
    """A name for people as a part of a file's name."""
    return slugify(name) or otherwise


async def _pieces(pieces: Iterator[Bytes]) -> AsyncIterator[Bytes]:
    """Each piece is read, decompressed and compared with its hash in a thread."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield bytes(piece)


async def _chunks(opened: Callable[[], IO[bytes]]) -> AsyncIterator[Bytes]:
    """Under ASGI a plain FileResponse would be read into memory as a whole."""
    file = await asyncio.to_thread(opened)
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
