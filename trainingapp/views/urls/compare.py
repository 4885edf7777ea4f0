"""Addresses of the comparison of runs."""

from django.urls import URLPattern, path

from trainingapp.views import compare

urlpatterns: list[URLPattern] = [
    path("compare/", compare.compare_page, name="compare"),
    path("compare/intervals/", compare.compare_intervals, name="compare_intervals"),
    path("compare/curves.json", compare.compare_curves, name="compare_curves"),
    path("compare/comparison.md", compare.compare_markdown, name="compare_markdown"),
]
