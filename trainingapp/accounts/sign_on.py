"""Single sign-on by an OpenID Connect provider; loaded by allauth where OIDC_ISSUER is set."""

from typing import Any

from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest

from trainingapp.accounts import audit


class StudioAdapter(DefaultSocialAccountAdapter):
    """Who comes from the provider for the first time gets an account of their own, with the role that is set."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        with transaction.atomic():
            user = super().save_user(request, sociallogin, form)
            user.groups.add(Group.objects.get_or_create(name=settings.OIDC_DEFAULT_ROLE)[0])
            audit.record("create", user, by=user, details={"role": settings.OIDC_DEFAULT_ROLE, "from": "OIDC"})
        return user
