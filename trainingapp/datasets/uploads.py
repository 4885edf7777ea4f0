"""Uploads in parts, which can be gone on with after a lost connection.

An upload is a file in UPLOADS_DIR; its name says whose it is and how large it becomes, its length how far it is. So
there is nothing else that could disagree with it.
"""

import fcntl
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.utils.translation import gettext as _

CHUNK_BYTES = 1 << 20
#: Seconds that an upload is kept after its last part.
KEPT_S = 24 * 3600.0
_NAME = re.compile(r"part-(?P<owner>\d+)-(?P<size>\d+)-(?P<id>[0-9a-f]{32})")


class UploadError(ValueError):
    """The part cannot be taken; the message is for people."""


class TooLargeError(UploadError):
    """The upload is, or would become, larger than MAX_UPLOAD_MB."""


class WrongPlaceError(UploadError):
    """The part does not begin where the upload has got to."""


@dataclass(frozen=True)
class Upload:
    """An upload that is not complete, or not used yet."""

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
    """An empty upload of `size` bytes to come."""
    check_size(size)
    upload_id = uuid.uuid4().hex
    path = Path(settings.UPLOADS_DIR) / f"part-{owner_id}-{size}-{upload_id}"
    path.touch(0o600)
    return Upload(upload_id, path, size)


def find(owner_id: int, upload_id: str) -> Upload | None:
    """The upload of this person with this id."""
    if not re.fullmatch(r"[0-9a-f]{32}", upload_id):
        return None
    for path in Path(settings.UPLOADS_DIR).glob(f"part-{owner_id}-*-{upload_id}"):
        if match := _NAME.fullmatch(path.name):
            return Upload(upload_id, path, int(match["size"]))
    return None


def append(upload: Upload, source: Any, start: int, length: int) -> Upload:
    """Add the `length` bytes that `source` gives, from byte `start` on. Raises UploadError; what came stays."""
    with _locked(upload) as file:
        if start != (at := file.seek(0, 2)):
            raise WrongPlaceError(_("The upload has %(count)d bytes; go on from there.") % {"count": at})
        if start + length > upload.size:
            raise UploadError(_("The upload would have more than its %(size)d bytes.") % {"size": upload.size})
        taken = _copy(source, file, length)
        if taken != length:
            raise UploadError(_("The part has %(taken)d bytes, not %(told)d.") % {"taken": taken, "told": length})
    return upload


def receive(source: Any) -> Path:
    """Write all that `source` gives to a file of its own below UPLOADS_DIR. Raises TooLargeError."""
    path = Path(settings.UPLOADS_DIR) / f"{uuid.uuid4().hex}.zip"
    with path.open("xb") as file:
        taken = _copy(source, file, settings.MAX_UPLOAD_BYTES + 1)
    try:
        check_size(taken)
    except TooLargeError:
        path.unlink()
        raise
    return path


def used(upload: Upload) -> Path:
    """The complete upload under the name that a dataset keeps it by."""
    return upload.path.rename(upload.path.with_name(f"{upload.id}.zip"))


def check_size(size: int) -> None:
    if size > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES // 1024**2
        raise TooLargeError(_("An upload has at most %(limit)d MB here.") % {"limit": limit})


def remove_old() -> None:
    """Remove uploads that nobody went on with."""
    for path in Path(settings.UPLOADS_DIR).glob("part-*"):
        if _NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - KEPT_S:
            path.unlink(missing_ok=True)


@contextmanager
def _locked(upload: Upload) -> Iterator[IO[bytes]]:
    with upload.path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongPlaceError(_("Another part is being received.")) from None
        yield file


def _copy(source: Any, file: IO[bytes], most: int) -> int:
    """Copy at most `most` bytes; returns how many there were."""
    taken = 0
    while taken < most and (chunk := source.read(min(CHUNK_BYTES, most - taken))):
        taken += file.write(chunk)
    return taken
