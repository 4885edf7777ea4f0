"""Addresses of jobs and their files."""

from django.urls import URLPattern, path, re_path

from trainingapp.views import jobs, predictions

urlpatterns: list[URLPattern] = [
    path("jobs/<uuid:pk>/", jobs.job_state, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.job_cancel, name="job_cancel"),
    re_path(
        r"^jobs/(?P<pk>[0-9a-f-]{36})/(?P<name>predictions\.jsonl?|export\.zip)$", predictions.job_file, name="job_file"
    ),
    path("jobs/<uuid:pk>/boxes.json", predictions.job_boxes, name="job_boxes"),
    path("jobs/<uuid:pk>/images/<path:path>", predictions.job_image, name="job_image"),
]
