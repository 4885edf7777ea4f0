"""The addresses of the studio, by area."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

admin.autodiscover()

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("trainingapp.views.urls.runs")),
    path("", include("trainingapp.views.urls.compare")),
    path("", include("trainingapp.views.urls.sweeps")),
    path("", include("trainingapp.views.urls.queue")),
    path("", include("trainingapp.views.urls.datasets")),
    path("", include("trainingapp.views.urls.weights")),
    path("", include("trainingapp.views.urls.jobs")),
    path("", include("trainingapp.views.urls.account")),
    path("", include("trainingapp.views.urls.notifications")),
    path("", include("trainingapp.views.urls.system")),
    path("api/", include("trainingapp.api.root")),
    path("admin/", admin.site.urls),
]
if settings.OIDC_NAME:
    urlpatterns += [
        path("sso/", include("allauth.socialaccount.providers.openid_connect.urls")),
        path("sso/social/", include("allauth.socialaccount.urls")),
        # allauth leads there what goes wrong.
        path("sso/sign-in/", login_not_required(RedirectView.as_view(pattern_name="login")), name="account_login"),
    ]

handler500 = "trainingapp.views.server_errors.server_error"
