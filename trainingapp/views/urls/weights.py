"""Addresses of the models."""

from django.urls import URLPattern, path

from trainingapp.views import predictions, published_weights, sharing, weights

urlpatterns: list[URLPattern] = [
    path("weights/", weights.weights_list, name="weights_list"),
    path("weights/upload/", weights.weights_upload, name="weights_upload"),
    path("weights/published/", published_weights.published_list, name="published_list"),
    path("weights/published/fetch/", published_weights.published_fetch, name="published_fetch"),
    path("weights/published/import/", published_weights.published_import, name="published_import"),
    path("weights/published/delete/", published_weights.published_delete, name="published_delete"),
    path("weights/<int:pk>/", weights.weights_detail, name="weights_detail"),
    path("weights/<int:pk>/edit/", weights.weights_edit, name="weights_edit"),
    path("weights/<int:pk>/alias/", weights.weights_alias, name="weights_alias"),
    path("weights/<int:pk>/share/", sharing.weights_share, name="weights_share"),
    path("weights/<int:pk>/delete/", weights.weights_delete, name="weights_delete"),
    path("weights/<int:pk>/download/", weights.weights_download, name="weights_download"),
    path("weights/<int:pk>/export/", weights.weights_export, name="weights_export"),
    path("weights/<int:pk>/try/", predictions.weights_try, name="weights_try"),
    path("weights/<int:pk>/predict-many/", predictions.weights_predict_many, name="weights_predict_many"),
]
