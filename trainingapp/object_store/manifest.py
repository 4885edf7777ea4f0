"""The manifest of a stored dataset, and the key under which a dataset is stored."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainingapp.contract.dataset_index import DATASET_FILE, SAMPLES_FILE
from trainingapp.contract.messages.object_store import PART_CORRUPTED
from trainingapp.object_store.errors import CorruptedDataset

FORMAT = 1
MANIFEST_FILE = "manifest.json"
#: Digits of the second hash of a key, and of the hash in the name of a part.
DIGITS = 16


@dataclass(frozen=True)
class StoredObject:
    """A file of a dataset in the store."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All objects of a stored dataset: the two files of its index, and the parts in their order."""

    index: tuple[StoredObject, ...]
    parts: tuple[StoredObject, ...]

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in (*self.index, *self.parts))

    def content(self) -> bytes:
        """The file; the same for the same dataset, whoever packs it."""
        record = {
            "format": FORMAT,
            "index": [asdict(one) for one in self.index],
            "parts": [asdict(one) for one in self.parts],
        }
        return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content()).hexdigest()

    @classmethod
    def read(cls, content: bytes, sha256: str) -> "Manifest":
        """Read the file. Raises CorruptedDataset unless it has this SHA-256."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorruptedDataset(PART_CORRUPTED(name=MANIFEST_FILE))
        record = json.loads(content)
        index, parts = ([StoredObject(**one) for one in record[name]] for name in ("index", "parts"))
        return cls(tuple(index), tuple(parts))


def dataset_path(key: str) -> str:
    """The folder of a dataset in the store."""
    return f"datasets/{key}"


def anonymous_index(folder: Path) -> bytes:
    """The content of `dataset.json` as it is stored: without the name, since equal datasets share it."""
    about = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
    return json.dumps({**about, "name": ""}, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def dataset_key(folder: Path) -> str:
    """The key of a ready dataset: its fingerprint, and the first digits of the SHA-256 of its index.

    The fingerprint ignores the names and the order of the images, on which the order of an epoch depends.
    """
    about = anonymous_index(folder)
    digest = hashlib.sha256(about)
    with (folder / SAMPLES_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{json.loads(about)['fingerprint']}-{digest.hexdigest()[:DIGITS]}"
