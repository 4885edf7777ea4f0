"""Compression of pages and of answers of the API."""

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware

#: Texts. Images, archives and model files are compressed already.
COMPRESSIBLE = frozenset(
    {
        "application/json",
        "application/problem+json",
        "image/svg+xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/javascript",
        "text/plain",
    }
)


class CompressionMiddleware(GZipMiddleware):
    """Django's gzip, which hides the length of the compressed answer by random padding, for texts only.

    Left as they are: streams, whose events must not wait in a buffer; downloads; and answers with an ETag, which names
    their bytes and which clients of the API send back in If-Match. See docs/decisions for what BREACH could reach.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not isinstance(response, HttpResponse) or not _is_text(response):
            return response
        compressed: HttpResponseBase = super().process_response(request, response)
        return compressed


def _is_text(response: HttpResponse) -> bool:
    """Whether the body is a text that the browser or the program shows, and not a file that it stores."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    is_download = response.headers.get("Content-Disposition", "").startswith("attachment")
    return media_type in COMPRESSIBLE and not is_download and "ETag" not in response.headers
