"""The marker that demo scenes are being prepared, which pages show until the dataset exists."""

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
    """Within: this process draws and imports demo scenes."""
    _marker().write_text(str(os.getpid()))
    try:
        yield
    finally:
        _marker().unlink(missing_ok=True)


def is_preparing() -> bool:
    """Whether a process of this host is preparing demo scenes; markers of killed processes are ignored."""
    try:
        return psutil.pid_exists(int(_marker().read_text()))
    except (OSError, ValueError):
        return False
