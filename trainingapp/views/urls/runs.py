"""Addresses of runs, with their evaluations, checkpoints and verbs."""

from django.urls import URLPattern, path, re_path, register_converter

from trainingapp.views import (
    batch_previews,
    checkpoints,
    evaluations,
    preflights,
    run_changes,
    run_control,
    run_downloads,
    run_files,
    run_forks,
    run_tabs,
    runs,
    sharing,
    streams,
    weights,
)

register_converter(run_control.VerbConverter, "run_verb")

urlpatterns: list[URLPattern] = [
    path("", runs.run_list, name="run_list"),
    path("runs/new/", runs.run_new, name="run_new"),
    path("runs/new/batch/", batch_previews.batch_preview_start, name="batch_preview_start"),
    path("events/", streams.event_stream, name="event_stream"),
    path("runs/<int:pk>/", run_tabs.run_detail, name="run_detail"),
    path("runs/<int:pk>/charts/", run_tabs.run_charts, name="run_charts"),
    path("runs/<int:pk>/config/", run_tabs.run_config, name="run_config"),
    path("runs/<int:pk>/activity/", run_tabs.run_activity, name="run_activity"),
    path("runs/<int:pk>/name/", run_changes.run_name, name="run_name"),
    path("runs/<int:pk>/log/", run_tabs.run_log, name="run_log"),
    path("runs/<int:pk>/metrics/", run_files.run_metrics, name="run_metrics"),
    path("runs/<int:pk>/train.py", run_downloads.run_script, name="run_script"),
    path("runs/<int:pk>/report.html", run_downloads.run_report, {"format_": "html"}, name="run_report"),
    path("runs/<int:pk>/report.zip", run_downloads.run_report, {"format_": "markdown"}, name="run_report_markdown"),
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
    path("runs/<int:pk>/force-stop/", run_control.run_force_stop, name="run_force_stop"),
    path("runs/<int:pk>/epochs/", run_changes.run_epochs, name="run_epochs"),
    path("runs/<int:pk>/fork/", run_forks.run_fork, name="run_fork"),
    path("runs/<int:pk>/edit/", run_changes.run_edit, name="run_edit"),
    path("runs/new/check/", preflights.preflight_start, name="preflight_start"),
    path("runs/<int:pk>/<run_verb:verb>/", run_control.run_control, name="run_control"),
    path("runs/<int:pk>/save/", weights.weights_save, name="weights_save"),
]
