"""Single sign-on by an OpenID Connect provider; loaded by allauth where OIDC_ISSUER is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest

from trainingapp.accounts import audit

if TYPE_CHECKING:
    from allauth.socialaccount.models import SocialLogin


class StudioAdapter(DefaultSocialAccountAdapter):
    """Creates an account with the default role at the first sign-in by the provider."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: object = None) -> User:
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            user.groups.add(Group.objects.get_or_create(name=settings.OIDC_DEFAULT_ROLE)[0])
            audit.record("create", user, by=user, details={"role": settings.OIDC_DEFAULT_ROLE, "from": "OIDC"})
        return user
