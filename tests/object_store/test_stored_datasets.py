"""A dataset that is stored and fetched is the same, and what is wrong with it is noticed."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.object_store import PART_BYTES, contents, fetched, made_store, never, uploaded
from tests.helpers.studio import REPOSITORY
from trainingapp.contract.dataset_index import SAMPLES_FILE, read_index
from trainingapp.object_store.download import fetch, key_lock, remove_copy
from trainingapp.object_store.errors import CorruptedDataset, MissingObject, StoreError
from trainingapp.object_store.manifest import MANIFEST_FILE, Manifest, dataset_key, dataset_path
from trainingapp.object_store.packing import unpack
from trainingapp.object_store.store import PATIENCE_S, ObjectStore, patiently
from trainingapp.object_store.upload import Upload


def parts(store: Path, key: str) -> list[Path]:
    return sorted((store / dataset_path(key)).glob("part-*.tar"))


@pytest.mark.parametrize("url", ["directory", "file URL", "memory"])
def test_a_copy_equals_the_dataset(dataset_folder: Path, tmp_path: Path, url: str) -> None:
    (tmp_path / "store").mkdir()
    urls = {"directory": str(tmp_path / "store"), "file URL": (tmp_path / "store").as_uri(), "memory": "memory://test"}
    store = ObjectStore(urls[url])
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    assert len(manifest.parts) > 5
    copy = fetched(store, key, manifest.sha256, tmp_path / "copies")
    assert copy == tmp_path / "copies" / key
    assert contents(copy) == contents(dataset_folder)
    assert read_index(copy).samples == read_index(dataset_folder).samples
    assert read_index(copy).fingerprint == read_index(dataset_folder).fingerprint
    assert not list((tmp_path / "scratch").iterdir())


def test_the_same_content_is_stored_once(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    before = {path: path.stat().st_ino for path in (tmp_path / "store").rglob("*") if path.is_file()}
    other = dataset_folder.with_name("another name")
    dataset_folder.rename(other)
    index = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**index, "name": "another name"}))
    assert uploaded(store, other, tmp_path / "scratch") == (key, manifest)
    assert {path: path.stat().st_ino for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_another_order_of_the_images_is_another_dataset(dataset_folder: Path) -> None:
    key = dataset_key(dataset_folder)
    samples = dataset_folder / SAMPLES_FILE
    samples.write_text("".join(reversed(samples.read_text().splitlines(keepends=True))))
    other = dataset_key(dataset_folder)
    assert other != key
    assert other.partition("-")[0] == key.partition("-")[0]


def test_a_dataset_without_a_manifest_does_not_exist(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    (tmp_path / "store" / dataset_path(key) / MANIFEST_FILE).unlink()
    with pytest.raises(MissingObject):
        fetched(store, key, manifest.sha256, tmp_path / "copies")


def test_a_corrupted_part_is_refused_and_stored_again(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    part = parts(tmp_path / "store", key)[2]
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    with pytest.raises(CorruptedDataset, match=part.name):
        fetched(store, key, manifest.sha256, tmp_path / "copies")
    assert not (tmp_path / "copies" / key).exists()
    assert uploaded(store, dataset_folder, tmp_path / "scratch", compare=True) == (key, manifest)
    assert contents(fetched(store, key, manifest.sha256, tmp_path / "copies")) == contents(dataset_folder)


def test_a_part_that_is_truncated_is_stored_again(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    part = parts(tmp_path / "store", key)[0]
    part.write_bytes(part.read_bytes()[:-512])
    with pytest.raises(CorruptedDataset):
        fetched(store, key, manifest.sha256, tmp_path / "copies")
    uploaded(store, dataset_folder, tmp_path / "scratch")
    fetched(store, key, manifest.sha256, tmp_path / "copies")


def test_a_manifest_of_somebody_else_is_refused(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    forged = Manifest(manifest.index, manifest.parts[1:])
    (tmp_path / "store" / dataset_path(key) / MANIFEST_FILE).write_bytes(forged.content())
    with pytest.raises(CorruptedDataset, match=MANIFEST_FILE):
        fetched(store, key, manifest.sha256, tmp_path / "copies")


def member(name: str, **values: Any) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(about, key, value)
    return about


@pytest.mark.parametrize(
    "entry",
    [
        member("../out.png"),
        member("/tmp/out.png"),
        member("images/other.png"),
        member("images/known.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("images/known.png", type=tarfile.LNKTYPE, linkname="../secret"),
        member("images/known.png", type=tarfile.DIRTYPE),
        member("images/known.png", type=tarfile.FIFOTYPE),
        member("images/known.png", type=tarfile.CHRTYPE),
    ],
    ids=lambda entry: f"{entry.name} {entry.type!r}",
)
def test_only_plain_files_of_the_index_are_unpacked(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    archive, folder = tmp_path / "part.tar", tmp_path / "copy"
    folder.mkdir()
    with tarfile.open(archive, "w") as tar:
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(CorruptedDataset):
        unpack(archive, folder, {"images/known.png"}, archive.name)
    assert not [path for path in tmp_path.rglob("*") if path not in (archive, folder)]


def test_a_full_disk_is_reported_as_such(dataset_folder: Path, tmp_path: Path) -> None:
    """/dev/full refuses every write, as a full disk does."""
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    copy = tmp_path / "copies" / f".fetching-{key}"
    copy.mkdir(parents=True)
    target = copy / SAMPLES_FILE
    target.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        fetched(store, key, manifest.sha256, tmp_path / "copies")
    assert not isinstance(caught.value, StoreError)
    target.unlink()
    fetched(store, key, manifest.sha256, tmp_path / "copies")


def test_room_is_made_before_a_download(dataset_folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store")
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    needed: list[int] = []
    fetch(lambda: store, key, manifest.sha256, tmp_path / "copies", lambda done, total: None, needed.append)
    assert needed[0] > sum(part.size_bytes for part in manifest.parts)


def test_a_store_that_is_away_is_waited_for(dataset_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = ObjectStore(str(tmp_path / "store"))
    (tmp_path / "store").rename(tmp_path / "away")
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (tmp_path / "away").rename(tmp_path / "store")

    key = dataset_key(dataset_folder)
    upload = Upload(store, dataset_folder, key, tmp_path / "scratch", part_bytes=PART_BYTES)
    manifest = upload.run(lambda done, total: None, pause)
    assert waits == list(PATIENCE_S[:3])
    fetched(store, key, manifest.sha256, tmp_path / "copies")


def test_a_store_that_stays_away_fails() -> None:
    def work() -> None:
        raise StoreError("away")

    waits: list[float] = []
    with pytest.raises(StoreError, match="away"):
        patiently(work, waits.append)
    assert waits == list(PATIENCE_S)


def test_a_directory_that_is_not_mounted_is_not_created(dataset_folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "mount"))
    with pytest.raises(AssertionError, match="the store is there"):
        uploaded(store, dataset_folder, tmp_path / "scratch")
    with pytest.raises(StoreError, match="does not exist"):
        store.put(dataset_folder / SAMPLES_FILE, "x")
    assert not (tmp_path / "mount").exists()


def test_work_ends_where_its_callback_raises(dataset_folder: Path, tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def end(*_numbers: int) -> None:
        raise Ended

    store = made_store(tmp_path / "store")
    key = dataset_key(dataset_folder)
    with pytest.raises(Ended):
        Upload(store, dataset_folder, key, tmp_path / "scratch").run(end, never)
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    with pytest.raises(Ended):
        fetch(lambda: store, key, manifest.sha256, tmp_path / "copies", end)
    with pytest.raises(Ended):
        ObjectStore("memory://test").put(dataset_folder / SAMPLES_FILE, "x", end)
    fetched(store, key, manifest.sha256, tmp_path / "copies")


def test_a_removed_copy_is_fetched_again(dataset_folder: Path, tmp_path: Path) -> None:
    store, root = made_store(tmp_path / "store"), tmp_path / "copies"
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    fetched(store, key, manifest.sha256, root)
    with key_lock(root, key):
        remove_copy(root, key)
        with pytest.raises(BlockingIOError), key_lock(root, key):
            pass
    assert [path.name for path in root.iterdir()] == [f".lock-{key}"]
    fetched(store, key, manifest.sha256, root)


def test_an_address_without_its_library_is_explained() -> None:
    with pytest.raises(StoreError, match=r"cannot be used now \(nosuchprotocol"):
        ObjectStore("nosuchprotocol://bucket")


def test_nothing_imports_fsspec_before_a_store_is_opened() -> None:
    code = """
        import sys, django
        django.setup()
        import trainingapp.worker.tasks, cvstudio.urls
        import trainingapp.object_store.download, trainingapp.object_store.upload
        print("fsspec" in sys.modules)
    """
    command = [sys.executable, "-c", "\n".join(line.strip() for line in code.strip().splitlines())]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
