"""Whether demo scenes are being prepared: pages say so until the dataset is there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings


def _marker() -> Path:
    return Path(settings.DATA_DIR) / "demo.preparing"


@contextmanager
def preparing() -> Iterator[None]:
    """While demo scenes are drawn and imported by this process."""
    _marker().write_text(str(os.getpid()))
    try:
        yield
    finally:
        _marker().unlink(missing_ok=True)


def is_preparing() -> bool:
    """Whether a process of this host is at it; what a killed one left does not count."""
    try:
        return psutil.pid_exists(int(_marker().read_text()))
    except (OSError, ValueError):
        return False
