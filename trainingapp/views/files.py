"""Files that are sent piece by piece."""

from pathlib import Path

from django.http import Http404, StreamingHttpResponse

from trainingapp.runs.downloads import file_response


def attachment(path: Path, name: str, *, sha256: str = "") -> StreamingHttpResponse:
    """The file, to be kept under `name`. Raises Http404 where it is gone."""
    if not path.is_file():
        raise Http404
    return file_response(path, name, sha256)
