"""What limits the speed of a run, from what its trainer has measured lately: one sentence for people."""

from dataclasses import dataclass

import numpy as np
from django.utils.translation import gettext as _

from trainingapp.contract.series import Frame, joined
from trainingapp.contract.system_series import INTERVAL_S, SYSTEM
from trainingapp.models import SeriesChunk, TrainingRun
from trainingapp.presentation.numbers import percent
from trainingapp.runs.series import readable

#: Points that count, and chunks of the series that are read for them: the newest one may have just begun.
RECENT_POINTS = 300 // INTERVAL_S
CHUNKS_READ = 4
#: A GPU that is used so much is the bottleneck, whatever steps wait for: they are queued ahead of it.
BUSY_GPU = 0.9
#: Shares of a step spent waiting for images from which on that is the bottleneck: where other processes load beside the
#: device, there should be no wait; a trainer that loads itself always spends some time on it.
LONG_WAIT, LONG_LOADING = 0.15, 0.4


@dataclass(frozen=True)
class StepTime:
    """Means of the last minutes: seconds of a step that it waited for images, and otherwise; None: not measured."""

    wait_s: float
    compute_s: float
    gpu: float | None
    on_gpu: bool

    @property
    def wait_share(self) -> float:
        return self.wait_s / max(1e-9, self.wait_s + self.compute_s)


def step_time(run: TrainingRun) -> StepTime | None:
    """What steps took lately, in the newest attempt; None where nothing was measured."""
    chunks = SeriesChunk.objects.filter(run=run, superseded=False, split=SYSTEM).order_by("-first_seq")
    rows = list(chunks.values_list("pk", "data")[:CHUNKS_READ])
    frames = [frame for pk, data in reversed(rows) if (frame := readable(pk, data)) is not None]
    if not frames:
        return None
    frame = joined(frames)
    if not {"loader_wait_s", "compute_s"} <= frame.columns.keys():
        return None
    steps = frame.take((frame.attempt == frame.attempt[-1]) & ~np.isnan(frame.columns["compute_s"]))
    wait_s, compute_s = (_mean(steps, name) for name in ("loader_wait_s", "compute_s"))
    if wait_s is None or compute_s is None:
        return None
    return StepTime(wait_s, compute_s, _mean(steps, "gpu_utilization"), run.device.startswith("cuda"))


def _mean(frame: Frame, name: str) -> float | None:
    values = frame.columns.get(name, np.empty(0))[-RECENT_POINTS:]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def sentence(time: StepTime) -> str:
    """What limits the speed, and what helps."""
    facts = {"wait": percent(time.wait_share), "use": "" if time.gpu is None else percent(time.gpu)}
    if not time.on_gpu:
        if time.wait_share >= LONG_LOADING:
            text = _("Loading images is the bottleneck: it takes %(wait)s of the time of a step.")
        else:
            text = _("Computing on the CPU is the bottleneck: loading images takes %(wait)s of the time of a step.")
    elif time.wait_share >= LONG_WAIT and (time.gpu or 0.0) < BUSY_GPU:
        text = _(
            "Loading images is the bottleneck: the GPU waits for them during %(wait)s of a step. More data loader "
            "workers, faster JPEG decoding or augmentation on the device help."
        )
    elif time.gpu is None:
        text = _("Computing on the GPU is the bottleneck: steps wait for images during %(wait)s of their time.")
    elif time.gpu >= BUSY_GPU:
        text = _("The GPU is the bottleneck: it is busy %(use)s of the time.")
    else:
        text = _(
            "Neither images nor the GPU are the bottleneck: the GPU is busy %(use)s of the time, and steps wait for "
            "images during %(wait)s of theirs. A larger batch size usually helps."
        )
    return text % facts
