"""Files that are sent piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import Http404, StreamingHttpResponse

CHUNK_BYTES = 1 << 20


def attachment(path: Path, name: str, *, sha256: str = "") -> StreamingHttpResponse:
    """The file, to be kept under `name`. Raises Http404 where it is gone."""
    if not path.is_file():
        raise Http404
    response = StreamingHttpResponse(_chunks(path), content_type="application/octet-stream")
    response.headers["Content-Length"] = str(path.stat().st_size)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if sha256:
        response.headers["X-Checksum-SHA256"] = sha256
    return response


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """Under ASGI a plain FileResponse would be read into memory as a whole."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
