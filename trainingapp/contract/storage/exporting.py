"""A checkpoint as a file for other programs, in whatever format it is stored (no torch)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from trainingapp.contract.storage.durable import Bytes, prepared
from trainingapp.contract.storage.plain import pt_pieces, pt_size, safetensors_pieces, safetensors_size
from trainingapp.contract.storage.reading import Opened

ExportForm = Literal["pt", "safetensors"]
EXPORT_FORMS: tuple[ExportForm, ...] = ("pt", "safetensors")


def export_pieces(opened: Opened, form: ExportForm) -> Iterator[Bytes]:
    """The bytes of the file in order. Raises CorruptedFile in the middle where a tensor is not what was written."""
    write = pt_pieces if form == "pt" else safetensors_pieces
    return write(opened.content, opened.read)


def export_size(opened: Opened, form: ExportForm) -> int:
    """The exact size of the file in bytes."""
    return (pt_size if form == "pt" else safetensors_size)(opened.content)


def export_file(opened: Opened, form: ExportForm, target: Path) -> int:
    """Write the file, whole or not at all; returns its size. Raises OSError and CorruptedFile."""
    temporary = prepared(target, export_pieces(opened, form))
    temporary.replace(target)
    return target.stat().st_size
