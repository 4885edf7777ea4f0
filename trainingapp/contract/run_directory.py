"""The files in RUN_DIR that a trainer reads before it starts (no torch)."""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.contract.errors import BadConfig, StillRunning, Superseded
from trainingapp.contract.messages import Message, MessageData, MessageError, from_data
from trainingapp.contract.messages.run_directory import (
    CONFIG_INVALID,
    DEVICE_INVALID,
    DEVICES_INVALID,
    FILE_NOT_READ,
    KEYS_MISSING,
    NO_ATTEMPT,
    NOT_JSON,
    START_FROM_MISSING,
)
from trainingapp.contract.messages.training import STILL_RUNNING, SUPERSEDED
from trainingapp.contract.published_weights import Mode

CONFIG_FILE = "config.json"
LOCK_FILE = "trainer.lock"
PREVIEW_FILE = "batch.webp"
TENSORBOARD_DIR = "tensorboard"
LOCK_WAIT_S = 15.0
#: Seconds that a trainer of an earlier attempt gets to save and exit, and those in which it notices then that another
#: attempt has the run.
EXIT_S, NOTICE_S = 5.0, 2.0
LOCK_POLL_S = 0.02
#: Stands behind the number of the attempt in the lock while the studio itself holds it, to delete files.
BY_STUDIO = "studio"
#: Where the ranks of one host meet.
LOOPBACK, LOOPBACK_INTERFACE = "127.0.0.1", "lo"
#: The exit status of a rank whose operation failed because another had ended: it is not the cause.
EXIT_PEER_LOST = 3


class RunConfigError(MessageError, ValueError):
    """RUN_DIR/config.json is not what the supervisor writes."""


@dataclass(frozen=True)
class Stored:
    """What the studio knows about a file that a run starts from: its English name and its SHA-256."""

    name: str
    sha256: str
    #: The name as message data; None in the config.json of version 0.1.
    label: MessageData | None = None

    @property
    def shown_name(self) -> Message | str:
        """The name as a parameter of a message."""
        return from_data(self.label) or self.name


@dataclass(frozen=True)
class RunSpec:
    """What one attempt is to do."""

    run_dir: Path
    config: RunConfig
    dataset_dir: Path
    weights_cache_dir: Path
    attempt: int
    #: The checkpoint that the configuration's `start_from` names.
    start_from: Path | None = None
    #: The checkpoint of another run that this one starts from, including optimizer and position.
    fork_from: Path | None = None
    #: The device that the studio assigned to this attempt, as torch names it; empty: that of the configuration.
    device: str = ""
    #: By which the driver knows that device ("GPU-...", "MIG-..."); empty for the CPU.
    device_uuid: str = ""
    #: All devices that train the run together, one for each rank; `device` is the first of them. Empty: `device` alone.
    devices: tuple[str, ...] = ()
    #: As `device_uuid`, for each of `devices`.
    device_uuids: tuple[str, ...] = ()
    #: The host of each of `devices`, where they are on several; the trainer runs on the first. Empty: all are on one.
    hosts: tuple[str, ...] = ()
    #: Where rank 0 listens for the other ranks: an address of its host, and the network interface that has it.
    address: str = LOOPBACK
    interface: str = LOOPBACK_INTERFACE
    #: About the files at `start_from` and `fork_from`; None: the file is used without a check of its hash.
    start_from_stored: Stored | None = None
    fork_from_stored: Stored | None = None
    #: Whether published weights are downloaded.
    published_weights: Mode = "download"

    def is_elsewhere(self, rank: int) -> bool:
        """Whether the process of this rank runs on another host than the trainer."""
        return bool(self.hosts) and self.hosts[rank] != self.hosts[0]


def read_config_file(run_dir: Path) -> dict[str, Any]:
    """The JSON object in RUN_DIR/config.json. Raises RunConfigError where there is none."""
    path = run_dir / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunConfigError(FILE_NOT_READ(path=str(path), reason=str(error.strerror))) from None
    except ValueError as error:
        raise RunConfigError(NOT_JSON(path=str(path), error=str(error))) from None
    if not isinstance(values, dict) or type(values.get("attempt")) is not int:
        raise RunConfigError(NO_ATTEMPT(path=str(path)))
    return values


def read_run_spec(run_dir: Path, values: dict[str, Any]) -> RunSpec:
    """Check what `read_config_file` gave. Raises BadConfig, which names every wrong field."""
    missing = [key for key in ("config", "dataset_dir") if key not in values]
    if missing:
        raise BadConfig(KEYS_MISSING(path=str(run_dir / CONFIG_FILE), names=missing))
    try:
        config = parse_config(values["config"])
    except ValidationError as error:
        fields = [f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg']}" for item in error.errors()]
        raise BadConfig(CONFIG_INVALID(problems="; ".join(fields))) from None
    weights_cache_dir = Path(values.get("weights_cache_dir") or run_dir / "torch")
    start_from = Path(values["start_from"]) if values.get("start_from") else None
    if config.start_from and start_from is None:
        raise BadConfig(START_FROM_MISSING(path=str(run_dir / CONFIG_FILE), file=config.start_from))
    fork_from = Path(values["fork_from"]) if values.get("fork_from") else None
    devices, uuids = _assigned_devices(run_dir, values)
    dataset_dir = Path(values["dataset_dir"])
    stored = {name: Stored(**values[name]) for name in ("start_from_stored", "fork_from_stored") if values.get(name)}
    return RunSpec(
        run_dir,
        config,
        dataset_dir,
        weights_cache_dir,
        values["attempt"],
        start_from,
        fork_from,
        devices[0] if devices else "",
        uuids[0] if uuids else "",
        devices,
        uuids,
        tuple(values.get("hosts") or ()),
        values.get("address") or LOOPBACK,
        values.get("interface") or LOOPBACK_INTERFACE,
        **stored,
        published_weights=values.get("published_weights") or "download",
    )


def _assigned_devices(run_dir: Path, values: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The devices of the attempt and their UUIDs: the lists, or the one device that an attempt without lists has.

    Raises BadConfig for names that are not of devices, for CPU slots beside GPUs, and for a GPU that is there twice on
    one host.
    """
    one, one_uuid = values.get("device", ""), values.get("device_uuid", "")
    devices = values.get("devices") or ([one] if one else [])
    uuids = values.get("device_uuids") or ([str(one_uuid)] if devices and one_uuid else [])
    path = str(run_dir / CONFIG_FILE)
    if not isinstance(devices, list) or not isinstance(uuids, list):
        raise BadConfig(DEVICE_INVALID(path=path, device=repr(devices)))
    for device in devices:
        if not re.fullmatch(r"cpu|cuda:\d+", str(device)):
            raise BadConfig(DEVICE_INVALID(path=path, device=repr(device)))
    hosts = values.get("hosts") or [""] * len(devices)
    is_mixed = "cpu" in devices and set(devices) != {"cpu"}
    gpus = [place for place in zip(hosts, devices, strict=False) if place[1] != "cpu"]
    is_unequal = len(hosts) != len(devices) or (uuids and len(uuids) != len(devices))
    if is_mixed or len(set(gpus)) < len(gpus) or is_unequal:
        raise BadConfig(DEVICES_INVALID(path=path, devices=devices))
    return tuple(devices), tuple(map(str, uuids))


def check_attempt(run_dir: Path, attempt: int) -> None:
    """Raise Superseded when a later attempt has started: this trainer's host was given up, but the trainer still runs.

    It may have been stopped for any time (SIGSTOP, a suspended machine, a disk that did not respond), and holds a lock
    that does not count any longer. Before each event and each checkpoint this is what keeps two trainers apart.
    """
    present, _by_studio = _lock_record(run_dir / LOCK_FILE)
    if present > attempt:
        raise Superseded(SUPERSEDED(present=present, attempt=attempt))


def check_config(run_dir: Path, attempt: int) -> None:
    """Raise Superseded when RUN_DIR/config.json is already that of a later attempt.

    For a trainer that was stopped before it had the lock, which it finds free.
    """
    present = read_config_file(run_dir)["attempt"]
    if present > attempt:
        raise Superseded(SUPERSEDED(present=present, attempt=attempt))


@contextmanager
def run_lock(
    run_dir: Path, attempt: int, wait_s: float = LOCK_WAIT_S, *, exit_s: float = EXIT_S, by_studio: bool = False
) -> Iterator[int]:
    """Hold RUN_DIR/trainer.lock, so that no two trainers write to one run; yields its file descriptor.

    The number of the attempt is written into it.

    Waits for a trainer that is just exiting. One of an earlier attempt, which the studio has given up, does not keep
    the lock: it gets `exit_s` to exit, then the number of this attempt is written, and after NOTICE_S the file is
    replaced. Such a trainer hangs, is stopped, or is on a host that does not know that the run has gone on elsewhere;
    whatever it does when it continues, `check_attempt` ends it. Raises StillRunning where the lock is held by a trainer
    of the same attempt or by the studio, after `wait_s`.

    `by_studio`: held to delete files, by a process that does not compare attempts. It takes the lock from nobody, and
    nobody takes it away.
    """
    with _locked(run_dir / LOCK_FILE, attempt, wait_s, exit_s, by_studio=by_studio) as file:
        _write_record(file, attempt, by_studio=by_studio)
        yield file.fileno()


def _locked(path: Path, attempt: int, wait_s: float, exit_s: float, *, by_studio: bool) -> IO[bytes]:
    """The open file under its lock. Raises StillRunning."""
    file, began = _opened(path), time.monotonic()
    announced_at: float | None = None
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
            file.close()  # the lock of a file that another has replaced meanwhile
            file = _opened(path)
            continue
        now = time.monotonic()
        holder, is_studio = _lock_record(path)
        may_overtake = not by_studio and not is_studio and holder < attempt
        if may_overtake and announced_at is None and now - began >= min(exit_s, wait_s):
            announced_at = now
            _write_record(file, attempt, by_studio=False)
        elif announced_at is not None and now - announced_at >= NOTICE_S:
            file.close()
            return _replaced(path, attempt)
        elif announced_at is None and now - began > wait_s:
            file.close()
            raise StillRunning(STILL_RUNNING(path=str(path)))
        time.sleep(LOCK_POLL_S)


def _opened(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _replaced(path: Path, attempt: int) -> IO[bytes]:
    """A new file of this name, under its lock: that of the old one stays with whoever has it open."""
    temporary = path.with_name(f"{path.name}.{attempt}.tmp")
    file = _opened(temporary)
    fcntl.flock(file, fcntl.LOCK_EX)
    _write_record(file, attempt, by_studio=False)
    temporary.replace(path)
    return file


def _write_record(file: IO[bytes], attempt: int, *, by_studio: bool) -> None:
    """Written over what is there, so that no reader finds the file empty: numbers of attempts only grow."""
    record = f"{attempt} {BY_STUDIO}" if by_studio else str(attempt)
    os.pwrite(file.fileno(), record.encode(), 0)
    os.ftruncate(file.fileno(), len(record))


def _lock_record(path: Path) -> tuple[int, bool]:
    """The attempt that is written in the lock, 0 where there is none, and whether the studio itself wrote it."""
    try:
        words = path.read_text().split()
    except (FileNotFoundError, UnicodeDecodeError):
        return 0, False
    return int(words[0]) if words and words[0].isdecimal() else 0, BY_STUDIO in words[1:]
