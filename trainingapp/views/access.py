"""Fetching what a view is about, with the permission that the view needs."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from trainingapp.models import Dataset, TrainingRun, Weights
from trainingapp.permissions import can_control


def visible_run(pk: int) -> TrainingRun:
    """A run that may be looked at. Raises Http404."""
    return get_object_or_404(TrainingRun.objects.select_related("dataset", "owner"), pk=pk)


def controlled_run(request: HttpRequest, pk: int) -> TrainingRun:
    """A run that the user may control. Raises Http404 or PermissionDenied."""
    run = visible_run(pk)
    if not can_control(request.user, run):
        raise PermissionDenied(_("Only its owner and administrators may do this with a run."))
    return run


def controlled_dataset(request: HttpRequest, pk: int) -> Dataset:
    """A dataset that the user may control. Raises Http404 or PermissionDenied."""
    dataset = get_object_or_404(Dataset.objects.select_related("owner"), pk=pk)
    if not can_control(request.user, dataset):
        raise PermissionDenied(_("Only its owner and administrators may do this with a dataset."))
    return dataset


def weights_seen_by(user: Any) -> QuerySet[Weights]:
    """The entries of the library that the user may look at: all, for who has signed in."""
    return Weights.objects.all()


def visible_weights(request: HttpRequest, pk: int) -> Weights:
    """An entry that may be looked at, tried, exported and started from. Raises Http404."""
    rows = weights_seen_by(request.user).select_related("owner", "run", "dataset", "parent", "job")
    return get_object_or_404(rows, pk=pk)


def controlled_weights(request: HttpRequest, pk: int) -> Weights:
    """An entry that the user may change and delete. Raises Http404 or PermissionDenied."""
    weights = visible_weights(request, pk)
    if not can_control(request.user, weights):
        raise PermissionDenied(_("Only its owner and administrators may do this with weights."))
    return weights
