"""What a supervisor concludes from the shares of its run on other hosts."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.helpers.machines import asking, hold, machine
from trainingapp.contract.events import EVENTS_FILE, EventLog, Listening, parse_event
from trainingapp.models import Host, RunShare, TrainingRun
from trainingapp.models.device import Device
from trainingapp.supervision import other_hosts as module
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.identity import worker_id
from trainingapp.supervision.other_hosts import NOTICED_S, OtherHosts, is_cut_off, other_hosts
from trainingapp.supervision.outcome import End, judge
from trainingapp.supervision.shares import ranks_on, take_shares
from trainingapp.supervision.watchdog import Watchdog

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def running(make: MAKE, hosts: int = 2, **fields: Any) -> TrainingRun:
    """A run whose ranks are on hosts "host 0", "host 1" ..., each with a share; the first supervises it."""
    config = asking(device="cpu", device_count=hosts, accumulation_steps=hosts, hosts_at_most=hosts)
    values = {"attempt": 1, "worker": worker_id(), "host": "host 0", "heartbeat_at": timezone.now(), **fields}
    run = make("running", config=config, **values)
    for number in range(hosts):
        host = machine(f"host {number}", address=f"10.0.0.{number}")
        hold(run, host.devices.get())
        RunShare.objects.create(
            run=run, attempt=1, node_rank=number, host=host.name, worker=f"{host.name}:1:2", heartbeat_at=timezone.now()
        )
    return run


def change(node_rank: int, **fields: Any) -> None:
    RunShare.objects.filter(node_rank=node_rank).update(**fields)


def shares_of(run: TrainingRun, clock: Clock) -> OtherHosts:
    found = OtherHosts(run, clock)
    found.look()
    return found


def test_a_run_on_one_host_has_none(make: MAKE) -> None:
    run = make("running", attempt=1)
    assert other_hosts(run) is None
    together = make("running", attempt=1, config=asking(device_count=2, accumulation_steps=2, hosts_at_most=2))
    assert other_hosts(together) is None, "one host had enough"
    found = other_hosts(running(make))
    assert found is not None
    assert [share.host for share in found.shares] == ["host 1"]


def test_a_host_without_heartbeats_for_the_lease_is_lost(make: MAKE, settings: Any) -> None:
    clock = Clock()
    others = shares_of(running(make), clock)
    for _second in range(settings.HEARTBEAT_LEASE_S):
        clock.now += 1
        others.look()
        assert others.problem is None
    change(1, heartbeat_at=timezone.now() + timedelta(hours=3))  # by whatever clock
    clock.now += 1
    others.look()
    assert others.problem is None
    for _second in range(settings.HEARTBEAT_LEASE_S + 1):
        clock.now += 1
        others.look()
    assert others.problem is not None
    assert (others.problem.code, others.problem.params) == ("rank_host_silent", {"host": "host 1"})


def test_the_time_in_which_the_database_was_away_does_not_count(make: MAKE) -> None:
    clock = Clock()
    others = shares_of(running(make), clock)
    clock.now += 60
    others.look()
    assert others.problem is None


@pytest.mark.parametrize(
    ("away_s", "type_", "age_s", "expected"),
    [
        (9, "log", 300, False),  # the lease is not over
        (11, "log", 1, False),  # the database alone is away
        (11, "system", 1, True),  # which a thread writes even while the steps wait
        (11, "log", 12, True),
        (11, None, 0, True),
    ],
)
def test_a_host_that_reaches_nothing_is_cut_off(away_s: float, type_: str | None, age_s: float, expected: bool) -> None:
    own = {"log": {"level": "info", "message": "Epoch 1"}, "system": {"values": {}}}
    record = {"type": type_, "time": time.time() - age_s, "attempt": 1, "epoch": 1, "step": 1}
    unread = [parse_event({**record, **own[type_]})] if type_ else []
    assert is_cut_off(unread, away_s, limit_s=10) is expected


def test_long_steps_do_not_count_as_cut_off(settings: Any) -> None:
    clock = Clock()
    watchdog = Watchdog(clock)
    assert watchdog.cut_off_s == settings.HEARTBEAT_LEASE_S
    clock.now += 20
    watchdog.note_event()
    assert watchdog.cut_off_s == 60


def test_a_share_that_ended_unnoticed_ends_the_attempt(make: MAKE) -> None:
    clock = Clock()
    others = shares_of(running(make, hosts=3), clock)
    now = timezone.now()
    change(1, exit_code=3, ended_at=now + timedelta(seconds=1))
    change(2, exit_code=-9, ended_at=now + timedelta(seconds=2))
    others.look()
    assert others.problem is None, "the trainer notices it by itself"
    for _second in range(int(NOTICED_S) + 1):
        clock.now += 1
        others.look()
    assert others.problem is not None
    assert str(others.problem).startswith("The ranks on host 2 ended unexpectedly (signal 9, SIGKILL).")


def test_ranks_that_ended_as_told_are_no_problem(make: MAKE) -> None:
    clock = Clock()
    others = shares_of(running(make), clock)
    change(1, exit_code=0, ended_at=timezone.now())
    for _second in range(60):
        clock.now += 1
        others.look()
    assert others.problem is None


def test_the_end_of_the_trainer_ends_the_shares(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_S", 0.5)
    run = running(make, hosts=4)
    change(2, worker="")  # no worker has taken it yet
    change(3, exit_code=-9, ended_at=timezone.now())
    others = OtherHosts(run)
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 1:  # the worker of this one is alive
            change(1, exit_code=3, ended_at=timezone.now())

    lost = others.end(1, beat)
    assert lost is not None
    assert lost.params["host"] == "host 3"
    assert list(RunShare.objects.order_by("node_rank").values_list("exit_code", flat=True)) == [1, 3, None, -9]
    assert not RunShare.objects.filter(ended_at=None).exists()
    assert not any(host.is_away for host in Host.objects.all())
    assert beats == [1]


def test_a_host_that_does_not_respond_is_away_until_it_reports(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_S", 0.5)
    run = running(make)
    lost = OtherHosts(run).end(1, lambda: None)
    assert lost is not None
    assert (lost.code, lost.params["host"]) == ("rank_host_silent", "host 1")
    assert {host.name: host.is_away for host in Host.objects.all()} == {"host 0": False, "host 1": True}
    outcome = judge(run, End(None, -9, lost_share=lost))
    assert (outcome.to, outcome.data["error_class"], outcome.wait_s) == ("queued", "lost_rank", 0.0)
    assert "The worker on host 1" in str(outcome.message)


def test_a_worker_that_is_stopped_costs_no_restart(make: MAKE) -> None:
    run = running(make)
    change(1, is_leaving=True)
    others = shares_of(run, Clock())
    assert others.leaving == "host 1"
    outcome = judge(run, End(None, 0, left_host=others.leaving))
    assert (outcome.to, outcome.fields, outcome.message.code) == ("queued", {}, "rank_worker_leaves")


def test_where_rank_0_listens_is_stored_with_the_run(make: MAKE) -> None:
    run = running(make)
    run.folder.mkdir(parents=True)
    EventLog(run.folder / EVENTS_FILE, 1).write(Listening(address="10.0.0.1:4711"))
    EventStore(run).pull()
    assert list(RunShare.objects.order_by("node_rank").values_list("address", flat=True)) == ["10.0.0.1:4711", ""]


def test_the_end_of_an_attempt_closes_its_shares(make: MAKE) -> None:
    run = running(make)
    run.transition("queued")
    assert not RunShare.objects.filter(ended_at=None).exists()


def test_only_shares_of_this_host_and_of_attempts_in_progress_are_taken(make: MAKE, settings: Any) -> None:
    settings.CLUSTER_INTERFACE = "lo"
    run = running(make)
    assert ranks_on(run, 1, "host 1") == [1]
    change(1, worker="")
    assert take_shares() == [], "it is of another host"
    run.transition("queued")
    change(1, host=worker_id().partition(":")[0], ended_at=None)
    assert take_shares() == [], "the attempt is over"
    assert RunShare.objects.get(node_rank=1).worker == ""


def test_a_device_on_each_host_is_a_rank(make: MAKE) -> None:
    """In the order in which they were given: those of the host with rank 0 first."""
    run = running(make, hosts=3)
    assert [ranks_on(run, 1, f"host {number}") for number in range(3)] == [[0], [1], [2]]
    Device.objects.filter(host__name="host 0").update(index=7)
    assert ranks_on(run, 1, "host 0") == [0]
