"""What the studio knows about a metric: its name for people, and which direction is better (no torch).

Each task lists its own metrics in its descriptor (`contract/tasks/`); `tasks.registry.METRICS` has all of them.
"""

from dataclasses import dataclass


def _(message: str) -> str:
    return message


@dataclass(frozen=True)
class Metric:
    """`is_share`: from 0 to 1, shown as a percentage."""

    label: str
    higher_is_better: bool = True
    is_share: bool = True


LOSS = Metric(_("Loss"), higher_is_better=False, is_share=False)
"""Every task reports it for training, most also for validation."""
