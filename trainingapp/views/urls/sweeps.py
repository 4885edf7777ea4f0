"""Addresses of the sweeps."""

from django.urls import URLPattern, path

from trainingapp.views import sharing, sweeps

urlpatterns: list[URLPattern] = [
    path("sweeps/", sweeps.sweep_list, name="sweep_list"),
    path("sweeps/new/", sweeps.sweep_new, name="sweep_new"),
    path("sweeps/<int:pk>/", sweeps.sweep_detail, name="sweep_detail"),
    path("sweeps/<int:pk>/edit/", sweeps.sweep_edit, name="sweep_edit"),
    path("sweeps/<int:pk>/trial/", sweeps.sweep_enqueue, name="sweep_enqueue"),
    path("sweeps/<int:pk>/delete/", sweeps.sweep_delete, name="sweep_delete"),
    path("sweeps/<int:pk>/share/", sharing.sweep_share, name="sweep_share"),
    path("sweeps/<int:pk>/<slug:verb>/", sweeps.sweep_control, name="sweep_control"),
]
