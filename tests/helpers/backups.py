"""Backups for tests: their members, and archives that are assembled directly."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard


def members(file: Path) -> dict[str, bytes]:
    """The content of each member, in order; links have the content of their target."""
    with file.open("rb") as stream:
        content = io.BytesIO(zstandard.ZstdDecompressor().stream_reader(stream).read())
    with tarfile.open(fileobj=content) as tar:
        found = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: member.read() for name, member in found.items() if member is not None}


def write_archive(file: Path, content: dict[str, bytes]) -> Path:
    """An archive with these members and their hashes."""
    content = {name: data for name, data in content.items() if name != "hashes.json"}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in {**content, "hashes.json": json.dumps(hashes).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    file.write_bytes(zstandard.ZstdCompressor().compress(stream.getvalue()))
    return file


def about(file: Path) -> dict[str, Any]:
    """studio.json of a backup."""
    found: dict[str, Any] = json.loads(members(file)["studio.json"])
    return found


@contextmanager
def database_of_version_0_1(file: Path) -> Iterator[Any]:
    """Within: Django is connected to an empty SQLite database of version 0.1. Yields the models of that version."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    from trainingapp.operations.backup import sqlite

    with sqlite.connected_to(file):
        executor = MigrationExecutor(connection)
        targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] != "trainingapp"]
        targets.append(("trainingapp", "0006_roles"))
        executor.migrate(targets)
        yield executor.loader.project_state(targets).apps
