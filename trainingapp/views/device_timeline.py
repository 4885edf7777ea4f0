"""The last day of a device: where the bar of each hold goes. Positions are strings, so that they are not localized."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from trainingapp.models import DeviceHold, TrainingRun

HOURS = 24
WIDTH = 960
LANE, GAP = 20, 4
#: A hold of seconds is still to be seen.
LEAST_WIDTH = 3.0
COLOURS = 4


@dataclass(frozen=True)
class Bar:
    """One hold: `end` is None while it lasts."""

    hold: DeviceHold
    start: datetime
    end: datetime | None
    seconds: float
    x: str
    y: str
    width: str
    height: str
    colour: int

    @property
    def run(self) -> TrainingRun | None:
        """The run, where it is still there and may be seen."""
        return self.hold.run if getattr(self.hold, "is_seen", True) else None

    @property
    def others(self) -> str:
        """The further devices of the run, by their names."""
        return getattr(self.hold, "others", "")

    @property
    def name(self) -> str:
        """The name of the run for the reader."""
        if getattr(self.hold, "is_seen", True):
            return self.hold.run_name
        return _("A private run") if self.hold.run_id else _("A deleted run")


@dataclass(frozen=True)
class Timeline:
    bars: list[Bar]
    view_box: str
    #: Vertical lines, one each six hours.
    lines: list[str]
    height: str
    lanes: int


def timeline(holds: Iterable[DeviceHold], now: datetime) -> Timeline:
    """Bars of the holds since HOURS ago, those that overlap below each other."""
    since = now - timedelta(hours=HOURS)
    ordered = sorted(holds, key=lambda hold: (hold.taken_at, hold.pk))
    shown = [hold for hold in ordered if hold.released_at is None or hold.released_at > since]
    ends: list[datetime] = []
    bars = []
    for hold in shown:
        start, end = max(hold.taken_at, since), hold.released_at or now
        lane = next((number for number, busy in enumerate(ends) if busy <= start), len(ends))
        ends[lane : lane + 1] = [end]
        bars.append(_bar(hold, lane, start, end, since))
    height = max(1, len(ends)) * (LANE + GAP) - GAP
    lines = [str(WIDTH * quarter // 4) for quarter in (1, 2, 3)]
    return Timeline(bars, f"0 0 {WIDTH} {height}", lines, str(height), max(1, len(ends)))


def _bar(hold: DeviceHold, lane: int, start: datetime, end: datetime, since: datetime) -> Bar:
    per_second = WIDTH / timedelta(hours=HOURS).total_seconds()
    x = (start - since).total_seconds() * per_second
    width = max(LEAST_WIDTH, (end - start).total_seconds() * per_second)
    return Bar(
        hold=hold,
        start=hold.taken_at,
        end=hold.released_at,
        seconds=(end - hold.taken_at).total_seconds(),
        x=f"{min(x, WIDTH - width):.1f}",
        y=str(lane * (LANE + GAP)),
        width=f"{width:.1f}",
        height=str(LANE),
        colour=(hold.run_id or 0) % COLOURS + 1,
    )
