"""Idempotent POST: a repeated request with the same Idempotency-Key gets the first response again."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.api.callers import ApiRequest
from trainingapp.api.problems import Problem, wrong_parameter
from trainingapp.models import IdempotencyKey

HEADER = "Idempotency-Key"
PATTERN = r"^[\x21-\x7e]{1,200}$"
#: A request that has been in progress for longer was interrupted: its key may be used again.
ABANDONED = timedelta(minutes=10)
#: Headers that are stored with the response.
KEPT_HEADERS = ("Content-Type", "ETag", "Location")


def answered_once(request: ApiRequest, answer: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """The response, made once for each key of the user. Raises Problem for a key that cannot be used."""
    key = request.headers.get(HEADER)
    if request.method != "POST" or key is None:
        return answer()
    if not re.fullmatch(PATTERN, key):
        raise wrong_parameter(HEADER, _("Use 1 to 200 visible ASCII characters."))
    row = _started(request, key)
    if row.status_code is not None:
        kept: dict[str, Any] = row.body or {}
        content = json.dumps(kept["json"]) if kept.get("json") is not None else ""
        headers = {**kept.get("headers", {}), "Idempotent-Replayed": "true"}
        return HttpResponse(content, status=row.status_code, headers=headers)
    try:
        response = answer()
    except BaseException:
        row.delete()
        raise
    _keep(row, response)
    return response


def _started(request: ApiRequest, key: str) -> IdempotencyKey:
    """The row of this request: a new one, or that of an earlier equal request which has its response."""
    about = {"method": request.method or "", "path": request.path[:500], "body_digest": _digest(request)}
    for _try in range(2):
        try:
            with transaction.atomic():
                return IdempotencyKey.objects.create(user=request.caller.user, key=key, **about)
        except IntegrityError:
            found = IdempotencyKey.objects.filter(user=request.caller.user, key=key).first()
        if found is None:
            continue
        age = timezone.now() - found.created_at
        if age > IdempotencyKey.KEPT or (found.status_code is None and age > ABANDONED):
            IdempotencyKey.objects.filter(pk=found.pk, created_at=found.created_at).delete()
            continue
        if any(getattr(found, name) != value for name, value in about.items()):
            raise Problem(422, _("This Idempotency-Key was used for another request."), kind="key-of-another-request")
        if found.status_code is None:
            raise Problem(409, _("The first request with this key is still in progress."), kind="key-at-work")
        return found
    raise Problem(409, _("A request with this key has just ended; send it again."), kind="key-at-work")


def _digest(request: ApiRequest) -> str:
    """The hash of the request. Files are not read for it: of a file only its length counts."""
    about = f"{request.META.get('QUERY_STRING', '')}\n"
    if request.content_type == "application/json":
        return hashlib.sha256(about.encode() + request.body).hexdigest()
    about += f"{request.content_type}\n{request.META.get('CONTENT_LENGTH', '')}"
    return hashlib.sha256(about.encode()).hexdigest()


def _keep(row: IdempotencyKey, response: HttpResponseBase) -> None:
    """Store the response; a server error is not stored, so that the request can be repeated."""
    if response.status_code >= 500 or not isinstance(response, HttpResponse):
        row.delete()
        return
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    row.status_code = response.status_code
    row.body = {"headers": headers, "json": json.loads(response.content) if response.content else None}
    row.save(update_fields=["status_code", "body"])
