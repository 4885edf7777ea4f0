"""What a run starts from: the decision that `pretrained` of its configuration stands for."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.events import EventLog
from trainingapp.contract.messages.published import (
    CACHED_NOT_USED,
    DOWNLOADING,
    OTHER_THAN_DECIDED,
    PUBLISHED_ELSEWHERE,
    RANDOM_FROZEN,
    SCRATCH_START_FROM,
    SCRATCH_UNREACHABLE,
    STARTS_FROM_BACKBONE,
    STARTS_FROM_WHOLE,
)
from trainingapp.contract.pretrained import (
    AUTO,
    Decided,
    Decision,
    automatic,
    expected_kind,
    read_decision,
    scratch_reason,
    write_decision,
)
from trainingapp.contract.published_files import (
    QUICK_RESPONSE_S,
    NotPublished,
    Unreachable,
    checked,
    downloaded,
    located,
    stored_hash,
)
from trainingapp.contract.published_weights import KINDS, Kind, Published
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.storage.durable import sha256_of
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.published import obtained
from trainingapp.engine.tasks.registry import implementation

SHOWN_HASH = 12
NO_VALUE = "–"

logger = logging.getLogger("trainingapp.engine")


def options_of(spec: RunSpec) -> Mapping[Kind, Published]:
    """The published weights that the network of the run can start from."""
    task, model = spec.config.task, spec.config.model
    return TASKS[task].published(model) or implementation(task).published(model)


def with_pretrained(spec: RunSpec, value: str) -> RunSpec:
    """The same run with this value of `pretrained`."""
    return replace(spec, config=spec.config.model_copy(update={"pretrained": value}))


def expected(spec: RunSpec) -> RunSpec:
    """The run with what `pretrained: auto` is likely to become, for a measurement that loads no weights."""
    if getattr(spec.config, "pretrained", "") != AUTO:
        return spec
    is_given = bool(spec.config.start_from)
    kind = "none" if is_given else expected_kind(options_of(spec), spec.weights_cache_dir, spec.published_weights)
    return with_pretrained(spec, kind)


def decide(spec: RunSpec, found: Found | None, events: EventLog) -> tuple[RunSpec, Decision | None]:
    """The run with what its `pretrained` means, and the decision; None where no published weights are wanted.

    `auto` is decided by the first attempt alone: a run that continues, from its own checkpoint or from that of another
    run, keeps the value there. Raises WeightsUnavailable where weights are required and cannot be obtained.
    """
    choice = str(getattr(spec.config, "pretrained", "none"))
    if choice == "none":
        return spec, None
    earlier = read_decision(spec.run_dir)
    if found is not None:
        value = _value_in(found) if choice == AUTO else cast(Decided, choice)
        decision = earlier if earlier and earlier.pretrained == value else Decision(value)
    elif choice != AUTO:
        decision = _required(spec, cast(Kind, choice))
    elif earlier is not None:
        decision = _kept(spec, earlier)
    else:
        decision = _automatic(spec, events)
        if decision.pretrained == "none" and spec.config.freeze == "backbone" and not spec.config.start_from:
            events.log(RANDOM_FROZEN(), "warning")
    if decision != earlier:
        write_decision(spec.run_dir, decision)
    return with_pretrained(spec, decision.pretrained), decision


def _value_in(found: Found) -> Decided:
    """What the checkpoint was trained with: its configuration holds the decided value."""
    value = found.content["config"].get("pretrained", "none")
    if isinstance(value, bool):  # a switch of classification, in earlier versions
        return "backbone" if value else "none"
    return cast(Decided, value) if value in KINDS else "none"


def _required(spec: RunSpec, kind: Kind, sha256: str = "") -> Decision:
    """The weights that the configuration names. Where there are none, building the network says so."""
    published = options_of(spec).get(kind)
    if published is None:
        return Decision(kind)
    if sha256:
        published = published.with_hash(sha256)
    path = located(published, spec.weights_cache_dir)
    if path is None and spec.published_weights != "download":
        raise WeightsUnavailable(PUBLISHED_ELSEWHERE(name=published.name))
    path = path or obtained(published, spec.weights_cache_dir)
    if sha256 and sha256_of(path) != sha256:
        raise WeightsUnavailable(CACHED_NOT_USED(path=str(path), damage=OTHER_THAN_DECIDED()))
    return Decision(kind, published.name, published.url, stored_hash(path) or sha256_of(path))


def _kept(spec: RunSpec, earlier: Decision) -> Decision:
    """The decision of an attempt that ended before its first checkpoint: the same file is required."""
    if earlier.pretrained != "none":
        _required(spec, earlier.pretrained, earlier.sha256)
    return earlier


def _automatic(spec: RunSpec, events: EventLog) -> Decision:
    """The best weights that are in the cache or can be downloaded now; says which, or why there are none."""
    if spec.config.start_from:
        events.log(SCRATCH_START_FROM())
        return Decision("none")
    all_options, mode = options_of(spec), spec.published_weights
    options = automatic(all_options)
    unreachable: list[str] = []
    for kind in KINDS if mode != "off" else ():
        published = options.get(kind)
        if published is None:
            continue
        sha256 = _cached(published, spec, events)
        if not sha256 and mode == "download" and published.host not in unreachable:
            sha256 = _downloaded(published, spec, events)
            if not sha256:
                unreachable.append(published.host)
        if sha256:
            starts_from = STARTS_FROM_WHOLE if kind == "whole" else STARTS_FROM_BACKBONE
            licence = published.licence or NO_VALUE
            events.log(starts_from(name=published.name, licence=licence, sha256=sha256[:SHOWN_HASH]))
            return Decision(kind, published.name, published.url, sha256)
    if unreachable:
        events.log(SCRATCH_UNREACHABLE(host=unreachable[0]))
    else:
        events.log(scratch_reason(all_options, mode, spec.config.model))
    return Decision("none")


def _cached(published: Published, spec: RunSpec, events: EventLog) -> str:
    """The hash of the intact file in the cache; empty where there is none."""
    path = located(published, spec.weights_cache_dir)
    if path is None:
        return ""
    try:
        return checked(published, path)
    except NotPublished as error:
        events.log(CACHED_NOT_USED(path=str(path), damage=error.message), "warning")
    except OSError as error:
        events.log(CACHED_NOT_USED(path=str(path), damage=str(error)), "warning")
    return ""


def _downloaded(published: Published, spec: RunSpec, events: EventLog) -> str:
    """The hash of the file, downloaded now; empty where that fails, which must not take long."""
    events.log(DOWNLOADING(name=published.name, host=published.host))
    events.flush()
    try:
        return stored_hash(downloaded(published, spec.weights_cache_dir, response_s=QUICK_RESPONSE_S))
    except NotPublished as error:
        events.log(error.message, "warning")
    except Unreachable as error:
        logger.warning("%s", error)
    return ""
