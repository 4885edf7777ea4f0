"""Files that are whole or not there, and their hashes (no torch)."""

import hashlib
import os
from pathlib import Path


def flush(path: Path) -> None:
    """Bring a written file, and its name, to the disk."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
