"""Addresses of the studio."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.i18n import set_language

from trainingapp import streams
from trainingapp.views import (
    account,
    api_docs,
    audit_trail,
    batch_previews,
    dataset_pictures,
    datasets,
    evaluations,
    jobs,
    journal,
    preflights,
    run_changes,
    run_control,
    run_downloads,
    run_files,
    run_forks,
    runs,
    sharing,
    system,
    tokens,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", runs.run_list, name="run_list"),
    path("runs/new/", runs.run_new, name="run_new"),
    path("runs/new/batch/", batch_previews.batch_preview_start, name="batch_preview_start"),
    re_path(
        r"^runs/new/batch/(?P<preview_id>[0-9a-f]{32})/$", batch_previews.batch_preview_state, name="batch_preview"
    ),
    re_path(
        r"^runs/new/batch/(?P<preview_id>[0-9a-f]{32})/picture\.webp$",
        batch_previews.batch_preview_picture,
        name="batch_preview_picture",
    ),
    path("runs/events/", streams.run_list_stream, name="run_list_stream"),
    path("runs/<int:pk>/", runs.run_detail, name="run_detail"),
    path("runs/<int:pk>/events/", streams.run_stream, name="run_stream"),
    path("runs/<int:pk>/log/", runs.run_log, name="run_log"),
    path("runs/<int:pk>/metrics/", run_files.run_metrics, name="run_metrics"),
    path("runs/<int:pk>/train.py", run_downloads.run_script, name="run_script"),
    path("runs/<int:pk>/tensorboard.zip", run_downloads.run_tensorboard, name="run_tensorboard"),
    path("runs/<int:pk>/evaluation/", evaluations.evaluation_page, name="evaluation"),
    path("runs/<int:pk>/evaluation/<int:epoch>.json", evaluations.evaluation_data, name="evaluation_data"),
    path("runs/<int:pk>/evaluation/<int:epoch>/<slug:what>.csv", evaluations.evaluation_csv, name="evaluation_csv"),
    path("runs/<int:pk>/evaluation/<int:epoch>/<slug:name>.svg", evaluations.evaluation_curve, name="evaluation_curve"),
    path("runs/<int:pk>/evaluation/<int:epoch>/pictures/", evaluations.evaluation_pictures, name="evaluation_pictures"),
    path(
        "runs/<int:pk>/evaluation/<int:epoch>/masks/<int:index>.webp",
        evaluations.evaluation_mask,
        name="evaluation_mask",
    ),
    path("runs/<int:pk>/batches/<str:file>", evaluations.batch_picture, name="batch_picture"),
    path("runs/<int:pk>/delete/", runs.run_delete, name="run_delete"),
    path("runs/<int:pk>/share/", sharing.run_share, name="run_share"),
    path("runs/<int:pk>/checkpoints/<str:file>", run_files.checkpoint_download, name="checkpoint_download"),
    re_path(
        r"^runs/(?P<pk>[0-9]{1,18})/(?P<command>checkpoint|evaluate|retry)/$", run_control.run_order, name="run_order"
    ),
    path("runs/<int:pk>/force-stop/", run_control.run_force_stop, name="run_force_stop"),
    path("runs/<int:pk>/epochs/", run_changes.run_epochs, name="run_epochs"),
    path("runs/<int:pk>/fork/", run_forks.run_fork, name="run_fork"),
    path("runs/<int:pk>/edit/", run_changes.run_edit, name="run_edit"),
    path("runs/new/check/", preflights.preflight_start, name="preflight_start"),
    re_path(
        r"^runs/(?P<pk>[0-9]{1,18})/(?P<verb>start|pause|resume|stop|force_stop)/$",
        runs.run_control,
        name="run_control",
    ),
    path("jobs/<uuid:pk>/", jobs.job_state, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.job_cancel, name="job_cancel"),
    path("datasets/", datasets.dataset_list, name="dataset_list"),
    path("datasets/import/", datasets.dataset_import, name="dataset_import"),
    path("datasets/<int:pk>/", datasets.dataset_detail, name="dataset_detail"),
    path("datasets/<int:pk>/confirm/", datasets.dataset_confirm, name="dataset_confirm"),
    path("datasets/<int:pk>/view/<int:place>/", dataset_pictures.dataset_view, name="dataset_view"),
    path("datasets/<int:pk>/delete/", datasets.dataset_delete, name="dataset_delete"),
    path("datasets/<int:pk>/share/", sharing.dataset_share, name="dataset_share"),
    path("datasets/<int:pk>/pictures/<path:path>", dataset_pictures.dataset_picture, name="dataset_picture"),
    path("login/", LoginView.as_view(template_name="registration/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/", account.account, name="account"),
    path("account/password/", account.password_change, name="password_change"),
    path("account/sign-out-everywhere/", account.sign_out_everywhere, name="sign_out_everywhere"),
    path("audit/", audit_trail.audit_page, name="audit"),
    path("audit.csv", audit_trail.audit_csv, name="audit_csv"),
    path("language/", login_not_required(set_language), name="set_language"),
    path("account/tokens/", tokens.token_list, name="token_list"),
    path("account/tokens/<int:pk>/revoke/", tokens.token_revoke, name="token_revoke"),
    path("api/v1/docs", api_docs.api_docs, name="api_docs"),
    path("healthz", system.health, name="health"),
    path("api/", include("trainingapp.api.root")),
    path("journal/", journal.journal, name="journal"),
    path("journal/seen/", journal.journal_seen, name="journal_seen"),
    path("readyz", system.ready, name="ready"),
    path("admin/", admin.site.urls),
]
