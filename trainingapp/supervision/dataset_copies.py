"""The copies of stored datasets on this host: fetched before a trainer starts, removed when space is needed."""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from trainingapp.contract.dataset_index import DATASET_FILE
from trainingapp.contract.messages.object_store import NOT_HERE
from trainingapp.models import Dataset, Host, HostDataset, TrainingRun
from trainingapp.models.run import Status
from trainingapp.object_store.download import DONE_DIR, FETCHING_PREFIX, MakeRoom, fetch, key_lock, remove_copy
from trainingapp.object_store.errors import MissingObject
from trainingapp.object_store.store import ObjectStore
from trainingapp.supervision.identity import HOST

logger = logging.getLogger(__name__)

#: Bytes that stay free on the disk of the copies.
SPARE_BYTES = 1 << 30
#: Seconds after which an interrupted download is removed when space is needed.
ABANDONED_S = 24 * 3600.0

#: Called several times a second with the bytes fetched, their total (0 while unknown) and the bytes per second. An
#: exception from it ends the download.
OnProgress = Callable[[int, int, float], None]


def copies_dir() -> Path:
    return Path(settings.CACHE_DIR) / "datasets"


def is_here(dataset: Dataset) -> bool:
    """Whether its own folder is on this host: it was imported here, or DATA_DIR is shared."""
    return not settings.OBJECT_STORE_URL or (dataset.folder / DATASET_FILE).exists()


def fetched_copy(dataset: Dataset, on_progress: OnProgress, make_room: MakeRoom) -> Path:
    """The folder of a copy of a stored dataset, fetched where this host has none. Raises StoreError, OSError.

    `make_room` is called with the bytes that are still needed, if any are.
    """
    if not dataset.store_key:
        raise MissingObject(NOT_HERE(host=HOST))
    began_s, first = time.monotonic(), [0]

    def tick(done: int, total: int) -> None:
        first[0] = first[0] or done
        passed_s = time.monotonic() - began_s
        on_progress(done, total, max(0, done - first[0]) / passed_s if passed_s > 0 else 0)

    def opened() -> ObjectStore:
        return ObjectStore(settings.OBJECT_STORE_URL)

    return fetch(opened, dataset.store_key, dataset.store_sha256, copies_dir(), tick, make_room)


def note_use(dataset: Dataset) -> None:
    """Store that this host has a copy of the dataset, which is used now."""
    if host := Host.objects.filter(name=HOST).first():
        values = {"size_bytes": dataset.size_bytes, "used_at": timezone.now()}
        HostDataset.objects.update_or_create(host=host, key=dataset.store_key, defaults=values)


def make_room(needed_bytes: int) -> None:
    """Remove the least recently used copies of this host that no running run has, until so many bytes fit.

    They fit into CACHE_GB and onto the disk. What cannot be removed stays: a full disk is then reported as such.
    """
    _remove_abandoned()
    copies = list(HostDataset.objects.filter(host__name=HOST).order_by("used_at", "pk"))
    used_bytes = sum(copy.size_bytes for copy in copies)
    for copy in copies:
        is_within = not settings.CACHE_BYTES or used_bytes + needed_bytes <= settings.CACHE_BYTES
        if is_within and shutil.disk_usage(copies_dir()).free >= needed_bytes + SPARE_BYTES:
            return
        if _removed(copy):
            used_bytes -= copy.size_bytes


def _remove_abandoned() -> None:
    """Remove downloads that were interrupted long ago and that nobody continues."""
    for folder in copies_dir().glob(f"{FETCHING_PREFIX}*"):
        key = folder.name.removeprefix(FETCHING_PREFIX)
        with contextlib.suppress(BlockingIOError, FileNotFoundError), key_lock(copies_dir(), key):
            if (folder / DONE_DIR).stat().st_mtime < time.time() - ABANDONED_S:
                remove_copy(copies_dir(), key)


def _removed(copy: HostDataset) -> bool:
    """Remove the copy unless a run has it, under its lock: a run that has just started takes that to find the copy."""
    try:
        with key_lock(copies_dir(), copy.key):
            here = Q(host=HOST) | Q(shares__host=HOST, shares__ended_at=None)
            running = TrainingRun.objects.filter(here, status=Status.RUNNING, dataset__store_key=copy.key)
            if running.exists():
                return False
            logger.info("The copy of dataset %s is removed: space is needed for another one.", copy.key)
            remove_copy(copies_dir(), copy.key)
            copy.delete()
            return True
    except BlockingIOError:  # it is being fetched
        return False
