"""Objects by their names in a bucket or a directory. fsspec opens both, and is imported with the first store."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from trainingapp.contract.messages.object_store import NOT_STORED, STORE_LIBRARY_MISSING, STORE_UNAVAILABLE
from trainingapp.contract.storage.durable import flush
from trainingapp.object_store.errors import CorruptedDataset, MissingObject, StoreError

#: Bytes of one request to the store.
BLOCK_BYTES = 8 << 20
#: Seconds before an operation that failed is tried again: a store that is away for a minute is waited for.
PATIENCE_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

#: Called with the bytes that were read or written since the last call. An exception from it ends the work.
Moved = Callable[[int], None]
Result = TypeVar("Result")


class ObjectStore:
    """A directory or a bucket with a prefix. Objects appear under their names complete or not at all.

    All methods raise StoreError where the store cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._reaching(""):
            from fsspec.core import url_to_fs

            # Listings that are remembered would hide what other hosts have stored since.
            fs, root = url_to_fs(url, use_listings_cache=False)
        self._fs: Any = fs
        self._root = str(root).rstrip("/")
        self._is_directory = "file" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)

    def size(self, name: str) -> int | None:
        """The bytes of an object; None where there is none."""
        with self._reaching(name):
            try:
                return int(self._fs.info(self._path(name))["size"])
            except FileNotFoundError:
                self._check_directory()
                return None

    def read(self, name: str) -> bytes:
        """A small object. Raises MissingObject."""
        return b"".join(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of an object. Raises MissingObject."""
        with self._reaching(name):
            try:
                file = self._fs.open(self._path(name), "rb", block_size=BLOCK_BYTES, cache_type="none")
            except FileNotFoundError:
                self._check_directory()
                raise MissingObject(NOT_STORED(name=name)) from None
        with file:
            while True:
                with self._reaching(name):  # not around the yield: what the caller does fails for other reasons
                    block = file.read(BLOCK_BYTES)
                if not block:
                    return
                yield block

    def put(self, local: Path, name: str, moved: Moved = lambda count: None) -> None:
        """Store the content of a local file."""
        if self._is_directory:
            self._put_into_directory(local, Path(self._path(name)), moved)
            return
        from fsspec.callbacks import Callback

        class Counting(Callback):
            def __init__(self) -> None:
                super().__init__()  # type: ignore[no-untyped-call]
                self.stopped: BaseException | None = None

            def relative_update(self, inc: int = 1) -> None:
                try:
                    moved(inc)
                except BaseException as error:
                    self.stopped = error
                    raise

        counting = Counting()
        try:
            with self._reaching(name):
                self._fs.put_file(str(local), self._path(name), callback=counting)
        except StoreError:
            if counting.stopped is not None:
                raise counting.stopped from None
            raise

    def try_out(self) -> None:
        """Store, read and remove a small object. Raises StoreError where one of these is not possible."""
        name, content = f"trial-{uuid.uuid4().hex}", b"trial"
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            self.put(Path(file.name), name)
        found = self.read(name)
        with self._reaching(name):
            self._fs.rm_file(self._path(name))
        if found != content:
            raise StoreError(STORE_UNAVAILABLE(name=self.url, error="an object had another content when it was read"))

    def _put_into_directory(self, local: Path, target: Path, moved: Moved) -> None:
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with local.open("rb") as source:
                with self._reaching(target.name):
                    self._check_directory()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file = temporary.open("wb")
                with file:
                    while block := source.read(BLOCK_BYTES):
                        with self._reaching(target.name):
                            file.write(block)
                        moved(len(block))
            with self._reaching(target.name):
                flush(temporary)
                temporary.replace(target)
                flush(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _check_directory(self) -> None:
        """A directory that is not there is a mount that is away: it is not created, and nothing is missing in it."""
        if self._is_directory and not Path(self._root).is_dir():
            raise StoreError(STORE_UNAVAILABLE(name=self.url, error="the directory does not exist"))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Turn what the libraries of the stores raise, which have no common class, into a StoreError."""
        try:
            yield
        except StoreError:
            raise
        except ImportError as error:
            raise StoreError(STORE_LIBRARY_MISSING(error=str(error))) from error
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise StoreError(STORE_UNAVAILABLE(name=name or self.url, error=text)) from error


def patiently(work: Callable[[], Result], pause: Callable[[float], None] = time.sleep) -> Result:
    """Repeat `work` while the store cannot be used, about a minute in total; `pause` may raise to end that.

    What is missing or corrupted is not waited for.
    """
    for wait_s in PATIENCE_S:
        try:
            return work()
        except (MissingObject, CorruptedDataset):
            raise
        except StoreError:
            pause(wait_s)
    return work()
