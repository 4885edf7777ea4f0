"""Forms that work once: each has a key, so that a reload of the answer, or an old page, does nothing a second time."""

import secrets
from collections.abc import Mapping
from datetime import timedelta

from django.core import signing
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from trainingapp.models import IdempotencyKey

FIELD = "form_key"
#: A page may be open for so long before its form is sent; shorter than the time that a used key is remembered.
FORMS_LAST = timedelta(hours=12)


class FormTooOldError(Exception):
    """The key of the form is too old, or none that was given to this user."""


class FormUsedError(Exception):
    """The form was sent before; `result` is what was noted then."""

    def __init__(self, result: Mapping[str, str] | None) -> None:
        super().__init__(result)
        self.result = result


def new_form_key(request: HttpRequest) -> str:
    """A key for a form that is shown to this user now."""
    return signing.dumps(secrets.token_urlsafe(12), salt=_salt(request))


def use_form(request: HttpRequest) -> IdempotencyKey:
    """Use up the key of the form that was sent; the caller stores the result in the row's body.

    Call it in the transaction that carries out the form. Raises FormTooOldError, FormUsedError.
    """
    try:
        nonce = signing.loads(request.POST.get(FIELD, ""), salt=_salt(request), max_age=FORMS_LAST)
    except signing.BadSignature:
        raise FormTooOldError from None
    # The API takes no key with a space, so it cannot use up one of a form.
    mine = {"user_id": request.user.pk, "key": f"form {nonce}"}
    try:
        with transaction.atomic():
            about = {"method": "POST", "path": request.path, "status_code": 200}
            return IdempotencyKey.objects.create(**mine, **about)
    except IntegrityError:
        raise FormUsedError(IdempotencyKey.objects.get(**mine).body) from None


def _salt(request: HttpRequest) -> str:
    return f"form of {request.user.pk} at {request.path}"
