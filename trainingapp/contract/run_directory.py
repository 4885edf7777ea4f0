"""The files in RUN_DIR that a trainer reads before it starts (no torch)."""

import fcntl
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    Between hosts whose shared disk has no locks, only the number in the lock file keeps two trainers apart.
    """
    text = (run_dir / LOCK_FILE).read_text() if (run_dir / LOCK_FILE).exists() else ""
    present = int(text) if text.isdecimal() else 0
    if present > attempt:
        raise Superseded(SUPERSEDED(present=present, attempt=attempt))


@contextmanager
def run_lock(run_dir: Path, attempt: int, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
    """Hold RUN_DIR/trainer.lock, so that no two trainers write to one run; yields its file descriptor.

    The number of the attempt is written into it.

    Waits for a trainer that is just exiting. Raises StillRunning when it does not.
    """
    with (run_dir / LOCK_FILE).open("a") as file:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StillRunning(STILL_RUNNING(path=str(run_dir / LOCK_FILE))) from None
                time.sleep(0.02)
        file.truncate(0)
        file.write(str(attempt))
        file.flush()
        yield file.fileno()
