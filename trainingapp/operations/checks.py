"""System checks: what a deployment should not be run with. `manage.py check --deploy` also tries the servers."""

import ipaddress
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from trainingapp.contract.storage.durable import is_writable

#: File systems on which SQLite's locks, and so its data, cannot be relied on.
NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
LEAST_SECRET_LENGTH = 32
REDIS_TIMEOUT_S = 3


class Mount(NamedTuple):
    """A mounted file system, with the names that psutil gives its parts."""

    mountpoint: str
    fstype: str


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def filesystem_of(path: Path, mounts: Iterable[Mount]) -> str:
    """Type of the file system that `path` lies on, such as ext4; empty when no mount holds it."""
    holding = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(holding, key=lambda mount: len(mount.mountpoint)).fstype if holding else ""


@register(Tags.security)
def check_reachability(**kwargs: Any) -> list[CheckMessage]:
    """A studio that others reach should neither show its insides nor send passwords in the clear."""
    found: list[CheckMessage] = []
    open_to_others = not is_loopback(settings.HOST)
    if settings.DEBUG and open_to_others:
        found.append(
            Warning(
                f"DEBUG is on and the studio listens on {settings.HOST}.",
                hint="Error pages show settings and source code to everyone who reaches it. Set DEBUG=false.",
                id="cvstudio.W001",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "ALLOWED_HOSTS allows every host name.",
                hint="Name the hosts that the studio is reached by: ALLOWED_HOSTS=studio.example.org.",
                id="cvstudio.W002",
            )
        )
    if open_to_others and not settings.HTTPS:
        found.append(
            Warning(
                f"The studio listens on {settings.HOST} without HTTPS.",
                hint="Passwords cross the network in the clear. Put a TLS proxy before it and set HTTPS=true.",
                id="cvstudio.W003",
            )
        )
    return found


@register(Tags.security)
def check_secret_key(**kwargs: Any) -> list[CheckMessage]:
    """Who knows or guesses the key can make sessions of any user."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < LEAST_SECRET_LENGTH or len(set(settings.SECRET_KEY)) < 8:
        found.append(
            Warning(
                f"SECRET_KEY is easy to guess: use at least {LEAST_SECRET_LENGTH} random characters.",
                hint="Leave SECRET_KEY empty and the studio makes a good one and keeps it.",
                id="cvstudio.W004",
            )
        )
    path = Path(settings.DATA_DIR) / "secret_key"
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        found.append(
            Warning(
                f"{path} can be read by other users of this machine.",
                hint=f"chmod 600 {path}",
                id="cvstudio.W005",
            )
        )
    return found


@register("files")
def check_folders(**kwargs: Any) -> list[CheckMessage]:
    """A run that cannot be saved should not start."""
    folders = (settings.DATA_DIR, settings.RUNS_DIR, settings.DATASETS_DIR, settings.UPLOADS_DIR)
    return [
        Error(
            f"{folder} cannot be written to.",
            hint="Give it to the user that runs the studio, or set DATA_DIR or CHECKPOINTS_DIR to another folder.",
            id="cvstudio.E006",
        )
        for folder in map(Path, folders)
        if not is_writable(folder)
    ]


@register("redis", deploy=True)
def check_redis(**kwargs: Any) -> list[CheckMessage]:
    """Only when asked to, as it waits for the network."""
    if not settings.REDIS_URL:
        return []
    import redis

    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S).ping()
    except redis.RedisError as error:
        return [
            Warning(
                f"Redis does not answer: {error}",
                hint="Start it, mend REDIS_URL, or leave REDIS_URL empty to go without Redis.",
                id="cvstudio.W007",
            )
        ]
    return []


@register("files")
def check_sqlite_filesystem(**kwargs: Any) -> list[CheckMessage]:
    """SQLite's locks do not hold between the machines that share a network drive."""
    mounts = [Mount(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    return sqlite_warnings(settings.DATABASES["default"], mounts)


def sqlite_warnings(database: dict[str, Any], mounts: Iterable[Mount]) -> list[CheckMessage]:
    """What is wrong with where `database`, an entry of DATABASES, lies."""
    if "sqlite" not in database["ENGINE"]:
        return []
    path = Path(database["NAME"]).absolute()
    filesystem = filesystem_of(path, mounts)
    if filesystem not in NETWORK_FILESYSTEMS:
        return []
    return [
        Warning(
            f"The SQLite database {path} lies on a network file system ({filesystem}).",
            hint="It may be damaged there. Put DATA_DIR on a local disk, or set DATABASE_URL to a PostgreSQL database.",
            id="cvstudio.W008",
        )
    ]


@register("capacity")
def check_capacity(**kwargs: Any) -> list[CheckMessage]:
    """More trainers than cores only wait for each other."""
    cores = len(psutil.Process().cpu_affinity() or [])
    if max(cores, 2) >= settings.MAX_TRAINING_PROCESSES:
        return []
    return [
        Warning(
            f"MAX_TRAINING_PROCESSES is {settings.MAX_TRAINING_PROCESSES}, but this machine has {cores} cores.",
            hint="Runs will slow each other down. Lower it, unless every run trains on a GPU of its own.",
            id="cvstudio.W009",
        )
    ]
