"""Addresses of datasets and their images."""

from django.urls import URLPattern, path

from trainingapp.views import dataset_images, datasets, sharing

urlpatterns: list[URLPattern] = [
    path("datasets/", datasets.dataset_list, name="dataset_list"),
    path("datasets/import/", datasets.dataset_import, name="dataset_import"),
    path("datasets/<int:pk>/", datasets.dataset_detail, name="dataset_detail"),
    path("datasets/<int:pk>/confirm/", datasets.dataset_confirm, name="dataset_confirm"),
    path("datasets/<int:pk>/read-again/", datasets.dataset_read_again, name="dataset_read_again"),
    path("datasets/<int:pk>/cancel/", datasets.dataset_cancel, name="dataset_cancel"),
    path("datasets/<int:pk>/store/", datasets.dataset_store, name="dataset_store"),
    path("datasets/<int:pk>/view/<int:place>/", dataset_images.dataset_view, name="dataset_view"),
    path("datasets/<int:pk>/delete/", datasets.dataset_delete, name="dataset_delete"),
    path("datasets/<int:pk>/share/", sharing.dataset_share, name="dataset_share"),
    path("datasets/<int:pk>/images/<path:path>", dataset_images.dataset_image, name="dataset_image"),
]
