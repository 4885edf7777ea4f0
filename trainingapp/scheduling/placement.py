"""What a run requires, and on which devices it fits.

The scheduler claims by these rules, the pages explain waits by them and the forecast simulates them, so they are
written once, here. Nothing in this module writes to the database.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from trainingapp.contract.messages import Message, from_data
from trainingapp.models import Checkpoint, Device, DeviceHold, Host, HostDataset, Job, TrainingRun
from trainingapp.models.device import EXPECTED_FOR
from trainingapp.models.run import Status, is_put_off

GB = 1 << 30
#: Share of a GPU's memory that other programs may use before the GPU counts as occupied by them; the second one is that
#: of programs that only draw, such as a desktop, together with the others.
FOREIGN_SHARE, DRAWING_SHARE = 0.1, 0.5
#: Failures after which a run is given another device where there is one.
AVOIDED_FAILURES = frozenset({"device_error", "device_unavailable", "driver", "ranks_differ", "stuck_trainer"})
#: In place of the number of a run.
JOB = 0
#: Queued runs that are read in one query.
PAGE = 20
#: Devices that the text of an assignment names individually.
LISTED = 4
#: Characters of the name of a host in it.
SHOWN_OF_HOST = 20
#: In place of the id of a directory that is not known yet: no host has it.
UNKNOWN = "?"
#: For so long hosts that have the dataset of a run are preferred: it never waits for one of them.
PREFERRED_FOR = timedelta(seconds=10)
#: The order of the queue: the first is claimed first.
QUEUE_ORDER = ("-priority", "queue_rank", "queued_at", "id")


@dataclass(frozen=True)
class Request:
    """What a run requires: `kind` is auto, cpu or gpu; `index` selects one GPU.

    It trains on `count` devices of at most `hosts` hosts, and starts with `at_least` of them as well: GPUs of one kind,
    or slots of CPUs. The memory is that of each GPU, or of the whole run on a CPU.
    """

    kind: str = "auto"
    index: int | None = None
    count: int = 1
    at_least: int = 1
    memory_bytes: int = 0
    is_sharing: bool = False
    hosts: int = 1
    #: The directories that its host must have, by their ids: that of its checkpoints; that of its dataset where this is
    #: not in the object store, or of the model that it starts from. Empty: any.
    runs_dir_id: str = ""
    data_dir_id: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Request":
        """The request of a stored configuration. One that is older than a field gets the default of the field."""
        device = str(config.get("device", "auto"))
        index = device.partition(":")[2]
        count, hosts = int(config.get("device_count", 1)), int(config.get("hosts_at_most", 1))
        # A GPU without a batch of its own in each step would be idle, or a whole host. Slots may be so on purpose.
        if device != "cpu" or hosts > 1:
            count = min(count, int(config.get("accumulation_steps", 1)))
        return cls(
            kind={"auto": "auto", "cpu": "cpu"}.get(device, "gpu"),
            index=int(index) if index else None,
            count=count,
            at_least=min(count, int(config.get("devices_at_least", 0)) or count),
            memory_bytes=round(float(config.get("min_free_memory_gb", 0)) * GB),
            is_sharing=bool(config.get("share_device", False)),
            hosts=min(hosts, count),
        )

    @property
    def part(self) -> "Request":
        """What each of its devices must fulfil where they may be on several hosts."""
        return replace(self, count=1, at_least=1, hosts=1)

    def fewest(self, kind: str) -> int:
        """The fewest devices of this kind that it starts with: a processor is one, whatever the number of its slots."""
        return 1 if kind == "cpu" else self.at_least


@dataclass
class Waiting:
    """A queued run."""

    pk: int
    name: str
    owner_id: int
    request: Request
    not_before: datetime | None = None
    #: Devices on which an earlier attempt failed with an error of the device.
    avoided: frozenset[int] = frozenset()
    #: Hosts that have its dataset, for as long as they are preferred.
    copies: frozenset[str] = frozenset()


@dataclass
class Hold:
    """A run on a device, or a job, which has the `run_id` JOB and the name of its kind."""

    run_id: int
    name: str
    slots: int = 1
    memory_bytes: int = 0
    is_shared: bool = False


@dataclass
class DeviceSlot:
    """A device with the runs on it: `capacity` is the number of CPU slots, or 1 for a GPU.

    `memory_bytes` is 0 where it is not known. Without `is_usable` no run can be given it: `explanation` says why.
    """

    device_id: int
    host: str
    kind: str
    index: int
    capacity: int
    name: str = ""
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    #: Memory of programs other than the studio's: those that compute, and those that only draw.
    foreign_bytes: int = 0
    drawing_bytes: int = 0
    #: "name (pid)" of each of them.
    programs: tuple[str, ...] = ()
    #: Whether a program that computes has a GPU which only one process may use.
    is_taken: bool = False
    is_shareable: bool = True
    #: Whether it is a slice of a GPU (MIG): these cannot train one run together.
    is_slice: bool = False
    is_present: bool = True
    problem: str = ""
    is_quarantined: bool = False
    explanation: Message | None = None
    #: Whether it could be used lately, or it is not known yet whether it can: runs wait for it.
    is_expected: bool = True
    holds: list[Hold] = field(default_factory=list)
    #: Slots that are reserved for a run that is ahead in the queue, and that run.
    reserved_slots: int = 0
    reserved_for: Waiting | None = None

    @property
    def torch_name(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"

    @property
    def is_usable(self) -> bool:
        return self.is_present and not self.problem and not self.is_quarantined

    @property
    def taken(self) -> int:
        return sum(hold.slots for hold in self.holds)

    @property
    def is_exhausted(self) -> bool:
        """Whether no further run can start on the device, whatever it requires."""
        return not self.is_usable or (self.taken >= self.capacity and not self.is_joinable)

    @property
    def is_joinable(self) -> bool:
        """Whether a run that shares may join those on the GPU: all agree, and its memory can be divided."""
        can_share = self.kind == "gpu" and self.is_shareable and self.memory_bytes > 0
        return can_share and all(hold.is_shared for hold in self.holds)

    @property
    def available_bytes(self) -> int:
        """Memory for one more run: what is free, less what the runs on the device may still allocate."""
        reserved = sum(hold.memory_bytes for hold in self.holds)
        return min(self.memory_free_bytes, self.left_by_others - reserved)

    @property
    def emptied_bytes(self) -> int:
        """Memory for a run once those on the device have ended."""
        return self.left_by_others if self.holds else self.available_bytes

    @property
    def left_by_others(self) -> int:
        return self.memory_bytes - self.foreign_bytes - self.drawing_bytes

    @property
    def is_used_by_others(self) -> bool:
        """Whether so much of a GPU is in use by other programs that a run without a stated need would lack memory."""
        if self.kind != "gpu":
            return False
        is_computing = self.foreign_bytes > self.memory_bytes * FOREIGN_SHARE
        return is_computing or self.foreign_bytes + self.drawing_bytes > self.memory_bytes * DRAWING_SHARE

    @property
    def free_slots(self) -> int:
        """Slots that no run has, and that are not reserved."""
        return self.capacity - self.taken - self.reserved_slots


@dataclass(frozen=True)
class Assignment:
    """What a run is given: GPUs, or slots of processors. Those of the host that has rank 0 come first."""

    devices: tuple[DeviceSlot, ...]
    #: The slots of each processor; empty: one of each device.
    slots: tuple[int, ...] = ()

    @property
    def parts(self) -> list[tuple[DeviceSlot, int]]:
        """Each device with the number of slots."""
        return list(zip(self.devices, self.slots or (1,) * len(self.devices), strict=True))

    @property
    def host(self) -> str:
        return self.devices[0].host

    @property
    def hosts(self) -> list[str]:
        """The host of rank 0, and the others."""
        return list(dict.fromkeys(device.host for device in self.devices))

    @property
    def count(self) -> int:
        return sum(slots for _device, slots in self.parts)

    @property
    def text(self) -> str:
        """For people, such as "cpu" or "cuda:0, cuda:1"; of many devices or hosts the first and the last are named."""
        names = [device.torch_name for device in self.devices]
        if len(self.hosts) > 1:
            return f"{names[0]} … {self.hosts[-1][:SHOWN_OF_HOST]}/{names[-1]}"
        return ", ".join(names) if len(names) <= LISTED else f"{names[0]} … {names[-1]}"


@dataclass(frozen=True)
class Obstacle:
    """Why a run does not fit on a device now: gone, unusable, host_full, held, reserved, taken, foreign or memory."""

    why: str
    device: DeviceSlot
    missing_bytes: int = 0


@dataclass
class Machine:
    """A host: at most `slots` runs train on it. `gpu_problem` says why its GPU driver cannot be queried.

    `is_away`: no worker of it takes anything. `is_temporary`: once away, it is not expected again.
    Only a host with an `address` trains runs together with others, if these have the same version of torch.
    """

    name: str
    slots: int
    is_away: bool
    gpu_problem: Message | None = None
    devices: list[DeviceSlot] = field(default_factory=list)
    is_temporary: bool = False
    address: str = ""
    torch: str = ""
    runs_dir_id: str = ""
    data_dir_id: str = ""

    @property
    def run_count(self) -> int:
        return len({hold.run_id for device in self.devices for hold in device.holds} - {JOB})

    @property
    def is_open(self) -> bool:
        """Whether a further run may start here: something is free, or shared, that is not reserved."""
        return self.run_count < self.slots and any(
            device.is_usable and (device.free_slots > 0 or (device.is_joinable and not device.reserved_slots))
            for device in self.devices
        )

    def has_files(self, request: Request) -> bool:
        """Whether it has the directories that the run needs."""
        return request.runs_dir_id in ("", self.runs_dir_id) and request.data_dir_id in ("", self.data_dir_id)

    def groups(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[list[DeviceSlot]]:
        """The devices that would do for the request if they were usable and free. It gets all of its devices from one
        group, in which there are enough; those of `avoided` are left out.

        Where there are GPUs, or were lately, auto means a GPU: a run never trains on the CPU because a GPU failed.
        """
        right = [
            device
            for device in self.right(request, avoided)
            if device.kind == "gpu" or device.capacity >= request.at_least
        ]
        # One that is gone is waited for only where there is no other.
        return _complete([device for device in right if device.is_present], request) or _complete(right, request)

    def right(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[DeviceSlot]:
        """The devices of which the request may have some, whether or not they are enough."""
        if not self.has_files(request):
            return []
        kind = request.kind
        if kind == "auto":
            kind = "gpu" if any(device.kind == "gpu" and device.is_expected for device in self.devices) else "cpu"
        return [
            device
            for device in self.devices
            if device.kind == kind
            and request.index in (None, device.index)
            and not (request.count > 1 and device.is_slice)
            # A device whose memory is not known is not excluded.
            and (not device.memory_bytes or device.memory_bytes >= request.memory_bytes)
            and device.device_id not in avoided
        ]

    def suited(self, request: Request) -> list[DeviceSlot]:
        """The devices of all groups."""
        return [device for group in self.groups(request) for device in group]

    def obstacle(self, device: DeviceSlot, request: Request, run_id: int = 0) -> Obstacle | None:
        """Why the run does not fit on this device now; None where it fits. Slots reserved for itself count as free."""
        if not device.is_usable:
            return Obstacle("unusable" if device.is_present else "gone", device)
        reserved = 0 if device.reserved_for and device.reserved_for.pk == run_id else device.reserved_slots
        if device.kind == "gpu" and device.holds:
            if not (request.is_sharing and device.is_joinable):
                return Obstacle("held", device)
            if reserved:
                return Obstacle("reserved", device)
        elif device.capacity - device.taken < (needed := request.at_least if device.kind == "cpu" else 1):
            return Obstacle("held", device)
        elif device.capacity - device.taken - reserved < needed:
            return Obstacle("reserved", device)
        lack = _lack_of_memory(device, request, device.available_bytes)
        return lack or (Obstacle("host_full", device) if self.run_count >= self.slots else None)


def _complete(devices: list[DeviceSlot], request: Request) -> list[list[DeviceSlot]]:
    """The groups from which a request can be served. Several GPUs must be of one kind: a step takes as long as the
    slowest of them."""
    if request.count == 1:
        return [devices] if devices else []
    by_kind: dict[str, list[DeviceSlot]] = {}
    for device in devices:
        by_kind.setdefault(device.name if device.kind == "gpu" else "", []).append(device)
    return [group for group in by_kind.values() if len(group) >= request.fewest(group[0].kind)]


def _lack_of_memory(device: DeviceSlot, request: Request, free_bytes: int) -> Obstacle | None:
    """The lack of `request.memory_bytes`; without such a minimum, a GPU that other programs use counts as occupied.

    A GPU whose memory is not known lacks none.
    """
    if device.is_taken:
        return Obstacle("taken", device)
    if not device.memory_bytes:
        return None
    if request.memory_bytes:
        missing = request.memory_bytes - free_bytes
        return Obstacle("memory", device, missing) if missing > 0 else None
    return Obstacle("foreign", device) if device.is_used_by_others else None


Linked = list[tuple[Machine, list[DeviceSlot]]]
"""Hosts that can train a run together, with their devices of one kind."""


@dataclass
class ClusterState:
    """All machines with the runs on their devices, and the number of running runs of each user."""

    machines: list[Machine] = field(default_factory=list)
    running_of: dict[int, int] = field(default_factory=dict)
    #: Runs of one user that may run at the same time; 0 for no limit.
    most_per_user: int = 0
    #: Machines that have closed since reservations were last forgotten: until then, what is free only decreases.
    _closed: set[str] = field(default_factory=set, init=False, repr=False)

    #: Idle GPUs by machine, of those machines that have not changed since.
    _idle: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def is_open(self, machine: Machine) -> bool:
        """As `Machine.is_open`, quickly for those that were closed before."""
        if machine.name not in self._closed and not machine.is_open:
            self._closed.add(machine.name)
        return machine.name not in self._closed

    @property
    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines if not machine.is_away]

    @property
    def is_exhausted(self) -> bool:
        """Whether no run can start, whatever it requires."""
        return all(
            machine.run_count >= machine.slots or all(device.is_exhausted for device in machine.devices)
            for machine in self.alive
        )

    def groups(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[tuple[Machine, list[DeviceSlot]]]:
        """The groups of all machines. Devices to be avoided are left out where others can be used."""
        if avoided:
            others = [(machine, group) for machine in self.alive for group in machine.groups(request, avoided)]
            if any(_usable(group) >= request.fewest(group[0].kind) for _machine, group in others):
                return others
        return [(machine, group) for machine in self.alive for group in machine.groups(request)]

    def open_groups(
        self, request: Request, avoided: frozenset[int] = frozenset()
    ) -> list[tuple[Machine, list[DeviceSlot]]]:
        """The groups of the machines on which something may start."""
        if avoided:
            return [(machine, group) for machine, group in self.groups(request, avoided) if self.is_open(machine)]
        return [
            (machine, group) for machine in self.alive if self.is_open(machine) for group in machine.groups(request)
        ]

    def suited(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[tuple[Machine, DeviceSlot]]:
        """The devices of these groups, and those of hosts that can train the run together."""
        groups = self.groups(request, avoided)
        known = {device.device_id for _machine, group in groups for device in group}
        together = [one for linked in self.linked(request, avoided) for one in linked]
        return [(machine, device) for machine, group in groups for device in group] + [
            (machine, device) for machine, group in together for device in group if device.device_id not in known
        ]

    def linked(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[Linked]:
        """The hosts that can train the run together: those with an address, one version of torch, the same directories,
        and devices of one kind, of which the best `hosts` hosts have enough. Devices to be avoided are left out where
        others can be used.

        None for a run that stays on one host.
        """
        if request.hosts == 1:
            return []
        if avoided:
            others = self._linked(request, avoided)
            if any(_most(linked, request, _usable_units) >= request.at_least for linked in others):
                return others
        return self._linked(request)

    def _linked(self, request: Request, avoided: frozenset[int] = frozenset()) -> list[Linked]:
        found: dict[tuple[str, ...], Linked] = {}
        for machine in self.alive:
            by_kind: dict[tuple[str, ...], list[DeviceSlot]] = {}
            for device in machine.right(request, avoided) if machine.address else ():
                if device.is_present:
                    name = device.name if device.kind == "gpu" else ""
                    # All ranks read the folder of the run, and the dataset where the first one has it.
                    shared = (machine.torch, machine.data_dir_id, machine.runs_dir_id)
                    by_kind.setdefault((*shared, device.kind, name), []).append(device)
            for kind, devices in by_kind.items():
                found.setdefault(kind, []).append((machine, devices))
        return [linked for linked in found.values() if _most(linked, request, _capacity) >= request.at_least]

    def is_over_limit(self, owner_id: int) -> bool:
        return bool(self.most_per_user) and self.running_of.get(owner_id, 0) >= self.most_per_user

    def fit(self, run: Waiting, host: str = "") -> Assignment | None:
        """The best devices that the run fits on now, on `host` where possible: it then has rank 0."""
        request = run.request

        def rank(device: DeviceSlot) -> tuple[bool, int, str, int]:
            # A run that shares joins others, so that whole GPUs stay free; then the most free memory.
            is_joining = request.is_sharing and bool(device.holds)
            return not is_joining, -device.available_bytes, device.host, device.index

        found = []
        for machine, group in self.open_groups(request, run.avoided):
            fitting = [device for device in group if machine.obstacle(device, request) is None]
            if len(fitting) >= request.fewest(group[0].kind):
                found.append(_best_of(sorted(fitting, key=rank), request))
        found += [across for linked in self.linked(request, run.avoided) if (across := self._across(linked, run, host))]
        # As many devices as possible first, then as few hosts as possible, then one that has the dataset, then the own
        # host.
        return min(
            found,
            key=lambda assignment: (
                -assignment.count,
                len(assignment.hosts),
                bool(run.copies) and assignment.host not in run.copies,
                assignment.host != host,
                *max(rank(device) for device in assignment.devices),
            ),
            default=None,
        )

    def _across(self, linked: Linked, run: Waiting, host: str) -> Assignment | None:
        """Devices of several of these hosts: of those that have the most free ones, so that it takes few of them."""
        request, part = run.request, run.request.part
        offers = [
            (machine.name, [(one, units) for one in devices if (units := _free_units(machine, one, part))])
            for machine, devices in linked
            if self.is_open(machine)
        ]
        offers.sort(key=lambda offer: (-sum(units for _device, units in offer[1]), offer[0] != host, offer[0]))
        chosen, left = list[tuple[DeviceSlot, int]](), request.count
        for _name, parts in offers[: request.hosts]:
            for device, units in parts:
                if left:
                    chosen.append((device, min(units, left)))
                    left -= chosen[-1][1]
        if request.count - left < request.at_least:
            return None
        chosen.sort(key=lambda one: one[0].host != host)  # rank 0 on the own host; the order stays otherwise
        return Assignment(tuple(device for device, _slots in chosen), tuple(slots for _device, slots in chosen))

    def fits(self, request: Request, assignment: Assignment) -> bool:
        """Whether what was chosen for the request is still free."""
        suited = {device.device_id: (machine, device) for machine, device in self.suited(request)}
        found = [(*suited[one.device_id], slots) for one, slots in assignment.parts if one.device_id in suited]
        wanted = request if len(assignment.hosts) == 1 else request.part
        return len(found) == len(assignment.devices) and all(
            machine.obstacle(device, wanted) is None and (device.kind == "gpu" or device.free_slots >= slots)
            for machine, device, slots in found
        )

    def take(self, run: Waiting, assignment: Assignment) -> None:
        request = run.request
        for device, slots in assignment.parts:
            is_shared = request.is_sharing and device.kind == "gpu"
            device.holds.append(Hold(run.pk, run.name, slots, request.memory_bytes, is_shared))
            self._idle.pop(device.host, None)
        self.running_of[run.owner_id] = self.running_of.get(run.owner_id, 0) + 1

    def reserve(self, run: Waiting) -> bool:
        """Reserve what the run waits for: on the host, or the hosts, on which the fewest devices or slots have to
        become free. Returns whether there was something to reserve.

        It is all that the run starts with, so that a run for several devices collects them as they become free. Nothing
        is reserved where only other programs are in the way: the studio cannot know when those end, and other runs
        would wait for nothing.
        """
        best: _Reservation | None = None
        for fewest, name, groups in self._by_what_is_missing(run):
            # No later machine can have less to give back, nor, with as little, a name that comes before.
            if best is not None and best.rank < (fewest, fewest, name, 0):
                break
            for machine, group in groups:
                found = _reservation(machine, group, run)
                if found is not None and (best is None or found.rank < best.rank):
                    best = found
        for linked in self.linked(run.request, run.avoided):
            found = _reservation_across(linked, run)
            if found is not None and (best is None or found.rank < best.rank):
                best = found
        for device, slots in best.parts if best else ():
            device.reserved_slots, device.reserved_for = slots, run
            self._idle.pop(device.host, None)
        return best is not None

    def _by_what_is_missing(self, run: Waiting) -> Iterator[tuple[int, str, list[tuple[Machine, list[DeviceSlot]]]]]:
        """(the fewest devices that have to become free, its name, its groups) of each machine, the fewest first.

        The number is a lower bound, found without looking at each device: in a large cluster most hosts are full.
        """
        request = run.request
        if run.avoided or request.kind != "gpu" or request.is_sharing:
            yield 0, "", self.groups(request, run.avoided)
            return
        bounds = sorted((max(0, request.at_least - self._idle_gpus(machine)), machine.name) for machine in self.alive)
        machines = {machine.name: machine for machine in self.alive}
        for fewest, name in bounds:
            yield fewest, name, [(machines[name], group) for group in machines[name].groups(request)]

    def _idle_gpus(self, machine: Machine) -> int:
        """Its GPUs that no run has and that are not reserved."""
        if machine.name not in self._idle:
            free = (device for device in machine.devices if device.kind == "gpu" and device.free_slots > 0)
            self._idle[machine.name] = sum(1 for _device in free)
        return self._idle[machine.name]

    def forget_jobs(self) -> None:
        """Count devices that jobs use as free: they take minutes, and nothing is known of their length."""
        for machine in self.machines:
            for device in machine.devices:
                device.holds = [hold for hold in device.holds if hold.run_id != JOB]

    def forget_reservations(self) -> None:
        self._closed.clear()
        self._idle.clear()
        for machine in self.machines:
            for device in machine.devices:
                device.reserved_slots, device.reserved_for = 0, None

    def release(self, run_id: int, owner_id: int) -> None:
        """Remove the run from its devices; their memory then counts as free, whatever the last reading was."""
        self._closed.clear()
        self._idle.clear()
        for machine in self.machines:
            for device in machine.devices:
                left = [hold for hold in device.holds if hold.run_id != run_id]
                if device.holds and not left:
                    device.memory_free_bytes = device.emptied_bytes
                device.holds = left
        self.running_of[owner_id] = max(0, self.running_of.get(owner_id, 0) - 1)


def _usable(group: Iterable[DeviceSlot]) -> int:
    return sum(device.is_usable for device in group)


def _best_of(fitting: list[DeviceSlot], request: Request) -> Assignment:
    """The first of these devices, as many as requested, or as many free slots of a processor."""
    if fitting[0].kind == "cpu":
        return Assignment((fitting[0],), (min(request.count, fitting[0].free_slots),))
    return Assignment(tuple(sorted(fitting[: request.count], key=lambda device: device.index)))


def _most(linked: Linked, request: Request, count: Callable[[Iterable[DeviceSlot]], int]) -> int:
    """The most that a run gets from as many of these hosts as it may have; `count` counts what one of them gives."""
    sizes = sorted((count(devices) for _machine, devices in linked), reverse=True)
    return sum(sizes[: request.hosts])


def _capacity(devices: Iterable[DeviceSlot]) -> int:
    """GPUs, or slots of a processor."""
    return sum(device.capacity for device in devices)


def _usable_units(devices: Iterable[DeviceSlot]) -> int:
    """Those of them that can be used."""
    return _capacity(device for device in devices if device.is_usable)


@dataclass(frozen=True)
class _Reservation:
    """Devices that a run may wait for, with the slots of each; the lowest `rank` is the best."""

    parts: list[tuple[DeviceSlot, int]]
    rank: tuple[int, int, str, int]


def _reservation(machine: Machine, group: list[DeviceSlot], run: Waiting) -> _Reservation | None:
    """What the run may wait for in this group: first what is free. None where it has too little to wait for."""
    request = run.request
    possible = [
        device
        for device in group
        if device.is_usable
        and not device.reserved_slots
        and _lack_of_memory(device, request, device.emptied_bytes) is None
    ]
    fewest = request.fewest(group[0].kind)
    if len(possible) < fewest:
        return None

    def missing(device: DeviceSlot) -> int:
        if device.kind == "cpu":
            return max(0, request.at_least - device.free_slots)
        return int(machine.obstacle(device, request) is not None)

    possible.sort(key=lambda device: (missing(device), device.taken, device.index))
    devices = possible[:fewest]
    taken = sum(device.taken for device in devices)
    parts = [(device, request.at_least if device.kind == "cpu" else 1) for device in devices]
    return _Reservation(parts, (sum(map(missing, devices)), taken, machine.name, devices[0].index))


@dataclass(frozen=True)
class _Stock:
    """What a run may wait for on one of several hosts: units are GPUs, or slots of a processor."""

    machine: Machine
    devices: list[DeviceSlot]
    free: int
    size: int


def _reservation_across(linked: Linked, run: Waiting) -> _Reservation | None:
    """What the run may wait for on several of these hosts. None where they have too little to wait for."""
    request, part = run.request, run.request.part
    stocks = []
    for machine, devices in linked:
        possible = [
            device
            for device in devices
            if device.is_usable
            and not device.reserved_slots
            and _lack_of_memory(device, part, device.emptied_bytes) is None
        ]
        if possible:
            possible.sort(key=lambda device: (-_free_units(machine, device, part), device.taken, device.index))
            free = sum(_free_units(machine, device, part) for device in possible)
            stocks.append(_Stock(machine, possible, free, _capacity(possible)))
    chosen = _fullest(stocks, request)
    left, missing, parts = request.at_least, request.at_least, list[tuple[DeviceSlot, int]]()
    # What is free first, whatever the host: the rest has to become free.
    for is_free in (True, False):
        for stock in chosen:
            for device in stock.devices:
                units = _free_units(stock.machine, device, part)
                units = min(left, units if is_free else device.capacity - units)
                if units > 0:
                    parts.append((device, units))
                    left -= units
                    missing -= units if is_free else 0
    if left:
        return None
    slots: dict[int, tuple[DeviceSlot, int]] = {}
    for device, units in parts:
        slots[device.device_id] = (device, units + slots.get(device.device_id, (device, 0))[1])
    found = list(slots.values())
    taken = sum(device.taken for device, _units in found)
    return _Reservation(found, (missing, taken, found[0][0].host, found[0][0].index))


def _free_units(machine: Machine, device: DeviceSlot, part: Request) -> int:
    """1 for a GPU, or the slots of a processor, that the run can have now."""
    if machine.obstacle(device, part) is not None:
        return 0
    return 1 if device.kind == "gpu" else device.free_slots


def _fullest(stocks: list[_Stock], request: Request) -> list[_Stock]:
    """At most `hosts` of the stocks with enough units, those with the most free ones where that is possible."""
    chosen, size, free = list[_Stock](), 0, 0
    rest = sorted(stocks, key=lambda stock: (-stock.free, -stock.size, stock.machine.name))
    while rest and len(chosen) < request.hosts and free < request.at_least:
        for stock in rest:
            others = sorted((one.size for one in rest if one is not stock), reverse=True)
            reachable = size + stock.size + sum(others[: request.hosts - len(chosen) - 1])
            if reachable >= request.at_least:
                break
        else:
            return []
        chosen.append(stock)
        rest.remove(stock)
        size, free = size + stock.size, free + stock.free
    return chosen


def in_turn(
    cluster: ClusterState, queue: Iterable[Waiting], now: datetime, host: str = ""
) -> Iterator[tuple[Waiting, Assignment | None]]:
    """Go through the queue: yields each run with the devices on which it can start now, or None.

    The one rule against starvation: what a run that does not fit waits for is reserved, and runs behind it get what is
    left. They can overtake it only on other devices.
    """
    cluster.forget_reservations()
    # Requests that fit nowhere, and for which nothing can be reserved: what is free only decreases from run to run.
    refused, unreserved = set[Request](), set[Request]()
    for run in queue:
        assignment = None
        if not is_put_off(run.not_before, now) and not cluster.is_over_limit(run.owner_id):
            if run.avoided or run.request not in refused:
                assignment = cluster.fit(run, host)
            if assignment is not None:
                cluster.take(run, assignment)
            elif run.avoided:
                cluster.reserve(run)
            else:
                refused.add(run.request)
                if run.request not in unreserved and not cluster.reserve(run):
                    unreserved.add(run.request)
        yield run, assignment


def first_fitting(
    cluster: ClusterState, queue: Iterable[Waiting], now: datetime, host: str
) -> tuple[Waiting, Assignment] | None:
    """The first run that is to start on `host` now; ends as soon as nothing there is left for the runs that follow."""
    machine = next((machine for machine in cluster.machines if machine.name == host), None)
    cluster.forget_reservations()
    if machine is None or not machine.is_open:
        return None
    for run, assignment in in_turn(cluster, queue, now, host):
        if assignment is not None and assignment.host == host:
            return run, assignment
        if not cluster.is_open(machine):
            break
    return None


@dataclass(frozen=True)
class Most:
    """The most devices of one host that can train a run together: GPUs of one kind, and slots of its processor."""

    gpus: int
    slots: int


def most_devices(cluster: ClusterState) -> Most:
    """What the hosts with a running worker have, whether or not it is free."""
    gpus = [
        sum(1 for each in machine.devices if each.is_usable and not each.is_slice and each.name == device.name)
        for machine in cluster.alive
        for device in machine.devices
        if device.kind == "gpu"
    ]
    return Most(max(gpus, default=0), max((machine.slots for machine in cluster.alive), default=0))


def linked_hosts(cluster: ClusterState) -> int:
    """The hosts with a running worker that can train runs together."""
    return sum(bool(machine.address) for machine in cluster.alive)


def queued_runs() -> QuerySet[TrainingRun]:
    """The queue in its order."""
    return TrainingRun.objects.filter(status=Status.QUEUED).order_by(*QUEUE_ORDER)


def read_queue(most: int | None = None) -> Iterator[Waiting]:
    """The queued runs in their order, read a page at a time: a caller that needs the first few reads only those."""
    rows = queued_runs().values_list("pk", "name", "owner_id", "config", "not_before", "retries")
    start = 0
    while page := list(rows[start : start + (PAGE if most is None else min(PAGE, most - start))]):
        avoided = _avoided([pk for pk, *_values, retries in page if retries])
        files = files_of([pk for pk, *_values in page]) if settings.OBJECT_STORE_URL else {}
        for pk, name, owner_id, config, not_before, _retries in page:
            needed = files.get(pk, Files())
            request = replace(Request.of(config), runs_dir_id=needed.runs_dir_id, data_dir_id=needed.data_dir_id)
            yield Waiting(pk, name, owner_id, request, not_before, avoided.get(pk, frozenset()), needed.copies)
        start += len(page)
        if most is not None and start >= most:
            return


@dataclass(frozen=True)
class Files:
    """Where the files are that a queued run needs; see `Request` and `Waiting`."""

    runs_dir_id: str = ""
    data_dir_id: str = ""
    copies: frozenset[str] = frozenset()


def files_of(runs: list[int]) -> dict[int, Files]:
    """Where the files of these queued runs are, by run. Only where an object store is used."""
    columns = (
        "attempt",
        "runs_dir_id",
        "config",
        "queued_at",
        "not_before",
        "forked_checkpoint",
        "forked_from__runs_dir_id",
    )
    queued = TrainingRun.objects.filter(pk__in=runs).select_related("dataset", "forked_from")
    rows = list(queued.only(*columns, "dataset__data_dir_id", "dataset__store_key"))
    saved = set(Checkpoint.objects.filter(run_id__in=runs).order_by().values_list("run_id", flat=True))
    copies: dict[str, set[str]] = {}
    keys = {row.dataset.store_key for row in rows} - {""}
    for key, host in HostDataset.objects.filter(key__in=keys).values_list("key", "host__name"):
        copies.setdefault(key, set()).add(host)
    local: dict[str, set[str]] = {}
    for directory, host in Host.objects.exclude(data_dir_id="").values_list("data_dir_id", "name"):
        local.setdefault(directory, set()).add(host)
    sources = {row.pk: _source_run(row) for row in rows}
    of_sources = TrainingRun.objects.filter(pk__in=set(sources.values()) - {None})
    directories = dict(of_sources.values_list("pk", "runs_dir_id"))
    fresh = timezone.now() - PREFERRED_FOR
    found = {}
    for row in rows:
        dataset = row.dataset
        since = max(filter(None, (row.queued_at, row.not_before)), default=None)
        hosts = copies.get(dataset.store_key, set()) | local.get(dataset.data_dir_id, set())
        # Stored models are where datasets are imported.
        is_bound = not dataset.store_key or str(row.config.get("start_from") or "").startswith("weights/")
        found[row.pk] = Files(
            _runs_dir_of(row, sources[row.pk], directories, is_saved=row.pk in saved),
            (dataset.data_dir_id or UNKNOWN) if is_bound else "",
            frozenset(hosts) if since is not None and since > fresh else frozenset(),
        )
    return found


def _source_run(run: TrainingRun) -> int | None:
    """The run from whose weights this one starts; None where it starts from others."""
    kind, _slash, name = str(run.config.get("start_from") or "").partition("/")
    return int(name.partition("/")[0]) if kind == "run" else None


def _runs_dir_of(run: TrainingRun, source: int | None, directories: Mapping[int, str], *, is_saved: bool) -> str:
    """The directory with the checkpoints that the run continues or starts from; empty where it needs none."""
    if is_saved:
        return run.runs_dir_id or UNKNOWN
    if source is not None:
        return directories.get(source) or UNKNOWN
    if run.forked_checkpoint and run.forked_from is not None:
        return run.forked_from.runs_dir_id or UNKNOWN
    return ""


def _avoided(runs: list[int]) -> dict[int, frozenset[int]]:
    """The devices on which attempts of these runs failed because of the device, by run."""
    found: dict[int, frozenset[int]] = {}
    if runs:
        failed = DeviceHold.objects.filter(run_id__in=runs, error_class__in=AVOIDED_FAILURES)
        for run_id, device_id in failed.order_by("pk").values_list("run_id", "device_id"):
            found[run_id] = found.get(run_id, frozenset()) | {device_id}
    return found


def read_cluster() -> ClusterState:
    """The present state of all machines. A hold counts as long as its run is running, or its job in progress.

    A host that reports for the first time between the queries is left out with its devices until the next call.
    """
    machines = {
        host.pk: Machine(
            host.name,
            host.slots,
            is_away=not host.takes_work,
            gpu_problem=from_data(host.gpu_problem),
            is_temporary=host.is_temporary,
            address=host.address,
            torch=str(host.versions.get("torch", "")),
            runs_dir_id=host.runs_dir_id,
            data_dir_id=host.data_dir_id,
        )
        for host in Host.objects.all()
    }
    devices: dict[int, DeviceSlot] = {}
    known = Q(is_present=True) | Q(kind=Device.Kind.GPU, usable_at__gt=timezone.now() - EXPECTED_FOR)
    rows = Device.objects.filter(known, host_id__in=machines).select_related("job")
    for row in rows.order_by("kind", "index", "pk"):
        machine = machines[row.host_id]
        devices[row.pk] = _slot(row, machine)
        if row.working_job is not None:
            devices[row.pk].holds.append(Hold(JOB, row.working_job.kind))
        machine.devices.append(devices[row.pk])
    for hold in open_holds().filter(device_id__in=devices).order_by("taken_at", "pk"):
        held = Hold(hold.run_id or 0, hold.run_name, hold.slots, hold.memory_bytes, hold.is_shared)
        devices[hold.device_id].holds.append(held)
    limit = settings.MAX_RUNS_PER_USER
    running = TrainingRun.objects.filter(status=Status.RUNNING).order_by().values_list("owner_id")
    running_of = dict(running.annotate(Count("pk"))) if limit else {}
    return ClusterState(list(machines.values()), running_of, limit)


def _slot(row: Device, machine: Machine) -> DeviceSlot:
    computing = [process for process in row.foreign if not process.get("is_graphics")]
    foreign_bytes = sum(int(process.get("memory_bytes", 0)) for process in computing)
    all_bytes = sum(int(process.get("memory_bytes", 0)) for process in row.foreign)
    return DeviceSlot(
        device_id=row.pk,
        host=machine.name,
        kind=row.kind,
        index=row.index,
        capacity=machine.slots if row.kind == Device.Kind.CPU else 1,
        name=row.name,
        memory_bytes=row.memory_bytes,
        memory_free_bytes=row.memory_free_bytes,
        foreign_bytes=foreign_bytes,
        drawing_bytes=all_bytes - foreign_bytes,
        programs=tuple(f"{process['name']} ({process['pid']})" for process in row.foreign if process.get("name")),
        is_taken=row.is_exclusive and bool(computing),
        is_shareable=row.is_shareable and not row.is_exclusive,
        is_slice=row.is_slice,
        is_present=row.is_present,
        problem=row.problem,
        is_quarantined=row.quarantined_at is not None,
        explanation=from_data(row.explanation_data),
        is_expected=row.was_usable or (row.is_present and row.problem in ("", Device.Problem.UNCHECKED)),
    )


def held_by_jobs() -> QuerySet[Device]:
    """The devices that jobs use."""
    return Device.objects.filter(job__state=Job.State.WORKING)


def open_holds() -> QuerySet[DeviceHold]:
    return DeviceHold.objects.filter(released_at=None, run__status=Status.RUNNING)
