"""What the trainer measures of the machine while it trains: a series of its own beside those of metrics (no torch).

The points of the split SYSTEM are stored as those of metrics are, and are read only where they are requested: they are
no results of the run. A measure that a machine does not have is absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SYSTEM = "system"
"""The split under which the points are stored."""

INTERVAL_S = 5
"""Seconds between two points."""


def _(message: str) -> str:
    return message


Unit = Literal["share", "bytes", "W", "s", "°C"]


@dataclass(frozen=True)
class Measure:
    """`chart` is the one of CHARTS that shows it. A share goes from 0 to 1.

    A run on several devices has the measures of each of its ranks, see `of_rank`.
    """

    label: str
    unit: Unit
    chart: str


CHARTS: dict[str, str] = {
    "utilization": _("Utilization"),
    "step_time": _("Time per step"),
    "gpu_memory": _("GPU memory"),
    "memory": _("Memory"),
    "power": _("Power"),
    "temperature": _("Temperature"),
}
"""The charts of the System tab with their titles, in their order."""

MEASURES: dict[str, Measure] = {
    "gpu_utilization": Measure(_("GPU"), "share", "utilization"),
    "cpu_utilization": Measure(_("CPU: trainer and loaders"), "share", "utilization"),
    "loader_wait_s": Measure(_("Waiting for the loader"), "s", "step_time"),
    "compute_s": Measure(_("Compute"), "s", "step_time"),
    "gpu_memory_bytes": Measure(_("GPU memory in use"), "bytes", "gpu_memory"),
    "process_memory_bytes": Measure(_("Trainer and loaders"), "bytes", "memory"),
    "machine_memory_bytes": Measure(_("Whole machine"), "bytes", "memory"),
    "gpu_power_w": Measure(_("GPU"), "W", "power"),
    "gpu_temperature_c": Measure(_("GPU"), "°C", "temperature"),
}
"""All measures by name. `cpu_utilization` is the share of the cores that the trainer may use; `loader_wait_s` and
`compute_s` are means of the steps since the point before; memory of processes is resident memory, in which pages that
processes share count once for each."""


def of_rank(rank: int, values: Mapping[str, float]) -> dict[str, float]:
    """The values under the names that those of a rank have: gpu_power_w.1 of rank 1, and gpu_power_w of rank 0."""
    return {f"{name}.{rank}" if rank else name: value for name, value in values.items()}


def measure_and_rank(name: str) -> tuple[str, int]:
    """The measure, and the rank whose device or process was measured."""
    measure, _dot, rank = name.partition(".")
    return measure, int(rank) if rank.isdecimal() else 0
