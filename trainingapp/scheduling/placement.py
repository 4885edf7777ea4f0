"""What a run asks for, and where it fits.

The scheduler claims by these rules, the pages explain by them and the forecast plays them through: they are written
once, here. Nothing in this module writes to the database.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet

from trainingapp.models import Device, DeviceHold, Host, TrainingRun
from trainingapp.models.run import Status, is_put_off

GB = 1 << 30
#: Share of a GPU's memory that other programs (a desktop, say) may have before it counts as taken by them.
FOREIGN_SHARE = 0.1
#: Queued runs that are read at once.
PAGE = 20
#: The order of the queue: what is claimed first stands first.
QUEUE_ORDER = ("-priority", "queue_rank", "queued_at", "id")


@dataclass(frozen=True)
class Request:
    """What a run asks for: `kind` is auto, cpu or gpu; `index` names one GPU; `slots` are those of a processor."""

    kind: str = "auto"
    index: int | None = None
    slots: int = 1
    memory_bytes: int = 0
    is_sharing: bool = False

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Request":
        """The wish of a stored configuration; one that is older than a field asks for its default."""
        device = str(config.get("device", "auto"))
        index = device.partition(":")[2]
        return cls(
            kind={"auto": "auto", "cpu": "cpu"}.get(device, "gpu"),
            index=int(index) if index else None,
            slots=int(config.get("device_count", 1)),
            memory_bytes=round(float(config.get("min_free_memory_gb", 0)) * GB),
            is_sharing=bool(config.get("share_device", False)),
        )


@dataclass
class Waiting:
    """A queued run."""

    pk: int
    name: str
    owner_id: int
    request: Request
    not_before: datetime | None = None


@dataclass
class Held:
    """A run on a device."""

    run_id: int
    name: str
    slots: int = 1
    memory_bytes: int = 0
    is_shared: bool = False


@dataclass
class Place:
    """A device as the scheduler sees it: `capacity` counts the slots of a processor and is 1 for a GPU."""

    device_id: int
    host: str
    kind: str
    index: int
    capacity: int
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    foreign_bytes: int = 0
    is_shareable: bool = True
    holds: list[Held] = field(default_factory=list)
    #: Slots that are kept free for a run that is ahead in the queue, and that run.
    kept: int = 0
    kept_for: Waiting | None = None

    @property
    def torch_name(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"

    @property
    def taken(self) -> int:
        return sum(hold.slots for hold in self.holds)

    @property
    def available_bytes(self) -> int:
        """Memory for one more run: what is free, less what the runs that are here may still take."""
        reserved = sum(hold.memory_bytes for hold in self.holds)
        return min(self.memory_free_bytes, self.memory_bytes - self.foreign_bytes - reserved)

    @property
    def emptied_bytes(self) -> int:
        """Memory for a run once those that are here have left."""
        return self.memory_bytes - self.foreign_bytes if self.holds else self.available_bytes


@dataclass(frozen=True)
class Obstacle:
    """Why a run does not fit on a place now: host_full, held, kept, foreign or memory."""

    why: str
    place: Place
    missing_bytes: int = 0


@dataclass
class Machine:
    """A host: at most `slots` runs train on it."""

    name: str
    slots: int
    is_away: bool
    places: list[Place] = field(default_factory=list)

    @property
    def run_count(self) -> int:
        return len({hold.run_id for place in self.places for hold in place.holds})

    def suited(self, request: Request) -> list[Place]:
        """The devices that the request could be given if all were free. Where there are GPUs, auto means one."""
        kind = request.kind
        if kind == "auto":
            kind = "gpu" if any(place.kind == "gpu" for place in self.places) else "cpu"
        right = (place for place in self.places if place.kind == kind and request.index in (None, place.index))
        return [place for place in right if place.capacity >= request.slots and _is_large_enough(place, request)]

    def obstacle(self, place: Place, request: Request, run_id: int = 0) -> Obstacle | None:
        """What keeps the run from this place of the machine; None where it fits. What is kept for itself is no bar."""
        kept = 0 if place.kept_for and place.kept_for.pk == run_id else place.kept
        if place.kind == "gpu" and place.holds:
            agreed = request.is_sharing and place.is_shareable and all(hold.is_shared for hold in place.holds)
            if not agreed:
                return Obstacle("held", place)
            if kept:
                return Obstacle("kept", place)
        elif place.capacity - place.taken < request.slots:
            return Obstacle("held", place)
        elif place.capacity - place.taken - kept < request.slots:
            return Obstacle("kept", place)
        lack = _lack_of_memory(place, request, place.available_bytes)
        return lack or (Obstacle("host_full", place) if self.run_count >= self.slots else None)


def _is_large_enough(place: Place, request: Request) -> bool:
    return not place.memory_bytes or place.memory_bytes >= request.memory_bytes


def _lack_of_memory(place: Place, request: Request, free_bytes: int) -> Obstacle | None:
    """Who names no minimum takes a GPU only when other programs leave it mostly alone."""
    if request.memory_bytes:
        missing = request.memory_bytes - free_bytes
        return Obstacle("memory", place, missing) if missing > 0 else None
    is_used = place.kind == "gpu" and place.foreign_bytes > place.memory_bytes * FOREIGN_SHARE
    return Obstacle("foreign", place) if is_used else None


@dataclass
class Board:
    """All machines with what is held on them, and how many runs of each person are running."""

    machines: list[Machine] = field(default_factory=list)
    running_of: dict[int, int] = field(default_factory=dict)
    #: Runs of one person that may run at once; 0 for no limit.
    most_per_user: int = 0

    @property
    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines if not machine.is_away]

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing more can start, whoever asks."""
        return all(
            machine.run_count >= machine.slots or all(_is_exhausted(place) for place in machine.places)
            for machine in self.alive
        )

    def suited(self, request: Request) -> list[tuple[Machine, Place]]:
        return [(machine, place) for machine in self.alive for place in machine.suited(request)]

    def is_over_limit(self, owner_id: int) -> bool:
        return bool(self.most_per_user) and self.running_of.get(owner_id, 0) >= self.most_per_user

    def fit(self, request: Request, host: str = "") -> Place | None:
        """The best place that the run fits on now, on `host` where it can be."""
        fitting = [place for machine, place in self.suited(request) if machine.obstacle(place, request) is None]
        return min(fitting, key=lambda place: _preference(place, request, host), default=None)

    def take(self, run: Waiting, place: Place) -> None:
        request = run.request
        is_shared = request.is_sharing and place.kind == "gpu"
        place.holds.append(Held(run.pk, run.name, request.slots, request.memory_bytes, is_shared))
        self.running_of[run.owner_id] = self.running_of.get(run.owner_id, 0) + 1

    def keep(self, run: Waiting) -> None:
        """Keep free what the run waits for: on one place, the one that has the least to give back.

        Nothing is kept where only other programs are in the way: the studio cannot tell when those end.
        """
        waited_for = [
            place
            for _machine, place in self.suited(run.request)
            if not place.kept and _lack_of_memory(place, run.request, place.emptied_bytes) is None
        ]
        place = min(waited_for, key=lambda place: (place.taken, place.host, place.index), default=None)
        if place is not None:
            place.kept, place.kept_for = (run.request.slots if place.kind == "cpu" else 1), run

    def forget_kept(self) -> None:
        for machine in self.machines:
            for place in machine.places:
                place.kept, place.kept_for = 0, None

    def release(self, run_id: int, owner_id: int) -> None:
        """Take the run off its place; its memory is free then, whatever the last reading says."""
        for machine in self.machines:
            for place in machine.places:
                left = [hold for hold in place.holds if hold.run_id != run_id]
                if place.holds and not left:
                    place.memory_free_bytes = place.emptied_bytes
                place.holds = left
        self.running_of[owner_id] = max(0, self.running_of.get(owner_id, 0) - 1)


def _is_exhausted(place: Place) -> bool:
    is_joinable = place.kind == "gpu" and place.is_shareable and all(hold.is_shared for hold in place.holds)
    return place.taken >= place.capacity and not is_joinable


def _preference(place: Place, request: Request, host: str) -> tuple[Any, ...]:
    """Own host first; who shares joins others, so that whole GPUs stay free; then the most free memory."""
    joins = request.is_sharing and bool(place.holds)
    return (place.host != host, not joins, -place.available_bytes, place.host, place.index)


def in_turn(
    board: Board, queue: Iterable[Waiting], now: datetime, host: str = ""
) -> Iterator[tuple[Waiting, Place | None]]:
    """Go through the queue: each run with the place that it can start on now, or None.

    The one rule against starvation: a run that does not fit has what it waits for kept free, and those after it get
    what is left. They may pass it on other devices only.
    """
    board.forget_kept()
    for run in queue:
        place = None
        if not is_put_off(run.not_before, now) and not board.is_over_limit(run.owner_id):
            place = board.fit(run.request, host)
            if place is None:
                board.keep(run)
            else:
                board.take(run, place)
        yield run, place


def queued_runs() -> QuerySet[TrainingRun]:
    """The queue in its order."""
    return TrainingRun.objects.filter(status=Status.QUEUED).order_by(*QUEUE_ORDER)


def read_queue(most: int | None = None) -> Iterator[Waiting]:
    """The queued runs in their order, a page at a time, so that who needs only the first reads only those."""
    rows = queued_runs().values_list("pk", "name", "owner_id", "config", "not_before")
    start = 0
    while page := list(rows[start : start + (PAGE if most is None else min(PAGE, most - start))]):
        for pk, name, owner_id, config, not_before in page:
            yield Waiting(pk, name, owner_id, Request.of(config), not_before)
        start += len(page)
        if most is not None and start >= most:
            return


def read_board() -> Board:
    """The machines as they stand. A hold counts as long as its run is running.

    A host that reports for the first time meanwhile is left out with its devices: it is there at the next look.
    """
    machines = {host.pk: Machine(host.name, host.slots, host.is_away) for host in Host.objects.all()}
    places: dict[int, Place] = {}
    for device in Device.objects.filter(is_present=True, host_id__in=machines).order_by("kind", "index"):
        machine = machines[device.host_id]
        places[device.pk] = _place(machine, device)
        machine.places.append(places[device.pk])
    for hold in open_holds().filter(device_id__in=places).order_by("taken_at", "pk"):
        held = Held(hold.run_id or 0, hold.run_name, hold.slots, hold.memory_bytes, hold.is_shared)
        places[hold.device_id].holds.append(held)
    limit = settings.MAX_RUNS_PER_USER
    return Board(list(machines.values()), _running_of() if limit else {}, limit)


def _running_of() -> dict[int, int]:
    """Running runs by their owner."""
    running = TrainingRun.objects.filter(status=Status.RUNNING).order_by().values_list("owner_id")
    return dict(running.annotate(Count("pk")))


def open_holds() -> QuerySet[DeviceHold]:
    return DeviceHold.objects.filter(released_at=None, run__status=Status.RUNNING)


def _place(machine: Machine, device: Device) -> Place:
    return Place(
        device_id=device.pk,
        host=machine.name,
        kind=device.kind,
        index=device.index,
        capacity=machine.slots if device.kind == Device.Kind.CPU else 1,
        memory_bytes=device.memory_bytes,
        memory_free_bytes=device.memory_free_bytes,
        foreign_bytes=sum(int(process.get("memory_bytes", 0)) for process in device.foreign),
        is_shareable=device.is_shareable,
    )
