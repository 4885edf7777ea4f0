"""System checks of a deployment. `manage.py check --deploy` also connects to Redis."""

import ipaddress
import stat
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypedDict

import psutil
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from trainingapp.contract.storage.durable import is_writable
from trainingapp.supervision.identity import cluster_address

#: File systems on which the locks of SQLite are unreliable, so that concurrent writers can damage the database.
NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
LEAST_SECRET_LENGTH = 32
REDIS_TIMEOUT_S = 3


class Database(TypedDict):
    """The part of an entry of DATABASES that is checked."""

    ENGINE: str
    NAME: str | Path


class Mount(NamedTuple):
    """A mounted file system, with psutil's names of its parts."""

    mountpoint: str
    fstype: str


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def filesystem_of(path: Path, mounts: Iterable[Mount]) -> str:
    """Type of the file system that contains `path`, such as ext4; empty if no mount does."""
    holding = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(holding, key=lambda mount: len(mount.mountpoint)).fstype if holding else ""


@register(Tags.security)
def check_reachability(**kwargs: object) -> list[CheckMessage]:
    """Warn where a studio that other machines can reach shows its source code or sends passwords unencrypted."""
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
                hint="List the host names of the studio: ALLOWED_HOSTS=studio.example.org.",
                id="cvstudio.W002",
            )
        )
    if open_to_others and not settings.HTTPS:
        found.append(
            Warning(
                f"The studio listens on {settings.HOST} without HTTPS.",
                hint="Passwords are sent unencrypted. Put a TLS proxy in front of it and set HTTPS=true.",
                id="cvstudio.W003",
            )
        )
    return found


@register(Tags.security)
def check_secret_key(**kwargs: object) -> list[CheckMessage]:
    """Warn where the key can be guessed or read: it is enough to forge a session of any user."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < LEAST_SECRET_LENGTH or len(set(settings.SECRET_KEY)) < 8:
        found.append(
            Warning(
                f"SECRET_KEY is easy to guess: use at least {LEAST_SECRET_LENGTH} random characters.",
                hint="Leave SECRET_KEY empty: the studio generates a random key and stores it.",
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
def check_folders(**kwargs: object) -> list[CheckMessage]:
    """Refuse to start where runs cannot be saved."""
    folders = (settings.DATA_DIR, settings.RUNS_DIR, settings.DATASETS_DIR, settings.UPLOADS_DIR)
    return [
        Error(
            f"{folder} cannot be written to.",
            hint="Make the user of the studio its owner, or set DATA_DIR or CHECKPOINTS_DIR to another folder.",
            id="cvstudio.E006",
        )
        for folder in map(Path, folders)
        if not is_writable(folder)
    ]


@register("redis", deploy=True)
def check_redis(**kwargs: object) -> list[CheckMessage]:
    """Connect to Redis. Only with --deploy, since it waits for the network."""
    if not settings.REDIS_URL:
        return []
    import redis

    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S).ping()
    except redis.RedisError as error:
        return [
            Warning(
                f"Redis does not answer: {error}",
                hint="Start it, correct REDIS_URL, or leave REDIS_URL empty to use none.",
                id="cvstudio.W007",
            )
        ]
    return []


@register("files")
def check_sqlite_filesystem(**kwargs: object) -> list[CheckMessage]:
    """Warn about SQLite on a network drive, where its locks are unreliable."""
    mounts = [Mount(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    default = settings.DATABASES["default"]
    return sqlite_warnings(Database(ENGINE=str(default["ENGINE"]), NAME=str(default["NAME"])), mounts)


def sqlite_warnings(database: Database, mounts: Iterable[Mount]) -> list[CheckMessage]:
    """The warnings for one entry of DATABASES."""
    if "sqlite" not in database["ENGINE"]:
        return []
    path = Path(database["NAME"]).absolute()
    filesystem = filesystem_of(path, mounts)
    if filesystem not in NETWORK_FILESYSTEMS:
        return []
    return [
        Warning(
            f"The SQLite database {path} is on a network file system ({filesystem}).",
            hint="It may be damaged there. Put DATA_DIR on a local disk, or set DATABASE_URL to a PostgreSQL database.",
            id="cvstudio.W008",
        )
    ]


@register("capacity")
def check_capacity(**kwargs: object) -> list[CheckMessage]:
    """Warn about more trainers than cores."""
    cores = len(psutil.Process().cpu_affinity() or [])
    if max(cores, 2) >= settings.MAX_TRAINING_PROCESSES:
        return []
    return [
        Warning(
            f"MAX_TRAINING_PROCESSES is {settings.MAX_TRAINING_PROCESSES}, but this machine has {cores} cores.",
            hint="Runs will slow each other down. Lower it, unless each run trains on its own GPU.",
            id="cvstudio.W009",
        )
    ]


@register("database")
def check_pool(**kwargs: object) -> list[CheckMessage]:
    """Refuse to start with a pool of connections and without the package for it: no page could be served."""
    options = settings.DATABASES["default"].get("OPTIONS")
    if not isinstance(options, dict) or "pool" not in options or find_spec("psycopg_pool"):
        return []
    hint = "pip install 'cvstudio[prod]', or set DATABASE_POOL to 0."
    return [Error("DATABASE_POOL needs the package psycopg_pool.", hint=hint, id="cvstudio.E008")]


@register("network")
def check_cluster_interface(**kwargs: object) -> list[CheckMessage]:
    """Warn where runs on several hosts would leave this host out because of its setting."""
    if not settings.CLUSTER_INTERFACE or cluster_address():
        return []
    return [
        Warning(
            f"CLUSTER_INTERFACE: {settings.CLUSTER_INTERFACE} has no IPv4 address on this host.",
            hint=f"Name one of {', '.join(sorted(psutil.net_if_addrs()))}, or leave it empty.",
            id="cvstudio.W010",
        )
    ]
