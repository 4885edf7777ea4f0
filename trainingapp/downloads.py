"""Files that are handed out, piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import StreamingHttpResponse
from django.utils.text import slugify

CHUNK_BYTES = 1 << 20


def file_response(path: Path, name: str, sha256: str = "") -> StreamingHttpResponse:
    """The file at `path`, to be saved as `name`, which is plain ASCII."""
    response = StreamingHttpResponse(_chunks(path), content_type="application/octet-stream")
    response.headers["Content-Length"] = str(path.stat().st_size)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if sha256:
        response.headers["X-Checksum-SHA256"] = sha256
    return response


def file_stem(name: str, otherwise: str) -> str:
    """A name for people as a part of a file's name."""
    return slugify(name) or otherwise


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """Under ASGI a plain FileResponse would be read into memory as a whole."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
