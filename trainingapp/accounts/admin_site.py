"""The admin site: open to administrators by role; users sign in on the studio's own page."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts.permissions import is_administrator

#: Translated names of an installed app that brings none, by app label and by model name.
_NAMES = {"axes": _("Sign-ins"), "AccessAttempt": _("Failed sign-ins")}


class StudioAdminSite(AdminSite):
    site_header = _("Administration")
    site_title = "CV Studio"
    index_title = _("Administration")

    def has_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Signed-in users without the role are sent to the runs; others sign in and come back."""
        if request.user.is_authenticated:
            return redirect("run_list" if not self.has_permission(request) else "admin:index")
        return redirect_to_login(request.GET.get("next", "/admin/"))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        apps = super().get_app_list(request, app_label)
        for app in apps:
            app["name"] = _NAMES.get(app["app_label"], app["name"])
            for model in app["models"]:
                model["name"] = _NAMES.get(model["object_name"], model["name"])
        return apps

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        return redirect("account")
