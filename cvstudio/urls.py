"""Addresses of the studio."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path, re_path, register_converter
from django.views.generic import RedirectView
from django.views.i18n import set_language

from trainingapp.views import (
    account,
    api_docs,
    audit_trail,
    batch_previews,
    checkpoints,
    datasets,
    devices,
    disk,
    evaluations,
    jobs,
    journal,
    predictions,
    preflights,
    queue,
    run_changes,
    run_control,
    run_downloads,
    run_files,
    run_forks,
    runs,
    sharing,
    streams,
    system,
    tokens,
    weights,
)
from trainingapp.views import (
    dataset_images as dataset_images,
)

register_converter(run_control.VerbConverter, "run_verb")

urlpatterns: list[URLPattern | URLResolver] = [
    path("", runs.run_list, name="run_list"),
    path("runs/new/", runs.run_new, name="run_new"),
    path("runs/new/batch/", batch_previews.batch_preview_start, name="batch_preview_start"),
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
    path("runs/<int:pk>/evaluation/<int:epoch>/images/", evaluations.evaluation_images, name="evaluation_images"),
    path(
        "runs/<int:pk>/evaluation/<int:epoch>/masks/<int:index>.webp",
        evaluations.evaluation_mask,
        name="evaluation_mask",
    ),
    path("runs/<int:pk>/batches/<str:file>", evaluations.batch_image, name="batch_image"),
    path("runs/<int:pk>/delete/", runs.run_delete, name="run_delete"),
    path("runs/<int:pk>/share/", sharing.run_share, name="run_share"),
    path("runs/<int:pk>/checkpoints/", checkpoints.run_checkpoints, name="run_checkpoints"),
    path("runs/<int:pk>/checkpoints/<str:file>", run_files.checkpoint_download, name="checkpoint_download"),
    re_path(
        r"^runs/(?P<pk>[0-9]{1,18})/checkpoints/(?P<file>[A-Za-z0-9_.]+)/(?P<verb>pin|unpin|verify)/$",
        checkpoints.checkpoint_control,
        name="checkpoint_control",
    ),
    path("disk/", disk.disk, name="disk"),
    path("runs/<int:pk>/force-stop/", run_control.run_force_stop, name="run_force_stop"),
    path("runs/<int:pk>/epochs/", run_changes.run_epochs, name="run_epochs"),
    path("runs/<int:pk>/fork/", run_forks.run_fork, name="run_fork"),
    path("runs/<int:pk>/edit/", run_changes.run_edit, name="run_edit"),
    path("runs/new/check/", preflights.preflight_start, name="preflight_start"),
    path("runs/<int:pk>/<run_verb:verb>/", run_control.run_control, name="run_control"),
    path("queue/", queue.queue_page, name="queue"),
    path("queue/<int:pk>/move/", queue.queue_move, name="queue_move"),
    path("queue/<int:pk>/priority/", queue.queue_priority, name="queue_priority"),
    path("devices/", devices.device_list, name="device_list"),
    path("jobs/<uuid:pk>/", jobs.job_state, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.job_cancel, name="job_cancel"),
    re_path(
        r"^jobs/(?P<pk>[0-9a-f-]{36})/(?P<name>predictions\.jsonl?|export\.zip)$", predictions.job_file, name="job_file"
    ),
    path("jobs/<uuid:pk>/boxes.json", predictions.job_boxes, name="job_boxes"),
    path("jobs/<uuid:pk>/images/<path:path>", predictions.job_image, name="job_image"),
    path("weights/", weights.weights_list, name="weights_list"),
    path("weights/upload/", weights.weights_upload, name="weights_upload"),
    path("weights/<int:pk>/", weights.weights_detail, name="weights_detail"),
    path("weights/<int:pk>/edit/", weights.weights_edit, name="weights_edit"),
    path("weights/<int:pk>/share/", sharing.weights_share, name="weights_share"),
    path("weights/<int:pk>/delete/", weights.weights_delete, name="weights_delete"),
    path("weights/<int:pk>/download/", weights.weights_download, name="weights_download"),
    path("weights/<int:pk>/export/", weights.weights_export, name="weights_export"),
    path("weights/<int:pk>/try/", predictions.weights_try, name="weights_try"),
    path("weights/<int:pk>/predict-many/", predictions.weights_predict_many, name="weights_predict_many"),
    path("runs/<int:pk>/save/", weights.weights_save, name="weights_save"),
    path("datasets/", datasets.dataset_list, name="dataset_list"),
    path("datasets/import/", datasets.dataset_import, name="dataset_import"),
    path("datasets/<int:pk>/", datasets.dataset_detail, name="dataset_detail"),
    path("datasets/<int:pk>/confirm/", datasets.dataset_confirm, name="dataset_confirm"),
    path("datasets/<int:pk>/cancel/", datasets.dataset_cancel, name="dataset_cancel"),
    path("datasets/<int:pk>/view/<int:place>/", dataset_images.dataset_view, name="dataset_view"),
    path("datasets/<int:pk>/delete/", datasets.dataset_delete, name="dataset_delete"),
    path("datasets/<int:pk>/share/", sharing.dataset_share, name="dataset_share"),
    path("datasets/<int:pk>/images/<path:path>", dataset_images.dataset_image, name="dataset_image"),
    path("login/", account.SignIn.as_view(), name="login"),
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
if settings.OIDC_NAME:
    urlpatterns += [
        path("sso/", include("allauth.socialaccount.providers.openid_connect.urls")),
        path("sso/social/", include("allauth.socialaccount.urls")),
        # allauth leads there what goes wrong.
        path("sso/sign-in/", login_not_required(RedirectView.as_view(pattern_name="login")), name="account_login"),
    ]

handler500 = "trainingapp.views.server_errors.server_error"
