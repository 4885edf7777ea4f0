"""Tars for tests, with entries of every kind."""

import io
import tarfile

from tests.helpers.sources import Tree


def tarred(tree: Tree, *more: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT, encoding: str = "utf-8") -> bytes:
    """A tar with these files and further entries without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding=encoding) as archive:
        for name, content in tree.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))
        for entry in more:
            archive.addfile(entry)
    return buffer.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found
