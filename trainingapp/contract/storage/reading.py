"""Opening a checkpoint, compact or plain, without torch: its content, and the numbers of a tensor on request."""

import collections
import hashlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.storage import FILE_MISSING, HASH_MISMATCH, NOT_READABLE
from trainingapp.contract.storage.durable import Bytes, CorruptedFile
from trainingapp.contract.storage.manifest import Content, TensorSpec, leaves, read_manifest
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.plain import STORAGES

PLAIN_MAGIC = b"PK"
#: What a broken zip or pickle makes the standard library raise.
_UNREADABLE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, LookupError, EOFError),
    *(ValueError, TypeError, AttributeError, NotImplementedError),
)


@dataclass(frozen=True)
class Opened:
    """`content` is what a checkpoint holds, with a `TensorSpec` for each tensor; `read` gives its numbers.

    `read` raises CorruptedFile where they are not those that were written; a plain file has no hash of its tensors.
    """

    content: Content
    read: Callable[[TensorSpec], Bytes]

    def specs(self) -> list[TensorSpec]:
        return list(leaves(self.content, TensorSpec))


def is_plain(path: Path) -> bool:
    """Whether torch.load can read the file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(PLAIN_MAGIC)) == PLAIN_MAGIC


def open_checkpoint(path: Path, packs: Packs | None = None) -> Opened:
    """Raises OSError and CorruptedFile. `packs` are those of its folder, where they are open."""
    if is_plain(path):
        return _open_plain(path)
    return open_manifest(path.read_bytes(), packs or Packs(path.parent))


def open_manifest(content: bytes, packs: Packs) -> Opened:
    """A compact checkpoint whose file holds `content`. Raises CorruptedFile."""
    return Opened(read_manifest(content), lambda spec: packs.read(spec.key))


def check_hash(content: bytes | io.BufferedReader, sha256: str) -> None:
    """Raises CorruptedFile where what was read, or a file that is open at its beginning, has another hash."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
        raise CorruptedFile(HASH_MISMATCH())


def named_records(path: Path) -> frozenset[str]:
    """Hashes of the records that the checkpoint names; none for a plain one. Raises OSError and CorruptedFile."""
    content = {} if is_plain(path) else read_manifest(path.read_bytes())
    return frozenset(spec.key for spec in leaves(content, TensorSpec))


def needed_records(path: Path) -> frozenset[str]:
    """The same; none either for a checkpoint that is gone or damaged."""
    try:
        return named_records(path)
    except (FileNotFoundError, CorruptedFile):
        return frozenset()


def file_damage(path: Path, sha256: str) -> Message | None:
    """What is wrong with a file that must have this hash; None where it matches."""
    try:
        with path.open("rb") as file:
            check_hash(file, sha256)
    except FileNotFoundError:
        return FILE_MISSING()
    except CorruptedFile as error:
        return error.message
    return None


def damage(path: Path, sha256: str, packs: Packs | None = None, known_valid: set[str] | None = None) -> Message | None:
    """What is wrong with a checkpoint; None where every hash matches. The message completes the file's name.

    Reads all of it except the records in `known_valid`, to which it adds those that it has read.
    """
    valid = set() if known_valid is None else known_valid
    if wrong := file_damage(path, sha256):
        return wrong
    try:
        if is_plain(path):
            return None
        opened = open_checkpoint(path, packs)
        for spec in opened.specs():
            if spec.key not in valid:
                opened.read(spec)
                valid.add(spec.key)
    except FileNotFoundError:
        return FILE_MISSING()
    except CorruptedFile as error:
        return error.message
    return None


def _open_plain(path: Path) -> Opened:
    try:
        archive = zipfile.ZipFile(path)
        prefix = archive.namelist()[0].split("/")[0]
        content = _Unpickler(io.BytesIO(archive.read(f"{prefix}/data.pkl"))).load()
    except _UNREADABLE as error:
        raise CorruptedFile(NOT_READABLE(error=str(error))) from error

    def read(spec: TensorSpec) -> Bytes:
        key, offset = spec.key.split(":")
        start = int(offset) * spec.width
        return memoryview(archive.read(f"{prefix}/data/{key}"))[start : start + spec.raw_bytes]

    return Opened(dict(content), read)


class _Unpickler(pickle.Unpickler):
    """Reads what torch.save wrote of plain values and tensors; anything else is refused, so nothing of it is run."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch" and name in STORAGES.values():
            return name
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: tuple[str, str, str, str, int]) -> tuple[str, str]:
        _storage, kind, key, _location, _numel = pid
        return kind, key


def _rebuilt(
    storage: tuple[str, str], offset: int, size: Iterable[int], stride: Iterable[int], *_rest: object
) -> TensorSpec:
    dtype = next(name for name, kind in STORAGES.items() if kind == storage[0])
    return TensorSpec(dtype, tuple(size), tuple(stride), f"{storage[1]}:{offset}")
