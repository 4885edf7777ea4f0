"""What `pretrained: auto` of a configuration means for a run (no torch).

The first attempt decides it once, by what is in the cache or can be downloaded, and writes the decision into
RUN_DIR/pretrained.json; checkpoints hold the decided value in their configuration. Every later attempt keeps it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from trainingapp.contract.messages import Message
from trainingapp.contract.messages.published import (
    SCRATCH_LICENCE,
    SCRATCH_NONE_EXIST,
    SCRATCH_NOT_CACHED,
    SCRATCH_OFF,
    SCRATCH_START_FROM,
    WILL_ASK_LIBRARY,
    WILL_DOWNLOAD,
    WILL_DOWNLOAD_UNSIZED,
    WILL_START_FROM_SCRATCH,
    WILL_TAKE_BACKBONE,
    WILL_TAKE_WHOLE,
)
from trainingapp.contract.published_files import located
from trainingapp.contract.published_weights import KINDS, Kind, Mode, Published
from trainingapp.contract.storage.durable import write_durably

AUTO = "auto"
DECISION_FILE = "pretrained.json"

Decided = Literal["none", "backbone", "whole"]


@dataclass(frozen=True)
class Decision:
    """What a run starts from. `name`, `source` and `sha256` are those of the file; empty where none is loaded."""

    pretrained: Decided
    name: str = ""
    source: str = ""
    sha256: str = ""

    def as_data(self) -> dict[str, JsonValue]:
        return {name: value for name, value in asdict(self).items() if value}


def read_decision(run_dir: Path) -> Decision | None:
    """What an earlier attempt has decided; None where there was none."""
    try:
        values = json.loads((run_dir / DECISION_FILE).read_text(encoding="utf-8"))
        return Decision(**values)
    except (OSError, ValueError, TypeError):
        return None


def write_decision(run_dir: Path, decision: Decision) -> None:
    """Raises OSError."""
    write_durably(run_dir / DECISION_FILE, [json.dumps(decision.as_data()).encode()])


def settled_config(
    config: Mapping[str, JsonValue], environment: Mapping[str, JsonValue], field: str = "pretrained"
) -> dict[str, JsonValue]:
    """A stored configuration with what the run has decided, as its `environment` says, in place of auto."""
    found = environment.get(field)
    decided = found.get("pretrained", "none") if isinstance(found, dict) else "none"
    return {**config, field: decided} if config.get(field) == AUTO else dict(config)


def automatic(options: Mapping[Kind, Published]) -> dict[Kind, Published]:
    """Those that `auto` may take: a licence that excludes commercial use is for a person to accept, by name."""
    return {kind: published for kind, published in options.items() if published.allows_commercial_use}


def expected_kind(options: Mapping[Kind, Published], folder: Path, mode: Mode) -> Decided:
    """What a run would decide now, if all that it may download can be reached."""
    if mode == "off":
        return "none"
    options = automatic(options)
    return next(
        (kind for kind in KINDS if kind in options and (mode == "download" or located(options[kind], folder))), "none"
    )


def outlook(
    options: Mapping[Kind, Published], folder: Path, mode: Mode, *, model: str, is_listed: bool, starts_from: bool
) -> Message:
    """The same for people. `is_listed`: the studio knows the network; of others, the library is asked."""
    if starts_from:
        return SCRATCH_START_FROM()
    if mode == "off":
        return SCRATCH_OFF()
    kind = expected_kind(options, folder, mode)
    if kind == "none":
        if not is_listed:
            return WILL_ASK_LIBRARY(name=model)
        return WILL_START_FROM_SCRATCH() if automatic(options) else _none_reason(options, model)
    published = options[kind]
    if located(published, folder):
        return (WILL_TAKE_WHOLE if kind == "whole" else WILL_TAKE_BACKBONE)(name=published.name)
    if not published.megabytes:
        return WILL_DOWNLOAD_UNSIZED(host=published.host, name=published.name)
    size = f"{published.megabytes * 1_000_000 / 2**20:.0f} MB"  # as pages show sizes of files
    return WILL_DOWNLOAD(host=published.host, name=published.name, size=size)


def scratch_reason(options: Mapping[Kind, Published], mode: Mode, model: str) -> Message:
    """Why nothing is loaded where nothing was tried."""
    if mode == "off":
        return SCRATCH_OFF()
    return SCRATCH_NOT_CACHED() if automatic(options) else _none_reason(options, model)


def _none_reason(options: Mapping[Kind, Published], model: str) -> Message:
    """Why there is nothing that `auto` may take."""
    refused = next(iter(options.values()), None)
    return SCRATCH_LICENCE(name=refused.name, licence=refused.licence) if refused else SCRATCH_NONE_EXIST(name=model)
