"""The cache of published weights: where files are, whether they are intact, and downloads (no torch).

A file is stored under a temporary name, verified, flushed and renamed: under its own name it is complete. Beside it,
`NAME.sha256` holds the hash of what was verified then; a file that was put there by hand has none.

A process that is killed leaves a part behind. The next download of the file continues it, where the server allows that
and the hash of the whole file is known: it decides whether the two belong together.
"""

import fcntl
import glob
import hashlib
import http.client
import json
import os
import queue
import re
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message as Headers
from http import HTTPStatus
from pathlib import Path
from typing import IO, Protocol
from urllib.error import HTTPError, URLError

from trainingapp.contract.messages import MessageError, message_of
from trainingapp.contract.messages.published import (
    FETCH_FAILED,
    FETCH_REFUSED,
    FILE_CUT,
    HASH_DIFFERS,
    NO_RESPONSE,
    NOT_WEIGHTS,
)
from trainingapp.contract.published_weights import Published
from trainingapp.contract.storage.durable import flush, flush_folder, sha256_of

HASH_SUFFIX = ".sha256"
PART_SUFFIX = ".part"
CHUNK_BYTES = 1 << 20
#: Seconds after which the rest of a download that was killed is removed.
PART_KEPT_S = 24 * 3600.0
#: Seconds without a response after which a download is given up: of one that was asked for, and of an automatic one.
RESPONSE_S, QUICK_RESPONSE_S = 30.0, 5.0
#: Seconds without a byte after which a download that has begun is given up.
SILENCE_S = 30.0
#: A header of safetensors has at most so many bytes (the limit of its own library).
MOST_HEADER_BYTES = 100_000_000
DIGEST_SHOWN = 8

_SHA256 = re.compile(r'^"?([0-9a-f]{64})"?$')

Report = Callable[[int, int], None]
"""Called with the bytes that are done and those in all, 0 where that is not known. May raise to end the work."""


class Readable(Protocol):
    """An open file, or a response."""

    def read(self, size: int, /) -> bytes: ...


class NotPublished(MessageError, ValueError):
    """A file is not the published one. The message completes a sentence that begins with the file's name."""


class Unreachable(MessageError, OSError):
    """The published file could not be downloaded."""


def located(published: Published, folder: Path) -> Path | None:
    """The file in the cache `folder`; None where it is not there."""
    own = folder / published.place
    if own.is_file():
        return own
    earlier = sorted(folder.glob(published.earlier)) if published.earlier else []
    return next((path for path in earlier if path.is_file()), None)


def stored_hash(path: Path) -> str:
    """The SHA-256 that was verified when the file was stored; empty for a file that was put there by hand."""
    try:
        return path.with_name(path.name + HASH_SUFFIX).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def checked(published: Published, path: Path) -> str:
    """The SHA-256 of an intact file. Raises NotPublished, OSError."""
    sha256 = sha256_of(path)
    for expected in filter(None, (stored_hash(path), published.digest)):
        if not sha256.startswith(expected):
            shown = min(len(expected), DIGEST_SHOWN)
            raise NotPublished(HASH_DIFFERS(found=sha256[:shown], expected=expected[:shown]))
    check_structure(path)
    return sha256


def check_structure(path: Path) -> None:
    """Raises NotPublished for a file that ends too early or holds no weights, as far as its outside shows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(8)
        if path.suffix != ".safetensors":
            if not beginning.startswith((b"PK", b"\x80")):
                raise NotPublished(NOT_WEIGHTS())
            return
        length = int.from_bytes(beginning, "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, max(0, size - 8)):
            raise NotPublished(NOT_WEIGHTS())
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [int(about["data_offsets"][1]) for name, about in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise NotPublished(NOT_WEIGHTS()) from None
    expected = 8 + length + max(ends, default=0)
    if not ends or size != expected:
        raise NotPublished(FILE_CUT(bytes=size, total=expected))


def store(published: Published, folder: Path, source: Readable, report: Report, *, total: int, sha256: str = "") -> str:
    """Copy `source` into the cache, verified; returns the SHA-256. `total` in bytes, 0 where it is not known.

    `sha256`: what the source says that it is. Raises NotPublished, OSError, and what `report` raises.
    """
    place = folder / published.place
    with _part(place) as part:
        return _stored(published, place, part, source, report, total=total, sha256=sha256)


def _stored(
    published: Published, place: Path, part: "_Part", source: Readable, report: Report, *, total: int, sha256: str
) -> str:
    """As `store`, with what the part has already."""
    found = part.write(source, report, total)
    if total and part.size_bytes != total:
        raise NotPublished(FILE_CUT(bytes=part.size_bytes, total=total))
    for expected in filter(None, (sha256, published.digest)):
        if not found.startswith(expected):
            shown = min(len(expected), DIGEST_SHOWN)
            raise NotPublished(HASH_DIFFERS(found=found[:shown], expected=expected[:shown]))
    check_structure(part.path)
    _publish(part.path, place, found)
    return found


def downloaded(
    published: Published, folder: Path, report: Report = lambda done, total: None, *, response_s: float = RESPONSE_S
) -> Path:
    """Download the file into the cache. Raises Unreachable, NotPublished, and what `report` raises."""
    place = folder / published.place
    try:
        with _part(place, continues=True) as part:
            _download(published, place, part, report, response_s)
    except NotPublished as error:
        refused = FETCH_REFUSED(name=published.name, host=published.host, damage=error.message)
        raise NotPublished(refused) from error
    except (OSError, http.client.HTTPException) as error:  # the network, or the disk
        reason = getattr(error, "reason", error)
        text = message_of(reason) if isinstance(reason, MessageError) else str(reason) or type(reason).__name__
        raise Unreachable(FETCH_FAILED(name=published.name, host=published.host, error=text)) from error
    return place


def _download(published: Published, place: Path, part: "_Part", report: Report, response_s: float) -> None:
    """Continue what the part has, or begin anew. Raises URLError, OSError, HTTPException, NotPublished."""
    if part.size_bytes:
        # Where that fails, the part is of another file, or the server continues none.
        with suppress(NotPublished, HTTPError):
            if _transferred(published, place, part, report, response_s):
                return
        part.clear()
    _transferred(published, place, part, report, response_s)


def _transferred(published: Published, place: Path, part: "_Part", report: Report, response_s: float) -> bool:
    """Store the file by one request; False where its answer does not fit what the part has."""
    redirects = _Redirects()
    with opened(published.url, redirects, response_s, start=part.size_bytes) as response:
        match = _SHA256.match(redirects.hash or response.headers.get("X-Linked-ETag", ""))
        sha256, total = match[1] if match else "", int(response.headers.get("Content-Length") or 0)
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            part.clear()
        elif not (sha256 or published.digest) or not _begins_at(response, part.size_bytes):
            return False
        total = total and total + part.size_bytes
        _stored(published, place, part, response, report, total=total, sha256=sha256)
    return True


def _begins_at(response: http.client.HTTPResponse, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def remove(published: Published, folder: Path) -> int:
    """Remove the file from the cache; returns the bytes that this frees."""
    freed = 0
    while (path := located(published, folder)) is not None:
        real = path.resolve()  # the libraries' cache has a link to a file elsewhere in it
        freed += real.stat().st_size
        path.unlink()
        if real.is_relative_to(folder.resolve()):
            real.unlink(missing_ok=True)
        path.with_name(path.name + HASH_SUFFIX).unlink(missing_ok=True)
    return freed


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps the hash that the hub names before it sends elsewhere."""

    def __init__(self) -> None:
        self.hash = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> urllib.request.Request | None:
        self.hash = self.hash or str(headers.get("X-Linked-ETag", ""))
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


@contextmanager
def opened(
    url: str, redirects: urllib.request.BaseHandler, response_s: float, *, start: int = 0
) -> Iterator[http.client.HTTPResponse]:
    """The response, which must begin within `response_s` seconds. Raises URLError.

    With `start`, the file from this byte on, where the server can: its status says so.

    In a thread: the timeout of a socket does not include the time in which the system looks up the name of the host.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    opener = urllib.request.build_opener(redirects)
    headers = {"User-Agent": "cvstudio", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - an address of our tables

    def ask() -> None:
        try:
            answers.put(opener.open(request, timeout=SILENCE_S))
        except Exception as error:  # noqa: BLE001 - raised again where the answer is awaited
            answers.put(error)

    threading.Thread(target=ask, name="published weights", daemon=True).start()
    try:
        answer = answers.get(timeout=response_s)
    except queue.Empty:
        raise URLError(Unreachable(NO_RESPONSE(seconds=round(response_s)))) from None
    if isinstance(answer, Exception):
        raise answer
    with answer:
        yield answer


class _Part:
    """A file on its way, which this process alone writes."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self._file = file
        self._digest, self.size_bytes = hashlib.sha256(), 0
        while chunk := file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.size_bytes += len(chunk)

    def clear(self) -> None:
        """Begin anew."""
        self._file.seek(0)
        self._file.truncate()
        self._digest, self.size_bytes = hashlib.sha256(), 0

    def write(self, source: Readable, report: Report, total: int) -> str:
        """Write all of `source` behind what is there; returns the SHA-256 of the whole."""
        while chunk := source.read(CHUNK_BYTES):
            self._file.write(chunk)
            self._digest.update(chunk)
            self.size_bytes += len(chunk)
            report(self.size_bytes, total)
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()


@contextmanager
def _part(path: Path, *, continues: bool = False) -> Iterator[_Part]:
    """A file on its way to `path`, of its own for each process; removed at the end, with old ones.

    With `continues`, one that a killed process has left, if there is any.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*{PART_SUFFIX}.*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - PART_KEPT_S:
                left.unlink()
    with (_left_behind(path) if continues else None) or _new_part(path) as file:
        part = _Part(Path(file.name), file)
        try:
            yield part
        finally:
            part.path.unlink(missing_ok=True)


def _new_part(path: Path) -> IO[bytes]:
    # With the suffix of the file, by which its structure is checked.
    file = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{PART_SUFFIX}{path.suffix}").open("x+b")
    with suppress(OSError):  # a file system without locks: nobody continues the file
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _left_behind(path: Path) -> IO[bytes] | None:
    """A part of this file that no process holds, locked."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}-*{PART_SUFFIX}{path.suffix}"):
        with suppress(OSError):
            file = left.open("r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it may have given it its name, or removed it, before the lock was free.
                if os.path.samestat(os.fstat(file.fileno()), left.stat()):
                    return file
            except OSError:
                pass
            file.close()
    return None


def _publish(part: Path, path: Path, sha256: str) -> None:
    """Give the flushed file its name, and note its hash; an old note would contradict the new file."""
    note = path.with_name(path.name + HASH_SUFFIX)
    note.unlink(missing_ok=True)
    part.replace(path)
    flush_folder(path.parent)
    temporary = note.with_name(f".{uuid.uuid4().hex}{PART_SUFFIX}{HASH_SUFFIX}")
    temporary.write_text(sha256 + "\n", encoding="ascii")
    temporary.replace(note)
    flush(note)
