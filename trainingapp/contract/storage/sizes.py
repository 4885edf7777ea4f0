"""What checkpoints take on the disk, and what goes when some of them go (no torch)."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainingapp.contract.storage.durable import TEMPORARY_SUFFIX, CorruptedFile, flush_folder
from trainingapp.contract.storage.index import Entry, read_index, write_index
from trainingapp.contract.storage.packs import PACKS_DIR, Packs
from trainingapp.contract.storage.reading import named_records, needed_records

#: The parts of a checkpoint: bytes by the name of its file and by the hash of each record it needs.
Parts = Mapping[str, int]


@dataclass(frozen=True)
class Removal:
    """What removing checkpoints does: files that are deleted or rewritten smaller, by path within the folder."""

    removed: dict[str, int]
    shrunk: dict[str, tuple[int, int]]

    @property
    def freed_bytes(self) -> int:
        return sum(self.removed.values()) + sum(before - after for before, after in self.shrunk.values())

    def left(self, checkpoints: Path) -> list[str]:
        """What should be gone by now and is still there."""
        return [name for name in (*self.removed, *self.shrunk) if (checkpoints / name).exists()]


def parts_of(checkpoints: Path, file: str, packs: Packs) -> dict[str, int]:
    """What the checkpoint is made of; nothing where it is gone."""
    path = checkpoints / file
    if not path.exists():
        return {}
    found = [record for sha256 in needed_records(path) if (record := packs.find(sha256))]
    return {file: path.stat().st_size, **{record.sha256: record.size for record in found}}


def own_bytes(parts: Mapping[str, Parts]) -> dict[str, int]:
    """For each checkpoint the bytes that no other one needs."""
    uses = Counter(name for one in parts.values() for name in one)
    return {file: sum(size for name, size in one.items() if uses[name] == 1) for file, one in parts.items()}


def all_parts(checkpoints: Path, packs: Packs) -> dict[str, dict[str, int]]:
    """The parts of every checkpoint in the index, oldest first. Raises ValueError where the index is damaged."""
    return {entry.file: parts_of(checkpoints, entry.file, packs) for entry in read_index(checkpoints)}


def plan_removal(checkpoints: Path, files: Collection[str]) -> Removal:
    """What removing these would do. Raises ValueError where the index is damaged."""
    packs = Packs(checkpoints)
    sweep = packs.plan(_still_needed(checkpoints, files))
    names = {file: (checkpoints / file).stat().st_size for file in files if (checkpoints / file).exists()}
    gone = {f"{PACKS_DIR}/{name}": size for name, size in sweep.removed.items()}
    return Removal({**names, **gone}, {f"{PACKS_DIR}/{name}": sizes for name, sizes in sweep.repacked.items()})


def remove_checkpoints(checkpoints: Path, files: Collection[str]) -> Removal:
    """Remove these, whoever calls holds the run's lock: first from the index, then their files, then unneeded packs.

    A crash in between leaves files that the next trainer, or the next removal, takes away. Raises OSError and
    ValueError.
    """
    plan = plan_removal(checkpoints, files)
    needed = _still_needed(checkpoints, files)
    write_index(checkpoints, [entry for entry in read_index(checkpoints) if entry.file not in files])
    for file in files:
        (checkpoints / file).unlink(missing_ok=True)
    flush_folder(checkpoints)
    for _piece in Packs(checkpoints).sweep(needed):
        pass
    return plan


def unneeded_packs(checkpoints: Path) -> list[Path]:
    """Packs, and halves of packs, without a tensor of any checkpoint that lies in the folder.

    None where a checkpoint cannot be read or lacks a tensor: what it lacks may lie in any of them, behind a torn place.
    An older copy of a tensor is needed like the newest: it is what is read where the newest has rotted.
    """
    packs = Packs(checkpoints)
    try:
        needed = {key for path in checkpoints.glob("*.pt") for key in named_records(path)}
    except (FileNotFoundError, CorruptedFile):
        return []
    if any(key not in packs for key in needed):
        return []
    return [*packs.without(needed), *sorted(packs.folder.glob(f"*{TEMPORARY_SUFFIX}"))]


def _still_needed(checkpoints: Path, files: Collection[str]) -> set[str]:
    kept: list[Entry] = [entry for entry in read_index(checkpoints) if entry.file not in files]
    return {sha256 for entry in kept for sha256 in needed_records(checkpoints / entry.file)}
