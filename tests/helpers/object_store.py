"""An object store in a directory, and processes that use it."""

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.helpers.studio import REPOSITORY
from trainingapp.contract.dataset_index import DATASET_FILE
from trainingapp.object_store.download import fetch
from trainingapp.object_store.manifest import Manifest, dataset_key
from trainingapp.object_store.store import ObjectStore
from trainingapp.object_store.upload import Upload

#: About four images a part.
PART_BYTES = 16 << 10


def made_store(folder: Path) -> ObjectStore:
    folder.mkdir(exist_ok=True)
    return ObjectStore(str(folder))


def never(seconds: float) -> None:
    raise AssertionError("the store is there")


def uploaded(store: ObjectStore, folder: Path, scratch: Path, *, compare: bool = False) -> tuple[str, Manifest]:
    """The key and the manifest of the dataset, once it is stored."""
    key = dataset_key(folder)
    upload = Upload(store, folder, key, scratch, compare=compare, part_bytes=PART_BYTES)
    return key, upload.run(lambda done, total: None, never)


def fetched(store: ObjectStore, key: str, sha256: str, root: Path) -> Path:
    return fetch(lambda: store, key, sha256, root, lambda done, total: None)


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file by its path; dataset.json, which is stored without its name, is left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != DATASET_FILE
    }


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A Python process with the arguments as sys.argv, to be killed."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
