"""The parts of a dataset: tar files with plain files only, made so that the same dataset gives the same bytes."""

import hashlib
import json
import tarfile
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainingapp.contract.dataset_index import SAMPLES_FILE, parse_sample
from trainingapp.contract.messages.object_store import PART_REFUSED
from trainingapp.object_store.errors import CorruptedDataset

PART_BYTES = 256 << 20
#: Bytes of the header of a file in a tar, about.
HEADER_BYTES = 1024
COPY_BYTES = 1 << 20


@dataclass
class Part:
    """Files that are packed together."""

    paths: list[str] = field(default_factory=list)
    size_bytes: int = 0


def file_names(folder: Path) -> Iterator[str]:
    """The files that the index of a dataset names, each once, in its order. Raises DatasetIndexError, OSError."""
    seen: set[str] = set()
    with (folder / SAMPLES_FILE).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            # Classes are counted by whoever trains; here it is the paths that must not lead out.
            sample = parse_sample(json.loads(line), 1 << 31, f"{SAMPLES_FILE}, line {number}")
            for path in (sample.path, sample.mask):
                if path and path not in seen:
                    seen.add(path)
                    yield path


def planned_parts(folder: Path, part_bytes: int = PART_BYTES) -> list[Part]:
    """The files of a dataset in parts of about `part_bytes`. Raises OSError for a file that is missing."""
    parts: list[Part] = []
    for path in file_names(folder):
        size = (folder / path).stat().st_size + HEADER_BYTES
        if not parts or parts[-1].size_bytes + size > part_bytes:
            parts.append(Part())
        parts[-1].paths.append(path)
        parts[-1].size_bytes += size
    return parts


def pack(folder: Path, paths: list[str], target: Path, step: Callable[[], None] = lambda: None) -> str:
    """Write these files of a dataset into a tar and return its SHA-256. `step` is called before each file."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            step()
            about = tarfile.TarInfo(path)  # owner, time and mode are the same wherever it is packed
            about.size = (folder / path).stat().st_size
            with (folder / path).open("rb") as file:
                tar.addfile(about, file)
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(
    archive: Path, folder: Path, known: Container[str], name: str, step: Callable[[], None] = lambda: None
) -> None:
    """Unpack a part into the folder of a copy. `known` are the names in the index of the dataset.

    Nothing but plain files of these names is unpacked: no link, no path that leads out, nothing besides.

    Raises CorruptedDataset, and OSError where the copy cannot be written.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                step()
                content = tar.extractfile(member) if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else None
                if content is None or member.name not in known:
                    raise CorruptedDataset(PART_REFUSED(name=name, member=repr(member.name)))
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    while block := content.read(COPY_BYTES):
                        file.write(block)
    except tarfile.TarError as error:
        raise CorruptedDataset(PART_REFUSED(name=name, member=str(error))) from error
