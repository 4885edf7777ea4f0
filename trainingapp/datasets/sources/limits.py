"""Limits for unpacking a source: entries, bytes and disk space, for all of its archives together."""

import shutil
from pathlib import Path

from django.conf import settings

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.source import size_param

MOST_ENTRIES = 200_000
MOST_RATIO = 200
"""Images are compressed already: real ones stay below 2, flat bitmaps below 100."""
RATIO_FREE_BYTES = 50 * 1024**2
UNPACKED_TO_UPLOAD = 20
#: Bytes that an import leaves free on the disk, for the database and active runs.
DISK_RESERVE_BYTES = 100 * 1024**2


class UnpackingLimits:
    """Counts entries and unpacked bytes. Each method raises DatasetError ("bomb") beyond a limit."""

    def __init__(self) -> None:
        self._entries = 0
        self._bytes = 0
        self.most_bytes: int = UNPACKED_TO_UPLOAD * settings.MAX_UPLOAD_BYTES

    def add_entries(self, count: int) -> None:
        self._entries += count
        if self._entries > MOST_ENTRIES:
            raise DatasetError.one("bomb", messages.TOO_MANY_ENTRIES(count=self._entries, most=MOST_ENTRIES))

    def add_bytes(self, unpacked: int) -> None:
        self._bytes += unpacked
        if self._bytes > self.most_bytes:
            message = messages.UNPACKED_TOO_LARGE(size=size_param(self._bytes), limit=size_param(self.most_bytes))
            raise DatasetError.one("bomb", message)

    @staticmethod
    def check_ratio(source: Param, unpacked: int, packed: int) -> None:
        """Raise DatasetError if the unpacked size is too many times `packed` bytes."""
        if unpacked > RATIO_FREE_BYTES and unpacked > MOST_RATIO * packed:
            message = messages.ZIP_BOMB(source=source, packed=size_param(packed), size=size_param(unpacked))
            raise DatasetError.one("bomb", message)


def check_disk_space(folder: Path, needed_bytes: int) -> None:
    """Raise DatasetError if the disk of `folder` lacks space for so many bytes and a reserve."""
    free_bytes = shutil.disk_usage(folder).free
    short_bytes = needed_bytes + DISK_RESERVE_BYTES - free_bytes
    if short_bytes > 0:
        sizes = {"size": needed_bytes, "free": free_bytes, "reserve": DISK_RESERVE_BYTES, "short": short_bytes}
        message = messages.DISK_FULL(**{name: size_param(size) for name, size in sizes.items()})
        raise DatasetError.one("disk_full", message)
