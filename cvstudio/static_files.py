"""Static files under addresses that change with their content.

Pages refer to `/static/VERSION/css/base.css`, where VERSION is a hash of all static files. A browser keeps such a file
for a year without asking again, and an upgrade that changes any file changes every address. The version is part of the
path, so that relative addresses within style sheets and scripts carry it as well and no file has to be rewritten or
collected: files are served from their folders, from a wheel in site-packages too.

With DEBUG the addresses have no version, and browsers ask each time whether a file has changed.
"""

import gzip
import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

IMMUTABLE = "max-age=31536000, public, immutable"
_VERSIONED = re.compile(r"([0-9a-f]{12})/(.+)")
#: Types that gzip makes smaller. Fonts and images other than SVG are compressed already.
_COMPRESSIBLE = re.compile(r"(text/|image/svg\+xml|application/(javascript|json|manifest\+json))")


def static_version() -> str:
    """The version in the addresses of static files, twelve hexadecimal digits; empty with DEBUG."""
    return "" if settings.DEBUG else _content_hash()


@cache
def _content_hash() -> str:
    """A hash of the names and contents of all static files. Source maps, which no page loads, are left out."""
    paths: dict[str, Path] = {}
    for finder in get_finders():
        for name, storage in finder.list([]):
            prefix = getattr(storage, "prefix", "") or ""
            paths.setdefault(f"{prefix}/{name}", Path(storage.path(name)))
    digest = hashlib.blake2b(digest_size=6)
    for name in sorted(paths):
        if not name.endswith(".map"):
            content = paths[name].read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


class VersionedStaticFilesStorage(StaticFilesStorage):
    """Addresses with the version. It is stored nowhere, so that two hosts with the same files agree on it."""

    def url(self, name: str | None) -> str:
        version = static_version()
        return super().url(f"{version}/{name}" if version and name else name)


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise with versioned addresses, and with compressed copies that are made at the first request."""

    def __call__(  # type: ignore[override]  # as in its base class, which is no WSGI application either
        self, request: HttpRequest
    ) -> HttpResponseBase:
        path: str = request.path_info
        if not path.startswith(self.static_prefix):
            return self._pass_on(request)
        version = ""
        if found := _VERSIONED.fullmatch(path, len(self.static_prefix)):
            version, path = found[1], f"{self.static_prefix}{found[2]}"
        # WhiteNoise is not annotated.
        file = self.find_file(path) if self.autorefresh else self.files.get(path)  # type: ignore[no-untyped-call]
        if not isinstance(file, StaticFile):
            return self._pass_on(request)
        response: HttpResponseBase = self._compressed(file, request) or self.serve(file, request)  # type: ignore[no-untyped-call]
        if version and version == static_version():
            response.headers["Cache-Control"] = IMMUTABLE
            del response.headers[
                "Last-Modified"
            ]  # nobody asks again; thirty files of a page are over a kilobyte of them
        elif version:  # a page that was loaded before an upgrade, or another host that has been upgraded already
            response.headers["Cache-Control"] = "no-cache"
        return response

    def _pass_on(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self.get_response(request)
        return response

    @staticmethod
    def _compressed(file: StaticFile, request: HttpRequest) -> HttpResponse | None:
        """The file in gzip; None where the browser or the type of the file does not ask for that."""
        _encoding, path, pairs = file.alternatives[-1]
        headers = dict(pairs)
        is_whole = request.method in ("GET", "HEAD") and "Range" not in request.headers
        accepts = re.search(r"\bgzip\b", request.headers.get("Accept-Encoding", ""))
        if not (is_whole and accepts and "ETag" in headers and _COMPRESSIBLE.match(headers["Content-Type"])):
            return None
        content = _gzipped(path, headers["ETag"])
        headers |= {"ETag": f'{headers["ETag"][:-1]}-gzip"', "Vary": "Accept-Encoding"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            kept = ("Cache-Control", "ETag", "Vary")
            return HttpResponseNotModified(headers={name: headers[name] for name in kept if name in headers})
        headers |= {"Content-Encoding": "gzip", "Content-Length": str(len(content))}
        return HttpResponse(content, headers=headers)


@lru_cache(maxsize=512)
def _gzipped(path: str, etag: str) -> bytes:
    """The file in gzip; `etag` changes with its size and time."""
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)
