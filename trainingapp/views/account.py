"""The page of the user's account: password, language, sessions."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import SESSION_KEY, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import LoginView
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainingapp.accounts import audit
from trainingapp.models import AuditEntry, Team

ENTRIES_SHOWN = 50


class SignIn(LoginView):
    """The sign-in page, with a button for single sign-on where there is one."""

    template_name = "registration/login.html"

    def get_context_data(self, **kwargs: object) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"oidc_name": settings.OIDC_NAME}


@require_safe
def account(request: HttpRequest) -> HttpResponse:
    """Who one is here, and what one can change about it."""
    return _page(request, _password_form(request) if _me(request).has_usable_password() else None)


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password_change(request: HttpRequest) -> HttpResponse:
    """Change the password; every other browser is signed out by it."""
    if request.method != "POST" or not _me(request).has_usable_password():
        return redirect("account")
    form = _password_form(request, request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    with transaction.atomic():
        user = form.save()
        audit.record("password", user)
    update_session_auth_hash(request, user)  # also gives the session a new key
    messages.success(request, _("The password was changed. Other browsers must sign in again."))
    return redirect("account")


@require_POST
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    """End every session of the user, this one too."""
    with transaction.atomic():
        keys = [session.session_key for session in _sessions(request)]
        Session.objects.filter(session_key__in=keys).delete()
        audit.record("sign_out_everywhere", details={"sessions": len(keys)})
    logout(request)
    return redirect(settings.LOGOUT_REDIRECT_URL)


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: Mapping[str, str] | None
) -> HttpResponse:
    """The sign-in page after too many wrong passwords: why it is closed, and for how long."""
    username = (credentials or {}).get("username") or request.POST.get("username")
    attempts = AccessAttempt._default_manager.filter(username=username, ip_address=audit.address_of(request))
    newest = attempts.order_by("-attempt_time").values_list("attempt_time", flat=True).first()
    end = (newest or timezone.now()) + settings.AXES_COOLOFF_TIME
    minutes = math.ceil((end - timezone.now()).total_seconds() / 60)
    return render(request, "registration/login.html", {"locked_minutes": max(1, minutes)}, status=429)


def _me(request: HttpRequest) -> User:
    """The user of a page that requires signing in."""
    return cast("User", request.user)


def _page(request: HttpRequest, form: PasswordChangeForm | None, status: int = 200) -> HttpResponse:
    trail = AuditEntry.objects.filter(user=_me(request), kind__in=("", "user", "token"))
    context = {
        "form": form,
        "teams": Team.objects.filter(members=request.user.pk),
        "sessions": sum(1 for _session in _sessions(request)),
        "trail": trail[:ENTRIES_SHOWN],
        "section": "account",
    }
    return render(request, "account/account.html", context, status=status)


def _password_form(request: HttpRequest, data: QueryDict | None = None) -> PasswordChangeForm:
    form: PasswordChangeForm = PasswordChangeForm(_me(request), data)
    for name in form.fields:
        form.fields[name].widget.attrs |= {"class": "form-control"}
        form.fields[name].widget.attrs.pop("autofocus", None)
    form.fields["new_password1"].help_text = " ".join(map(str, password_validators_help_texts()))
    return form


def _sessions(request: HttpRequest) -> Iterator[Session]:
    """The active sessions of the user. The data of a session is signed, so each must be decoded."""
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get(SESSION_KEY) == str(request.user.pk):
            yield session
