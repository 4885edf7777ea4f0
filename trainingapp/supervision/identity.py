"""The identity of this host, of its directories and of a worker process, and whether a process is alive."""

import contextlib
import os
import socket
import tempfile
import uuid
from functools import cache
from pathlib import Path

import psutil
from django.conf import settings

HOST = str(settings.HOST_NAME or socket.gethostname())

DIRECTORY_ID_FILE = ".directory_id"

#: Seconds by which two readings of one process's start may differ (the clock of the machine is set now and then).
START_TOLERANCE_S = 2.0


def cluster_address() -> str:
    """The IPv4 address at which other hosts reach this one; empty where no interface is set, or it has none now."""
    addresses = psutil.net_if_addrs().get(settings.CLUSTER_INTERFACE, [])
    return next((str(one.address) for one in addresses if one.family == socket.AF_INET), "")


def data_dir_id() -> str:
    """The id of this DATA_DIR, which hosts that share it have in common; empty where no object store is used."""
    return _directory_id(Path(settings.DATA_DIR)) if settings.OBJECT_STORE_URL else ""


def runs_dir_id() -> str:
    """The same of the directory of runs, which may be on another disk."""
    return _directory_id(Path(settings.RUNS_DIR)) if settings.OBJECT_STORE_URL else ""


def _directory_id(folder: Path) -> str:
    """The id in `folder`/.directory_id, which is written there first where there is none; empty where it cannot be.

    Two processes that write it at the same time agree on one.
    """
    path = folder / DIRECTORY_ID_FILE
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f"{DIRECTORY_ID_FILE}-") as file:
                file.write(uuid.uuid4().hex)
                file.flush()
                Path(file.name).chmod(0o644)
                with contextlib.suppress(FileExistsError):
                    os.link(file.name, path)
        return path.read_text().strip()[:32]
    except OSError:
        return ""


@cache
def worker_id() -> str:
    """The identity of this process, "host:pid:start". The start is part of it because process numbers are reused."""
    return f"{HOST}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_dead_here(worker: str) -> bool:
    """Whether the worker was a process of this host and has ended; False also where that cannot be known."""
    host, _, process = worker.partition(":")
    pid, _, start = process.partition(":")
    if host != HOST or not pid.isdigit():
        return False
    return not is_alive(int(pid), float(start))


def is_alive(pid: int, create_time: float) -> bool:
    """Whether the process of this number is the one that was started then (Unix seconds), and no zombie."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - create_time) < START_TOLERANCE_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
