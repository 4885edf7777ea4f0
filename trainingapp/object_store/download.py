"""Fetch a stored dataset into a folder of this host.

ROOT/<key>/                 a complete copy: the folder of a dataset
ROOT/.fetching-<key>/       a copy in progress, with an empty file in .parts/ for each part that is complete
ROOT/.lock-<key>            locked by the one process of this host that fetches or removes the copy
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from trainingapp.contract.messages.object_store import COPY_INCOMPLETE, PART_CORRUPTED
from trainingapp.contract.storage.durable import flush_folder
from trainingapp.object_store.errors import CorruptedDataset
from trainingapp.object_store.manifest import MANIFEST_FILE, Manifest, StoredObject, dataset_path
from trainingapp.object_store.packing import file_names, unpack
from trainingapp.object_store.store import ObjectStore, patiently

#: Parts that are downloaded at the same time.
PARALLEL = 4
#: Seconds between two calls of `tick`, at most.
TICK_S = 0.2
FETCHING_PREFIX, LOCK_PREFIX, REMOVED_PREFIX = ".fetching-", ".lock-", ".removed-"
DONE_DIR = ".parts"

#: Called every TICK_S with the bytes fetched and their total, which is 0 while unknown. An exception from it ends the
#: work.
Tick = Callable[[int, int], None]
#: Called with the bytes that the copy still needs, before any is fetched.
MakeRoom = Callable[[int], None]
Result = TypeVar("Result")


class _Stopped(Exception):
    """Another part has failed, or the caller has ended the work."""


def fetch(
    store: Callable[[], ObjectStore],
    key: str,
    sha256: str,
    root: Path,
    tick: Tick,
    make_room: MakeRoom = lambda count: None,
) -> Path:
    """The folder of a complete copy of the dataset, fetched where there is none; an interrupted attempt is continued.

    `sha256` is that of the manifest. While another process of this host fetches it, this one waits. `tick` and
    `make_room` are called in the thread of the caller. Raises StoreError, OSError, and what the callbacks raise.
    """
    target = root / key
    root.mkdir(parents=True, exist_ok=True)
    with key_lock(root, key, lambda: tick(0, 0)):
        if not target.is_dir():
            _Download(store(), key, sha256, root / f"{FETCHING_PREFIX}{key}", tick, make_room).run()
            (root / f"{FETCHING_PREFIX}{key}").rename(target)
            flush_folder(root)
    return target


@contextmanager
def key_lock(root: Path, key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the copy of a dataset of this host. `waiting` is called meanwhile; None: BlockingIOError instead of a wait.

    The system releases the lock of a process that ends. The file of the lock stays.
    """
    with (root / f"{LOCK_PREFIX}{key}").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waiting is None:
                    raise
                waiting()
                time.sleep(TICK_S)
        yield


def remove_copy(root: Path, key: str) -> None:
    """Remove a copy, complete or not. The caller holds the lock; nobody finds half of it under its name."""
    for name in (key, f"{FETCHING_PREFIX}{key}"):
        removed = root / f"{REMOVED_PREFIX}{name.lstrip('.')}.{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            (root / name).rename(removed)
    for removed in root.glob(f"{REMOVED_PREFIX}*"):
        shutil.rmtree(removed, ignore_errors=True)


class _Download:
    def __init__(
        self, store: ObjectStore, key: str, sha256: str, folder: Path, tick: Tick, make_room: MakeRoom
    ) -> None:
        self._store, self._path, self._sha256, self._folder = store, dataset_path(key), sha256, folder
        self._tick, self._make_room = tick, make_room
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._bytes = 0

    def run(self) -> None:
        done_dir = self._folder / DONE_DIR
        done_dir.mkdir(parents=True, exist_ok=True)
        content = self._awaited([lambda: self._store.read(f"{self._path}/{MANIFEST_FILE}")], 0)[0]
        manifest = Manifest.read(content, self._sha256)
        missing = [part for part in manifest.parts if not (done_dir / part.name).exists()]
        self._bytes = manifest.size_bytes - sum(part.size_bytes for part in missing)
        self._make_room(sum(part.size_bytes for part in missing) + PARALLEL * max(map(_size, missing), default=0))
        total = manifest.size_bytes
        self._awaited([lambda one=one: self._fetch_index(one) for one in manifest.index], total)  # type: ignore[misc]
        known = set(file_names(self._folder))
        self._awaited([lambda part=part: self._fetch_part(part, known) for part in missing], total)  # type: ignore[misc]
        for name in known:
            if not (self._folder / name).is_file():
                raise CorruptedDataset(COPY_INCOMPLETE(name=name))
        self._tick(total, total)
        shutil.rmtree(done_dir)
        os.sync()

    def _awaited(self, works: list[Callable[[], Result]], total: int) -> list[Result]:
        """The results of `works`, done in threads; the first failure ends the others."""
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
            futures: list[Future[Result]] = [pool.submit(patiently, work, self._pause) for work in works]
            try:
                waiting = set(futures)
                while waiting:
                    ended, waiting = wait(waiting, TICK_S, FIRST_COMPLETED)
                    for future in ended:
                        future.result()
                    self._tick(self._bytes, total)
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped

    def _step(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _fetch_index(self, one: StoredObject) -> None:
        self._download(one, self._folder / one.name, is_counted=False)

    def _fetch_part(self, part: StoredObject, known: set[str]) -> None:
        archive = self._folder / DONE_DIR / f"{part.name}.tmp"
        try:
            self._download(part, archive)
            unpack(archive, self._folder, known, part.name, self._step)
        finally:
            archive.unlink(missing_ok=True)
        os.sync()  # before the mark, so that a power cut leaves no mark of files that are not on the disk
        (self._folder / DONE_DIR / part.name).touch()

    def _download(self, one: StoredObject, target: Path, *, is_counted: bool = True) -> None:
        """Raises CorruptedDataset unless the object has its size and hash."""
        digest, size = hashlib.sha256(), 0
        try:
            with target.open("wb") as file:
                for block in self._store.blocks(f"{self._path}/{one.name}"):
                    self._step()
                    digest.update(block)
                    size += len(block)
                    file.write(block)
                    self._count(len(block) if is_counted else 0)
                    if size > one.size_bytes:
                        break
            if (size, digest.hexdigest()) != (one.size_bytes, one.sha256):
                raise CorruptedDataset(PART_CORRUPTED(name=one.name))
        except BaseException:
            self._count(-size if is_counted else 0)  # it is fetched again
            raise

    def _count(self, count: int) -> None:
        with self._lock:
            self._bytes += count


def _size(one: StoredObject) -> int:
    return one.size_bytes
