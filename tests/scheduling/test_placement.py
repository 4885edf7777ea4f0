"""The rules of placement, played through without a database: what holds for every queue and every set of machines."""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trainingapp.scheduling import placement
from trainingapp.scheduling.placement import (
    GB,
    Assignment,
    ClusterState,
    DeviceSlot,
    Machine,
    Request,
    Waiting,
    in_turn,
)

NOW = datetime(2026, 11, 30, tzinfo=UTC)
KINDS = ("NVIDIA H200", "NVIDIA T4")


def cluster_of(hosts: list[tuple[int, list[str]]], *, linked: bool = True) -> ClusterState:
    """Hosts with so many slots, and GPUs of these names; they can train runs together if `linked`."""
    machines, number = [], 0
    for place, (slots, gpus) in enumerate(hosts):
        machine = Machine(f"host {place}", slots, is_away=False, address=f"10.0.0.{place}" if linked else "")
        for index, name in enumerate(["", *gpus]):
            number += 1
            kind, capacity = ("gpu", 1) if name else ("cpu", slots)
            slot = DeviceSlot(number, machine.name, kind, max(0, index - 1), capacity, name, 24 * GB, 24 * GB)
            machine.devices.append(slot)
        machines.append(machine)
    return ClusterState(machines)


def waiting(pk: int, **request: Any) -> Waiting:
    return Waiting(pk, f"run {pk}", 1, Request(**request))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    kind, count = draw(st.sampled_from(["cpu", "gpu", "auto"])), draw(st.integers(1, 4))
    at_least, hosts = draw(st.integers(1, count)), draw(st.integers(1, count))
    if draw(st.booleans()):
        return Request(kind, count=count, at_least=at_least, hosts=hosts)
    return Request(kind, count=count, at_least=at_least, memory_bytes=8 * GB, is_sharing=True, hosts=hosts)


HOSTS = st.lists(
    st.tuples(st.integers(1, 4), st.lists(st.sampled_from(KINDS), max_size=4)), min_size=1, max_size=4
).map(cluster_of)


@dataclass
class Played:
    """A queue that is played through; `running` has what each run was given."""

    cluster: ClusterState
    queue: list[Waiting]
    running: dict[int, Assignment] = field(default_factory=dict)

    def start(self) -> None:
        for run, assignment in list(in_turn(self.cluster, self.queue, NOW)):
            if assignment is not None:
                self.check(run, assignment)
                self.running[run.pk] = assignment
        self.queue = [run for run in self.queue if run.pk not in self.running]
        for machine in self.cluster.machines:
            for device in machine.devices:
                is_shared = all(hold.is_shared for hold in device.holds)
                used = sum(hold.memory_bytes for hold in device.holds) <= device.memory_bytes
                assert device.taken <= device.capacity or (is_shared and used)
            assert machine.run_count <= machine.slots

    def check(self, run: Waiting, assignment: Assignment) -> None:
        """All or none, of no more hosts than allowed and one kind, each device once."""
        devices = assignment.devices
        assert 1 <= len({device.host for device in devices}) <= run.request.hosts
        assert run.request.at_least <= assignment.count <= run.request.count
        assert len({device.device_id for device in devices}) == len(devices)
        assert len({(device.kind, device.name) for device in devices}) == 1
        assert run.request.kind in ("auto", devices[0].kind)
        assert len(devices) == 1 or not any(device.is_slice for device in devices)

    def end(self, pk: int) -> None:
        del self.running[pk]
        self.cluster.release(pk, 1)


@settings(max_examples=60, deadline=None)
@given(cluster=HOSTS, wanted=st.lists(requests(), min_size=1, max_size=12), data=st.data())
def test_no_device_is_given_twice_and_every_run_that_fits_somewhere_has_its_turn(
    cluster: ClusterState, wanted: list[Request], data: st.DataObject
) -> None:
    """Runs end in any order, and small ones are added all the time: they overtake no larger one for ever."""
    played = Played(deepcopy(cluster), [Waiting(pk, f"run {pk}", 1, each) for pk, each in enumerate(wanted, 1)])
    possible = {run.pk for run in played.queue if cluster.fit(run) is not None}
    started: set[int] = set()
    last = len(wanted)
    for _turn in range(60):
        played.start()
        started |= set(played.running)
        if possible <= started:
            break
        last += 1
        played.queue.append(waiting(last, kind=data.draw(st.sampled_from(["cpu", "gpu", "auto"]))))
        if played.running:
            played.end(data.draw(st.sampled_from(sorted(played.running))))
    assert possible <= started
    assert not {run.pk for run in played.queue if cluster.fit(run) is None} & started


@settings(max_examples=60, deadline=None)
@given(cluster=HOSTS, running=st.lists(requests(), max_size=12), gang=requests(), data=st.data())
def test_the_host_with_the_least_to_give_back_is_found_in_any_cluster(
    cluster: ClusterState, running: list[Request], gang: Request, data: st.DataObject
) -> None:
    """Machines are left out by a lower bound: the result is that of a look at all of them."""
    for pk, request in enumerate(running, 100):
        run = Waiting(pk, "", 1, request)
        if (assignment := cluster.fit(run)) is not None:
            cluster.take(run, assignment)
    ahead = Waiting(1, "ahead", 1, data.draw(requests()))
    cluster.reserve(ahead)
    run = Waiting(2, "gang", 1, gang)
    possible = [placement._reservation(machine, group, run) for machine, group in cluster.groups(gang)]
    possible += [placement._reservation_across(linked, run) for linked in cluster.linked(gang)]
    best = min((found for found in possible if found is not None), key=lambda found: found.rank, default=None)
    expected = {device.device_id for device, _slots in best.parts} if best else set()
    assert cluster.reserve(run) == bool(best)
    devices = [device for machine in cluster.machines for device in machine.devices]
    assert {device.device_id for device in devices if device.reserved_for is run} == expected


def test_a_gang_waits_on_the_host_that_has_the_least_to_give_back() -> None:
    cluster = cluster_of([(8, [KINDS[0]] * 4), (8, [KINDS[0]] * 4)])
    gpus = [device for machine in cluster.machines for device in machine.devices if device.kind == "gpu"]
    for pk, device in enumerate([*gpus[:3], *gpus[4:6]]):  # three of the first host, two of the second
        cluster.take(waiting(100 + pk), Assignment((device,)))
    gang = waiting(1, kind="gpu", count=4, at_least=4)
    small = [waiting(number, kind="gpu") for number in (2, 3)]
    found = [assignment for _run, assignment in in_turn(cluster, [gang, *small], NOW)]
    assert [each and each.text for each in found] == [None, "cuda:3", None]
    assert found[1] is not None
    assert found[1].host == "host 0"
    assert {device.host for device in gpus if device.reserved_for is gang} == {"host 1"}


def test_a_gang_that_fits_nowhere_reserves_nothing() -> None:
    cluster = cluster_of([(8, [*KINDS, KINDS[0]])])
    for count, reserved in ((3, 0), (2, 2)):
        for pk, device in enumerate(cluster.machines[0].devices[1:]):
            cluster.take(waiting(100 + pk), Assignment((device,)))
        gang = waiting(1, kind="gpu", count=count, at_least=count)
        assert [assignment for _run, assignment in in_turn(cluster, [gang], NOW)] == [None]
        assert sum(device.reserved_slots for device in cluster.machines[0].devices) == reserved
        for pk in range(3):
            cluster.release(100 + pk, 1)


def test_slices_of_gpus_train_no_run_together() -> None:
    cluster = cluster_of([(8, [KINDS[0]] * 2)])
    for device in cluster.machines[0].devices[1:]:
        device.is_slice = True
    assert cluster.fit(waiting(1, kind="gpu", count=2, at_least=2)) is None
    assert cluster.fit(waiting(2, kind="gpu")) is not None


def test_it_starts_with_fewer_devices_rather_than_wait() -> None:
    cluster = cluster_of([(8, [KINDS[0]] * 4)])
    gpus = cluster.machines[0].devices[1:]
    cluster.take(waiting(9), Assignment((gpus[1],)))
    cluster.take(waiting(8), Assignment((gpus[2],)))
    assert cluster.fit(waiting(1, kind="gpu", count=4, at_least=3)) is None
    found = cluster.fit(waiting(1, kind="gpu", count=4, at_least=1))
    assert found is not None
    assert found.text == "cuda:0, cuda:3"


def test_the_devices_of_a_quarantine_are_waited_for_but_not_reserved_around() -> None:
    """A gang that needs a GPU in quarantine blocks nobody: no one knows when that ends."""
    cluster = cluster_of([(8, [KINDS[0]] * 2)])
    cluster.machines[0].devices[1].is_quarantined = True
    gang, small = waiting(1, kind="gpu", count=2, at_least=2), waiting(2, kind="gpu")
    found = [assignment for _run, assignment in in_turn(cluster, [gang, small], NOW)]
    assert [each and each.text for each in found] == [None, "cuda:1"]


def test_devices_to_be_avoided_are_left_out_while_others_are_enough() -> None:
    cluster = cluster_of([(8, [KINDS[0]] * 3), (8, [KINDS[0]] * 2)])
    gpus = [device.device_id for machine in cluster.machines for device in machine.devices if device.kind == "gpu"]
    gang = waiting(1, kind="gpu", count=2, at_least=2)
    for avoided, host, text in ((gpus[:1], "host 0", "cuda:1, cuda:2"), (gpus[:2], "host 1", "cuda:0, cuda:1")):
        gang.avoided = frozenset(avoided)
        found = cluster.fit(gang, "host 0")
        assert found is not None
        assert (found.host, found.text) == (host, text)
    gang.avoided = frozenset(gpus)
    assert cluster.fit(gang) is not None, "where there are no others, it takes them again"


def test_of_many_devices_a_text_names_the_first_and_the_last() -> None:
    devices = tuple(cluster_of([(8, [KINDS[0]] * 6)]).machines[0].devices[1:])
    assert Assignment(devices[:2]).text == "cuda:0, cuda:1"
    assert Assignment(devices).text == "cuda:0 … cuda:5"


def gang_of(count: int, hosts: int, kind: str = "gpu", **request: Any) -> Waiting:
    return waiting(1, kind=kind, count=count, at_least=request.pop("at_least", count), hosts=hosts, **request)


def test_a_run_takes_devices_of_as_many_hosts_as_it_may() -> None:
    hosts = [(8, [KINDS[0]] * 2), (8, [KINDS[0]] * 2), (8, [KINDS[0]])]
    cluster = cluster_of(hosts)
    assert cluster.fit(gang_of(3, 1)) is None
    found = cluster.fit(gang_of(3, 2), "host 1")
    assert found is not None
    assert (found.hosts, found.count, found.text) == (["host 1", "host 0"], 3, "cuda:0 … host 0/cuda:0")
    assert cluster.fit(gang_of(5, 2)) is None
    found = cluster.fit(gang_of(5, 3), "host 2")
    assert found is not None
    assert (found.host, found.count) == ("host 2", 5)
    assert cluster_of(hosts, linked=False).fit(gang_of(3, 3)) is None, "without addresses they do not reach each other"
    cluster.machines[0].torch = "2.13"
    assert cluster.fit(gang_of(4, 2)) is None, "another version of torch adds in another order"


def test_slots_of_several_processors() -> None:
    cluster = cluster_of([(2, []), (1, []), (1, [])])
    found = cluster.fit(gang_of(4, 3, "cpu"), "host 1")
    assert found is not None
    assert (found.hosts[0], sorted(found.slots), found.count) == ("host 1", [1, 1, 2], 4)
    assert cluster.fit(gang_of(4, 2, "cpu")) is None
    found = cluster.fit(gang_of(4, 2, "cpu", at_least=3))
    assert found is not None
    assert found.slots == (2, 1)


def test_one_host_is_better_than_several_for_the_same_number_of_devices() -> None:
    cluster = cluster_of([(8, [KINDS[0]]), (8, [KINDS[0]] * 2)])
    found = cluster.fit(gang_of(2, 2), "host 0")
    assert found is not None
    assert found.hosts == ["host 1"]


def test_what_a_run_on_several_hosts_waits_for_is_kept_free() -> None:
    cluster = cluster_of([(8, [KINDS[0]] * 2), (8, [KINDS[0]] * 2), (8, [KINDS[0]] * 2)])
    gpus = [device for machine in cluster.machines for device in machine.devices if device.kind == "gpu"]
    for pk, device in enumerate([gpus[0], gpus[2], gpus[3]]):  # one of the first host, all of the second
        cluster.take(waiting(100 + pk), Assignment((device,)))
    gang, small = gang_of(4, 2), waiting(2, kind="gpu")
    found = [assignment for _run, assignment in in_turn(cluster, [gang, small], NOW)]
    assert found == [None, None], "the three free ones are reserved"
    assert [device.index for device in gpus if device.reserved_for is gang] == [0, 1, 0, 1]
    assert {device.host for device in gpus if device.reserved_for is gang} == {"host 0", "host 2"}
    cluster.release(100, 1)
    (_run, assignment), *_rest = in_turn(cluster, [gang, small], NOW)
    assert assignment is not None
    assert assignment.count == 4


def test_hosts_with_the_most_free_devices_are_left_out_where_the_others_would_be_too_few() -> None:
    """Two hosts must have eight: the one with two free devices would leave the other one with too few."""
    cluster = cluster_of([(8, [KINDS[0]] * 5), (8, [KINDS[0]] * 2), (8, [KINDS[0]] * 4)])
    for machine in (cluster.machines[0], cluster.machines[2]):
        for device in machine.devices[2:]:
            cluster.take(waiting(100 + device.device_id), Assignment((device,)))
    gang = gang_of(8, 2)
    assert cluster.fit(gang) is None
    assert cluster.reserve(gang)
    reserved = {device.host for machine in cluster.machines for device in machine.devices if device.reserved_for}
    assert reserved == {"host 0", "host 2"}
