"""Permissions for imports from server folders, and the rule for following links in them."""

from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User

from trainingapp.accounts.permissions import is_administrator
from trainingapp.datasets.sources.folders import LinkRule, within_the_folder
from trainingapp.models import Dataset


def may_import_from(user: User | AnonymousUser, folder: Path) -> bool:
    """Whether this user may import images from this server folder."""
    if not settings.IMPORT_DIRS:
        return is_administrator(user)
    return any(folder.resolve().is_relative_to(allowed) for allowed in settings.IMPORT_DIRS)


def link_rule(dataset: Dataset) -> LinkRule:
    """The rule for links out of a source: followed to folders that its owner may import from, never out of uploads."""
    if dataset.source_is_upload:
        return within_the_folder
    return lambda target: may_import_from(dataset.owner, target)
