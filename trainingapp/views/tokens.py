"""The page of one's personal tokens for the API."""

from datetime import timedelta

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from trainingapp.accounts import tokens as token_verbs
from trainingapp.accounts.users import signed_in
from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.models import ApiToken
from trainingapp.models.verbs import VerbError
from trainingapp.views.form_keys import FormTooOldError, FormUsedError, new_form_key, use_form

#: Days that a token may be made for; the longest choice has no end.
LIFETIMES = [
    (30, gettext_lazy("30 days")),
    (90, gettext_lazy("90 days")),
    (365, gettext_lazy("a year")),
    (0, gettext_lazy("no expiry")),
]


class TokenForm(forms.Form):
    """A new token: what it is for, what it may do and how long."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=NAME_LENGTH,
        help_text=gettext_lazy("Purpose, such as the machine that uses it."),
        widget=forms.TextInput({"class": "form-control", "autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes"),
        choices=ApiToken.Scope.choices,
        initial=[ApiToken.Scope.READ],
        help_text=gettext_lazy("A token never exceeds your own permissions."),
        widget=forms.CheckboxSelectMultiple({"class": "form-check-input"}),
    )
    days = forms.TypedChoiceField(
        label=gettext_lazy("Valid for"),
        choices=LIFETIMES,
        coerce=int,
        initial=90,
        widget=forms.Select({"class": "form-select"}),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def token_list(request: HttpRequest) -> HttpResponse:
    """One's tokens, and the form of a new one. The new secret is in the answer to the form, and nowhere else."""
    form = TokenForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form, status=422 if form.is_bound else 200)
    try:
        token, secret = _made(request, **form.cleaned_data)
    except FormUsedError as used:
        return _page(request, TokenForm(initial=form.cleaned_data), status=409, made_before=used.result)
    except FormTooOldError:
        form.add_error(None, _("The page was open for too long. Check the form and submit it again."))
        return _page(request, form, status=422)
    except VerbError as error:
        form.add_error(None, str(error))
        return _page(request, form, status=422)
    return _page(request, TokenForm(), token=token, secret=secret)


def _made(request: HttpRequest, *, name: str, scopes: list[str], days: int) -> tuple[ApiToken, str]:
    """The token that the form requests; a reload of the response would request it again, and is refused."""
    expires_at = timezone.now() + timedelta(days=days) if days else None
    with transaction.atomic():
        used = use_form(request)
        token, secret = token_verbs.create_token(
            signed_in(request.user), name=name, scopes=scopes, expires_at=expires_at
        )
        used.body = {"name": token.name}
        used.save(update_fields=["body"])
    return token, secret


@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke one of the user's tokens."""
    token = token_verbs.revoke_token(get_object_or_404(ApiToken, pk=pk, user=request.user))
    messages.success(request, _("The token “%(name)s” has been revoked.") % {"name": token.name})
    return redirect("token_list")


def _page(request: HttpRequest, form: TokenForm, *, status: int = 200, **about: object) -> HttpResponse:
    tokens = ApiToken.objects.filter(user_id=int(request.user.pk or 0))
    context = {"form": form, "tokens": tokens, "section": "tokens", "form_key": new_form_key(request), **about}
    return render(request, "account/tokens.html", context, status=status)
