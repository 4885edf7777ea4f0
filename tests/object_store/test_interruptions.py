"""Processes that store and fetch a dataset are killed at any time; the next ones finish it."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.object_store import PART_BYTES, contents, fetched, made_store, python, uploaded
from trainingapp.object_store.download import FETCHING_PREFIX
from trainingapp.object_store.manifest import MANIFEST_FILE, dataset_key, dataset_path

#: Each file takes a moment, so that a kill finds the process at work.
UPLOAD = """
    import sys, time
    from pathlib import Path
    from trainingapp.object_store.store import ObjectStore
    from trainingapp.object_store.upload import Upload
    store, folder, key, scratch, part_bytes = sys.argv[1:]
    upload = Upload(ObjectStore(store), Path(folder), key, Path(scratch), part_bytes=int(part_bytes))
    print("begins", flush=True)
    manifest = upload.run(lambda done, total: time.sleep(0.01), time.sleep)
    print(manifest.sha256, flush=True)
"""
FETCH = """
    import sys, time
    from pathlib import Path
    from trainingapp.object_store import download
    from trainingapp.object_store.store import ObjectStore
    store, key, sha256, root = sys.argv[1:]
    download._Download._step = lambda self: time.sleep(0.02)
    print("begins", flush=True)
    download.fetch(lambda: ObjectStore(store), key, sha256, Path(root), lambda done, total: None)
    print("done", flush=True)
"""


def killed_until_done(code: str, *arguments: object, longest_s: float, seed: int) -> tuple[str, int]:
    """Start the process again and again, killed after a random time which grows. Its last line, and the kills."""
    rng, kills = random.Random(seed), 0
    while True:
        process: Any = python(code, *arguments)
        assert process.stdout.readline() == "begins\n"
        time.sleep(rng.uniform(0, longest_s * 1.5**kills))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        if rest:
            return rest[-1], kills
        kills += 1


@pytest.mark.parametrize("seed", [1, 2])
def test_an_upload_that_is_killed_is_continued(dataset_folder: Path, tmp_path: Path, seed: int) -> None:
    store, key = made_store(tmp_path / "store"), dataset_key(dataset_folder)
    arguments = (tmp_path / "store", dataset_folder, key, tmp_path / "scratch", PART_BYTES)
    sha256, kills = killed_until_done(UPLOAD, *arguments, longest_s=0.4, seed=seed)
    assert kills > 0
    copy = fetched(store, key, sha256, tmp_path / "copies")
    assert contents(copy) == contents(dataset_folder)


def test_an_upload_that_was_killed_sends_no_part_twice(dataset_folder: Path, tmp_path: Path) -> None:
    made_store(tmp_path / "store")
    key = dataset_key(dataset_folder)
    folder = tmp_path / "store" / dataset_path(key)
    process = python(UPLOAD, tmp_path / "store", dataset_folder, key, tmp_path / "scratch", PART_BYTES)
    while len(sent := list(folder.glob("part-*.tar"))) < 3:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / MANIFEST_FILE).exists()
    before = {path: path.stat().st_ino for path in sent}
    uploaded(made_store(tmp_path / "store"), dataset_folder, tmp_path / "scratch")
    assert {path: path.stat().st_ino for path in sent} == before
    assert (folder / MANIFEST_FILE).exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_download_that_is_killed_is_continued(dataset_folder: Path, tmp_path: Path, seed: int) -> None:
    store, root = made_store(tmp_path / "store"), tmp_path / "copies"
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    arguments = (tmp_path / "store", key, manifest.sha256, root)
    _done, kills = killed_until_done(FETCH, *arguments, longest_s=0.2, seed=seed)
    assert kills > 0
    assert contents(root / key) == contents(dataset_folder)
    assert not (root / f"{FETCHING_PREFIX}{key}").exists()


def test_a_download_continues_with_the_parts_that_are_missing(dataset_folder: Path, tmp_path: Path) -> None:
    store, root = made_store(tmp_path / "store"), tmp_path / "copies"
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    process = python(FETCH, tmp_path / "store", key, manifest.sha256, root)
    marks = root / f"{FETCHING_PREFIX}{key}" / ".parts"
    while len(marked := list(marks.glob("*.tar"))) < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in marked:  # they are not needed any more
        (tmp_path / "store" / dataset_path(key) / path.name).unlink()
    assert contents(fetched(store, key, manifest.sha256, root)) == contents(dataset_folder)


def test_two_processes_of_a_host_fetch_once(dataset_folder: Path, tmp_path: Path) -> None:
    store, root = made_store(tmp_path / "store"), tmp_path / "copies"
    key, manifest = uploaded(store, dataset_folder, tmp_path / "scratch")
    processes: list[Any] = [python(FETCH, tmp_path / "store", key, manifest.sha256, root) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert outputs == ["begins\ndone\n"] * 2
    assert contents(root / key) == contents(dataset_folder)
    assert not list(root.glob(f"{FETCHING_PREFIX}*"))
