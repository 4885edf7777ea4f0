"""The result of a preflight check as lines for a page: what is fine, what to be aware of and what to change."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from trainingapp.contract.number_text import number_text
from trainingapp.presentation.messages import text_of
from trainingapp.presentation.times import duration


class Memory(TypedDict):
    """`batch_size` and `accumulation_steps` are what fits where the configuration does not, else None."""

    peak_bytes: int
    free_bytes: int
    fits: bool
    batch_size: int | None
    accumulation_steps: int | None


class Time(TypedDict):
    seconds_per_epoch: float
    seconds_in_all: float
    images_per_s: float


class Disk(TypedDict):
    bytes_per_checkpoint: int
    checkpoints: int
    bytes_in_all: int
    free_bytes: int
    short_by_bytes: int


class Loader(TypedDict):
    images_per_s: float
    is_slower: bool


class Finite(TypedDict):
    """Whether each is finite after a few steps; `loss_value` is None where the loss is not."""

    loss: bool
    gradients: bool
    weights: bool
    loss_value: float | None


class Result(TypedDict):
    """What is read of a result of engine/jobs/preflight.py. The `message` of a warning is message data, or a text of
    version 0.1."""

    device: str
    accumulation_steps: int
    memory: Memory
    time: Time
    disk: Disk
    loader: Loader
    finite: Finite
    warnings: list[dict[str, object]]


@dataclass(frozen=True)
class Line:
    level: Literal["good", "warning", "error"]
    title: str
    text: str


def preflight_lines(result: Result, devices: int = 1) -> list[Line]:
    """The lines of a result, the most important first, for a run on so many devices."""
    titles = {"precision": pgettext("of numbers", "Precision"), "determinism": _("Determinism")}
    warnings = [(titles[code], warning) for warning in result["warnings"] if (code := str(warning["code"])) in titles]
    return [
        _memory(result["memory"]),
        *_devices(result, devices),
        *_time(result["time"]),
        _disk(result["disk"]),
        _loader(result),
        _finite(result["finite"]),
        *(Line("warning", title, text_of(warning["message"])) for title, warning in warnings),
    ]


def _memory(memory: Memory) -> Line:
    title = _("Memory")
    if not memory["fits"]:
        text = _(
            "The batch does not fit into memory. Set the batch size to %(batch)d and the accumulation steps to "
            "%(steps)d: the result of the training is the same."
        )
        return Line("error", title, text % {"batch": memory["batch_size"], "steps": memory["accumulation_steps"]})
    sizes = {"peak": filesizeformat(memory["peak_bytes"]), "free": filesizeformat(memory["free_bytes"])}
    if memory["peak_bytes"] > memory["free_bytes"]:
        text = _("Needs %(peak)s; only %(free)s are free now. Wait until other work ends, or reduce the batch size.")
        return Line("warning", title, text % sizes)
    return Line("good", title, _("Needs at most %(peak)s; %(free)s are free.") % sizes)


def _devices(result: Result, devices: int) -> Iterator[Line]:
    """The check runs on one device: what its result means for all of them."""
    if devices < 2:
        return
    used = min(devices, result["accumulation_steps"])
    text = _(
        "The run needs %(devices)d devices at the same time; the memory is that of each. The other lines "
        "were measured on one: with %(used)d an epoch takes %(epoch)s or longer, because gradients have to be added."
    ) % {
        "devices": devices,
        "used": used,
        "epoch": duration(max(1, round(result["time"]["seconds_per_epoch"] / used))),
    }
    if used == devices:
        yield Line("good", _("Devices"), text)
        return
    more = _("Only as many devices can be used as an optimizer step has batches (accumulation_steps).")
    yield Line("warning", _("Devices"), f"{text} {more}")


def _time(time: Time) -> Iterator[Line]:
    epoch_s, total_s = time["seconds_per_epoch"], time["seconds_in_all"]
    text = _("About %(epoch)s per epoch and %(whole)s in total, at %(speed)d img/s.") % {
        "epoch": duration(max(1, round(epoch_s))),
        "whole": duration(max(1, round(total_s))),
        "speed": round(time["images_per_s"]),
    }
    limit_h = settings.SOFT_TIME_LIMIT_HOURS
    if 0 < limit_h * 3600 < total_s:
        more = _(
            "This exceeds the studio's time limit of %(hours)s hours: set a limit for this run, or resume it after the "
            "limit."
        )
        yield Line("warning", _("Time"), f"{text} {more % {'hours': number_text(limit_h)}}")
    else:
        yield Line("good", _("Time"), text)


def _disk(disk: Disk) -> Line:
    text = _(
        "%(each)s per checkpoint, %(whole)s for the %(count)d that are kept at the same time; %(free)s are free."
    ) % {
        "each": filesizeformat(disk["bytes_per_checkpoint"]),
        "whole": filesizeformat(disk["bytes_in_all"]),
        "free": filesizeformat(disk["free_bytes"]),
        "count": disk["checkpoints"],
    }
    if not disk["short_by_bytes"]:
        return Line("good", _("Disk"), text)
    more = _("%(short)s are missing: delete old runs, or keep fewer checkpoints.")
    return Line("error", _("Disk"), f"{text} {more % {'short': filesizeformat(disk['short_by_bytes'])}}")


def _loader(result: Result) -> Line:
    speeds = {"loads": round(result["loader"]["images_per_s"]), "takes": round(result["time"]["images_per_s"])}
    text = _("%(loads)d img/s can be loaded; training processes %(takes)d img/s.") % speeds
    if not result["loader"]["is_slower"]:
        return Line("good", _("Data loading"), text + " " + _("The device does not wait for images."))
    if result["device"] == "cpu":
        more = _("Data loading and training share the CPU; smaller images load faster.")
    else:
        more = _("The device waits for images: increase the number of loader processes.")
    return Line("warning", _("Data loading"), f"{text} {more}")


def _finite(finite: Finite) -> Line:
    checks = {
        _("the loss"): finite["loss"],
        _("the gradients"): finite["gradients"],
        _("the weights"): finite["weights"],
    }
    wrong = ", ".join(label for label, is_finite in checks.items() if not is_finite)
    if not wrong:
        text = _("Loss %(loss)s, gradients and weights are finite numbers after a few steps.")
        return Line("good", _("Numerical stability"), text % {"loss": number_text(finite["loss_value"] or 0.0)})
    text = _("Not finite after a few steps: %(what)s. Lower the learning rate or turn off mixed precision.")
    return Line("error", _("Numerical stability"), text % {"what": wrong})
