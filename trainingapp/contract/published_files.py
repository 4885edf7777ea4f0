"""The cache of published weights: where files are, whether they are intact, and downloads (no torch).

A file is stored under a temporary name, verified, flushed and renamed: under its own name it is complete. Beside it,
`NAME.sha256` holds the hash of what was verified then; a file that was put there by hand has none.
"""

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
from pathlib import Path
from typing import IO, Protocol
from urllib.error import URLError

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
    with _part(folder / published.place) as part:
        found = _copied(part, source, report, total)
        size = part.stat().st_size
        if total and size != total:
            raise NotPublished(FILE_CUT(bytes=size, total=total))
        for expected in filter(None, (sha256, published.digest)):
            if not found.startswith(expected):
                shown = min(len(expected), DIGEST_SHOWN)
                raise NotPublished(HASH_DIFFERS(found=found[:shown], expected=expected[:shown]))
        check_structure(part)
        _publish(part, folder / published.place, found)
    return found


def downloaded(
    published: Published, folder: Path, report: Report = lambda done, total: None, *, response_s: float = RESPONSE_S
) -> Path:
    """Download the file into the cache. Raises Unreachable, NotPublished, and what `report` raises."""
    redirects = _Redirects()
    try:
        with opened(published.url, redirects, response_s) as response:
            total = int(response.headers.get("Content-Length") or 0)
            sha256 = _SHA256.match(redirects.hash or response.headers.get("X-Linked-ETag", ""))
            store(published, folder, response, report, total=total, sha256=sha256[1] if sha256 else "")
    except NotPublished as error:
        refused = FETCH_REFUSED(name=published.name, host=published.host, damage=error.message)
        raise NotPublished(refused) from error
    except (OSError, http.client.HTTPException) as error:  # the network, or the disk
        reason = getattr(error, "reason", error)
        text = message_of(reason) if isinstance(reason, MessageError) else str(reason) or type(reason).__name__
        raise Unreachable(FETCH_FAILED(name=published.name, host=published.host, error=text)) from error
    return folder / published.place


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
def opened(url: str, redirects: urllib.request.BaseHandler, response_s: float) -> Iterator[http.client.HTTPResponse]:
    """The response, which must begin within `response_s` seconds. Raises URLError.

    In a thread: the timeout of a socket does not include the time in which the system looks up the name of the host.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    opener = urllib.request.build_opener(redirects)
    headers = {"User-Agent": "cvstudio", "Accept-Encoding": "identity"}
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


def _copied(part: Path, source: Readable, report: Report, total: int) -> str:
    """Write all of `source` to the file; returns its SHA-256."""
    digest, done = hashlib.sha256(), 0
    with part.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            report(done, total)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A name for a file on its way to `path`, of its own for each process; removed at the end, with old ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*{PART_SUFFIX}.*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - PART_KEPT_S:
                left.unlink()
    # With the suffix of the file, by which its structure is checked.
    part = path.with_name(f".{uuid.uuid4().hex}{PART_SUFFIX}{path.suffix}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


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
