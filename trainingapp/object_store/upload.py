"""Store a dataset. It can be repeated after any interruption: parts that are stored already are not sent again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from trainingapp.contract.dataset_index import DATASET_FILE, SAMPLES_FILE
from trainingapp.object_store.manifest import (
    DIGITS,
    MANIFEST_FILE,
    Manifest,
    StoredObject,
    anonymous_index,
    dataset_path,
)
from trainingapp.object_store.packing import PART_BYTES, pack, planned_parts
from trainingapp.object_store.store import ObjectStore, patiently

#: Called with the files that are stored and their total. An exception from it ends the work.
Progress = Callable[[int, int], None]


class Upload:
    """One attempt to store the dataset in `folder` under `key`; `scratch` takes one part at a time.

    With `compare`, parts in the store are read and compared instead of being trusted by their names and sizes.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder: Path,
        key: str,
        scratch: Path,
        *,
        compare: bool = False,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._store, self._folder, self._path, self._scratch = store, folder, dataset_path(key), scratch
        self._compare, self._part_bytes = compare, part_bytes

    def run(self, progress: Progress, pause: Callable[[float], None]) -> Manifest:
        """Store what is missing, the manifest last. `pause` waits some seconds for a store that is away.

        Raises StoreError, OSError, and what the callbacks raise.
        """
        parts = planned_parts(self._folder, self._part_bytes)
        total = sum(len(part.paths) for part in parts)
        done = 0
        progress(done, total)
        self._scratch.mkdir(parents=True, exist_ok=True)
        archive = self._scratch / "part.tar"

        def step() -> None:
            progress(done, total)

        def stored(name: str, sha256: str) -> StoredObject:
            patiently(lambda: self._ensure(archive, name, sha256, step), pause)
            return StoredObject(name, archive.stat().st_size, sha256)

        try:
            index = []
            for name, content in (
                (DATASET_FILE, anonymous_index(self._folder)),
                (SAMPLES_FILE, (self._folder / SAMPLES_FILE).read_bytes()),
            ):
                archive.write_bytes(content)
                index.append(stored(name, hashlib.sha256(content).hexdigest()))
            found = []
            for number, part in enumerate(parts, start=1):
                sha256 = pack(self._folder, part.paths, archive, step)
                found.append(stored(f"part-{number:05d}-{sha256[:DIGITS]}.tar", sha256))
                done += len(part.paths)
                progress(done, total)
            manifest = Manifest(tuple(index), tuple(found))
            archive.write_bytes(manifest.content())
            stored(MANIFEST_FILE, manifest.sha256)
            return manifest
        finally:
            archive.unlink(missing_ok=True)

    def _ensure(self, local: Path, name: str, sha256: str, step: Callable[[], None]) -> None:
        """Send the file unless the store has it. The name of a part contains its hash; that of other files does not."""
        path = f"{self._path}/{name}"
        if self._store.size(path) == local.stat().st_size:
            is_named_by_hash = sha256[:DIGITS] in name
            if (is_named_by_hash and not self._compare) or self._sha256(path, step) == sha256:
                return
        self._store.put(local, path, lambda _count: step())

    def _sha256(self, path: str, step: Callable[[], None]) -> str:
        digest = hashlib.sha256()
        for block in self._store.blocks(path):
            digest.update(block)
            step()
        return digest.hexdigest()
