"""How long a decision of the scheduler takes, and how well it fills a cluster with runs on one and on several devices.

    python benchmarks/scheduler.py [--quick]

Plays a queue through by the rules of the scheduler, without a database and without training: whenever a run ends, its
host claims what is to start there, as a worker does. 10,000 runs on 125 hosts with eight GPUs each (with --quick 600 on
16); 70 in 100 on one GPU, the others on two, four or eight; lengths from minutes to hours.

The ideal is a packing without any gap: the work of all runs divided by the number of GPUs, but not less than the
longest run. The last line is JSON: `decision_ms` (median, 99 in 100 and most), `makespan_h` and `ideal_h`, `busy` (the
share of GPU time in use until the queue is empty), `longest_wait_h` by the number of GPUs, and `overtaken`, the most
runs of fewer GPUs that were behind a run in the queue and started before it.
"""

import argparse
import heapq
import itertools
import json
import math
import os
import random
import statistics
import time
from datetime import UTC, datetime

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")

import django

django.setup()

from trainingapp.scheduling.placement import (  # noqa: E402
    GB,
    ClusterState,
    DeviceSlot,
    Machine,
    Request,
    Waiting,
    first_fitting,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPUS_PER_HOST = 8
#: Of 100 runs, how many train on so many GPUs.
MIX = {1: 70, 2: 14, 4: 10, 8: 6}
HOUR_S = 3600.0
OWNERS = 20


def cluster_of(hosts: int) -> ClusterState:
    machines = []
    for host in range(hosts):
        machine = Machine(f"host {host:03}", GPUS_PER_HOST, is_away=False)
        size = {"memory_bytes": 80 * GB, "memory_free_bytes": 80 * GB}
        for index in range(GPUS_PER_HOST):
            number = host * GPUS_PER_HOST + index
            machine.devices.append(DeviceSlot(number, machine.name, "gpu", index, 1, "NVIDIA H100", **size))
        machines.append(machine)
    return ClusterState(machines)


def queue_of(runs: int, seed: int) -> tuple[list[Waiting], dict[int, float]]:
    """The runs in their order, and the seconds that each takes: half of them less than an hour, some most of a day."""
    random_ = random.Random(seed)
    counts = random_.choices(list(MIX), list(MIX.values()), k=runs)
    queue = [
        Waiting(number, f"run {number}", number % OWNERS, Request("gpu", count=count, at_least=count))
        for number, count in enumerate(counts, 1)
    ]
    lengths = {run.pk: min(20 * HOUR_S, random_.lognormvariate(math.log(HOUR_S), 1.0)) for run in queue}
    return queue, lengths


class Played:
    """The queue played through: when each run started, and how long the decisions took."""

    def __init__(self, hosts: int, runs: int, seed: int) -> None:
        self.cluster, (queue, self.lengths) = cluster_of(hosts), queue_of(runs, seed)
        self.queue = {run.pk: run for run in queue}
        self.counts = {run.pk: run.request.count for run in queue}
        self.started_s: dict[int, float] = {}
        self.decisions_ms: list[float] = []
        self._ends: list[tuple[float, int, str]] = []

    def play(self) -> float:
        """Returns the seconds until the last run has ended."""
        clock_s = 0.0
        machines = self.cluster.machines
        for machine in machines:
            self._claim(machine, clock_s)
        others = itertools.cycle(machines)
        by_name = {machine.name: machine for machine in machines}
        while self._ends:
            clock_s, number, host = heapq.heappop(self._ends)
            self.cluster.release(number, number % OWNERS)
            self._claim(by_name[host], clock_s)
            # Workers of other hosts look now and then as well.
            self._claim(next(others), clock_s)
        return clock_s

    def _claim(self, machine: Machine, clock_s: float) -> None:
        """What the worker of a host starts there, until nothing fits."""
        while self.queue:
            began = time.thread_time()
            chosen = first_fitting(self.cluster, self.queue.values(), NOW, machine.name)
            self.decisions_ms.append((time.thread_time() - began) * 1000)
            if chosen is not None:
                run, _assignment = chosen
                del self.queue[run.pk]
                self.started_s[run.pk] = clock_s
                heapq.heappush(self._ends, (clock_s + self.lengths[run.pk], run.pk, machine.name))
            self._forget_others()
            if chosen is None:
                return

    def _forget_others(self) -> None:
        """What the decision left to other hosts is not running: a worker reads the holds from the database."""
        for machine in self.cluster.machines:
            for device in machine.devices:
                if device.holds and device.holds[0].run_id in self.queue:
                    device.holds.clear()


def overtaken(played: Played) -> int:
    """The most runs on fewer GPUs that were behind a run on several and started before it, of a sample."""
    gangs = [pk for pk, count in played.counts.items() if count > 1]
    worst = 0
    for gang in random.Random(1).sample(gangs, min(200, len(gangs))):
        start_s, count = played.started_s[gang], played.counts[gang]
        behind = (pk for pk, at_s in played.started_s.items() if pk > gang and at_s < start_s)
        worst = max(worst, sum(played.counts[pk] < count for pk in behind))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="600 runs on 16 hosts")
    hosts, runs = (16, 600) if parser.parse_args().quick else (125, 10_000)
    played = Played(hosts, runs, seed=7)
    makespan_s = played.play()
    gpus = hosts * GPUS_PER_HOST
    work_s = sum(played.lengths[pk] * count for pk, count in played.counts.items())
    ideal_s = max(work_s / gpus, max(played.lengths.values()))
    # Until the last run has started every GPU could be in use; after that, what is left runs out.
    last_s = max(played.started_s.values())
    used_s = sum(min(played.lengths[pk], last_s - at_s) * played.counts[pk] for pk, at_s in played.started_s.items())
    ordered = sorted(played.decisions_ms)
    decision_ms = {
        "median": statistics.median(ordered),
        "p99": ordered[len(ordered) * 99 // 100],
        "most": ordered[-1],
    }
    waits: dict[int, float] = {}
    for pk, at_s in played.started_s.items():
        waits[played.counts[pk]] = max(at_s / HOUR_S, waits.get(played.counts[pk], 0.0))
    report = {
        "runs": runs,
        "gpus": gpus,
        "started": len(played.started_s),
        "decisions": len(ordered),
        "decision_ms": {name: round(value, 3) for name, value in decision_ms.items()},
        "makespan_h": round(makespan_s / HOUR_S, 2),
        "ideal_h": round(ideal_s / HOUR_S, 2),
        "busy": round(used_s / (last_s * gpus), 3),
        "longest_wait_h": {str(count): round(hours, 2) for count, hours in sorted(waits.items())},
        "overtaken": overtaken(played),
    }
    print(f"{runs} runs on {gpus} GPUs of {hosts} hosts, {len(ordered)} decisions")
    for name, value in report.items():
        print(f"  {name:15} {value}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
