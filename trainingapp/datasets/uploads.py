"""Uploads in parts that can be resumed after a lost connection.

An upload is a file in UPLOADS_DIR. Its name contains the owner and the total size, its length is the progress; no other
record exists.
"""

import fcntl
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from django.conf import settings
from django.utils.translation import gettext as _

from trainingapp.models import Dataset

CHUNK_BYTES = 1 << 20
#: Seconds for which an upload is kept after its last part.
KEPT_S = 24 * 3600.0
#: Seconds for which the upload of a refused dataset is kept, so that it can be read again with other choices.
REFUSED_KEPT_S = 7 * 24 * 3600.0
_NAME = re.compile(r"part-(?P<owner>\d+)-(?P<size>\d+)-(?P<id>[0-9a-f]{32})")


class Readable(Protocol):
    """The body of a request, or an open file."""

    def read(self, size: int, /) -> bytes: ...


class UploadError(ValueError):
    """The part is refused; the message is shown to users."""


class TooLargeError(UploadError):
    """The upload is, or would become, larger than MAX_UPLOAD_MB."""


class WrongPlaceError(UploadError):
    """The part does not begin at the end of the received bytes."""


@dataclass(frozen=True)
class Upload:
    """An upload that is incomplete or not used yet; `size` is in bytes."""

    id: str
    path: Path
    size: int

    @property
    def received(self) -> int:
        return self.path.stat().st_size

    @property
    def is_complete(self) -> bool:
        return self.received == self.size


def begin(owner_id: int, size: int) -> Upload:
    """Create an empty upload of `size` bytes."""
    check_size(size)
    upload_id = uuid.uuid4().hex
    path = Path(settings.UPLOADS_DIR) / f"part-{owner_id}-{size}-{upload_id}"
    path.touch(0o600)
    return Upload(upload_id, path, size)


def find(owner_id: int, upload_id: str) -> Upload | None:
    """The upload of this user with this id."""
    if not re.fullmatch(r"[0-9a-f]{32}", upload_id):
        return None
    for path in Path(settings.UPLOADS_DIR).glob(f"part-{owner_id}-*-{upload_id}"):
        if match := _NAME.fullmatch(path.name):
            return Upload(upload_id, path, int(match["size"]))
    return None


def append(upload: Upload, source: Readable, start: int, length: int) -> Upload:
    """Append `length` bytes of `source` at byte `start`. Raises UploadError; the received bytes are kept."""
    with _locked(upload) as file:
        if start != (at := file.seek(0, 2)):
            raise WrongPlaceError(_("The upload has %(count)d bytes; continue from there.") % {"count": at})
        if start + length > upload.size:
            raise UploadError(_("The part exceeds the upload size of %(size)d bytes.") % {"size": upload.size})
        received = _copy(source, file, length)
        if received != length:
            raise UploadError(
                _("The part has %(received)d bytes, not the declared %(declared)d.")
                % {"received": received, "declared": length}
            )
    return upload


def receive(source: Readable) -> Path:
    """Write all of `source` to a new file in UPLOADS_DIR. Raises TooLargeError beyond MAX_UPLOAD_MB."""
    path = Path(settings.UPLOADS_DIR) / f"{uuid.uuid4().hex}.zip"
    with path.open("xb") as file:
        received = _copy(source, file, settings.MAX_UPLOAD_BYTES + 1)
    try:
        check_size(received)
    except TooLargeError:
        path.unlink()
        raise
    return path


def used(upload: Upload) -> Path:
    """Rename the complete upload so that it is not removed as an old one. Returns its path for a dataset."""
    return upload.path.rename(upload.path.with_name(f"{upload.id}.zip"))


def check_size(size: int) -> None:
    if size > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES // 1024**2
        raise TooLargeError(_("An upload may have at most %(limit)d MB.") % {"limit": limit})


def remove_old() -> None:
    """Remove uploads without a new part for a day, and old uploads of refused datasets."""
    for path in Path(settings.UPLOADS_DIR).glob("part-*"):
        if _NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - KEPT_S:
            path.unlink(missing_ok=True)
    refused = Dataset.objects.filter(status=Dataset.Status.REFUSED, source_is_upload=True)
    for source in refused.values_list("source", flat=True):
        path = Path(source)
        is_ours = path.resolve().parent == Path(settings.UPLOADS_DIR).resolve()
        if is_ours and path.exists() and path.stat().st_mtime < time.time() - REFUSED_KEPT_S:
            path.unlink(missing_ok=True)


@contextmanager
def _locked(upload: Upload) -> Iterator[IO[bytes]]:
    with upload.path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongPlaceError(_("Another part is being received.")) from None
        yield file


def _copy(source: Readable, file: IO[bytes], most: int) -> int:
    """Copy at most `most` bytes. Returns the number of bytes copied."""
    copied = 0
    while copied < most and (chunk := source.read(min(CHUNK_BYTES, most - copied))):
        copied += file.write(chunk)
    return copied
