"""Which folders of the server a user may import from, and which links in them are followed."""

from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User

from trainingapp.accounts.permissions import is_administrator
from trainingapp.datasets.sources.folders import LinkRule, within_the_folder
from trainingapp.models import Dataset


def may_import_from(user: User | AnonymousUser, folder: Path) -> bool:
    """Whether this user may import images from this folder of the server."""
    if not settings.IMPORT_DIRS:
        return is_administrator(user)
    return any(folder.resolve().is_relative_to(allowed) for allowed in settings.IMPORT_DIRS)


def link_rule(dataset: Dataset) -> LinkRule:
    """Links that lead out of a folder are followed to where its owner could import from, and never out of an upload."""
    if dataset.source_is_upload:
        return within_the_folder
    return lambda target: may_import_from(dataset.owner, target)
