"""What a look ahead has found, as sentences: what is well, what to mind and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import template
from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from trainingapp.contract.number_text import number_text
from trainingapp.presentation.sentences import in_readers_language
from trainingapp.templatetags.studio import duration

register = template.Library()


@dataclass(frozen=True)
class Line:
    """`level` is good, warning or error."""

    level: str
    title: str
    text: str


@register.simple_tag
def preflight_lines(result: dict[str, Any]) -> list[Line]:
    """The lines of a result as engine/jobs/preflight.py describes it, in the order of their weight for a person."""
    said = [warning["message"] for warning in result["warnings"] if warning["code"] == "precision"]
    return [
        _memory(result),
        *_time(result["time"]),
        _disk(result["disk"]),
        _loader(result),
        _finite(result["finite"]),
        *(Line("warning", pgettext("of numbers", "Precision"), in_readers_language(message)) for message in said),
    ]


def _memory(result: dict[str, Any]) -> Line:
    memory, title = result["memory"], _("Memory")
    sizes = {"peak": filesizeformat(memory["peak_bytes"]), "free": filesizeformat(memory["free_bytes"])}
    if not memory["fits"]:
        text = _(
            "The batch does not fit. Set the batch size to %(batch)d and accumulation to %(steps)d: it learns the same."
        )
        return Line("error", title, text % {"batch": memory["batch_size"], "steps": memory["accumulation_steps"]})
    if memory["peak_bytes"] > memory["free_bytes"]:
        text = _("Takes %(peak)s; only %(free)s are free now. Wait for other work to end, or take a smaller batch.")
        return Line("warning", title, text % sizes)
    return Line("good", title, _("Takes %(peak)s at most; %(free)s are free.") % sizes)


def _time(spent: dict[str, float]) -> Iterator[Line]:
    text = _("About %(epoch)s an epoch and %(whole)s in all, at %(speed)d img/s.")
    epoch, whole = spent["seconds_per_epoch"], spent["seconds_in_all"]
    values = {"epoch": duration(max(1, round(epoch))), "whole": duration(max(1, round(whole)))}
    told = text % {**values, "speed": round(spent["images_per_s"])}
    limit_h = settings.SOFT_TIME_LIMIT_HOURS
    if 0 < limit_h * 3600 < whole:
        more = _(
            "That is beyond the studio's time limit of %(hours)s hours: give it one of its own, or resume it then."
        )
        yield Line("warning", _("Time"), f"{told} {more % {'hours': number_text(limit_h)}}")
    else:
        yield Line("good", _("Time"), told)


def _disk(disk: dict[str, int]) -> Line:
    text = _("%(each)s a checkpoint, %(whole)s for the %(count)d that are kept at once; %(free)s are free.")
    names = {"each": "bytes_per_checkpoint", "whole": "bytes_in_all", "free": "free_bytes"}
    sizes = {name: filesizeformat(disk[key]) for name, key in names.items()}
    told = text % {**sizes, "count": disk["checkpoints"]}
    if not disk["short_by_bytes"]:
        return Line("good", _("Disk"), told)
    more = _("It falls short by %(short)s: delete old runs, or keep fewer checkpoints.")
    return Line("error", _("Disk"), f"{told} {more % {'short': filesizeformat(disk['short_by_bytes'])}}")


def _loader(result: dict[str, Any]) -> Line:
    speeds = {"loads": round(result["loader"]["images_per_s"]), "takes": round(result["time"]["images_per_s"])}
    told = _("%(loads)d img/s can be loaded, training takes %(takes)d.") % speeds
    if not result["loader"]["is_slower"]:
        return Line("good", _("Loading"), told + " " + _("The device does not wait for images."))
    if result["device"] == "cpu":
        more = _("Loading and training share the processor; smaller images load faster.")
    else:
        more = _("The device waits for images: give the run more loader processes.")
    return Line("warning", _("Loading"), f"{told} {more}")


def _finite(finite: dict[str, Any]) -> Line:
    if finite["loss"] and finite["gradients"] and finite["weights"]:
        text = _("Loss %(loss)s, gradients and weights are finite numbers after a few steps.")
        return Line("good", _("Numbers"), text % {"loss": number_text(finite["loss_value"])})
    names = {"loss": _("the loss"), "gradients": _("the gradients"), "weights": _("the weights")}
    wrong = ", ".join(label for name, label in names.items() if not finite[name])
    text = _("Not finite after a few steps: %(what)s. Lower the learning rate or turn off mixed precision.")
    return Line("error", _("Numbers"), text % {"what": wrong})
