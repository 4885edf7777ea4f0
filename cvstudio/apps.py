"""Django's own apps as the studio configures them."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class StudioAdminConfig(SimpleAdminConfig):
    """The admin with the studio's site: who may enter is said by permissions.py.

    Its classes are imported with the addresses (urls.py), not at the start of Django: they need most of the studio, and
    workers and commands show no admin.
    """

    default_site = "trainingapp.accounts.admin_site.StudioAdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_admin_classes, checks.Tags.admin)


def check_admin_classes(app_configs: Sequence[AppConfig] | None, **options: Any) -> Sequence[checks.CheckMessage]:
    """Check all admin classes, also where checks run before the addresses are imported."""
    admin.autodiscover()
    return check_admin_app(app_configs, **options)
