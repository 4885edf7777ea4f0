"""One run on two hosts with a network between them, and how soon it continues when one of them is lost.

    sudo python benchmarks/hosts.py [--quick]

The hosts are network namespaces with one cable: each has its worker, its name, its address and one CPU slot. They share
the folder and the database, a file. Nothing else connects them, so that the ranks find each other by
CLUSTER_INTERFACE or not at all. It needs Linux and the right to make network namespaces.

    step_ms     median time between two steps, on one host and on two
    resumed_s   from the SIGKILL to all processes of the host without rank 0, to the first step of the next attempt on
                the host that is left (`devices_at_least` is 1)

`equal` is true where the last checkpoints of a run on one host, of one on two, and of one that lost a host are the
same, bit by bit. The last line is JSON.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.helpers.studio import TINY, Studio, wait_for  # noqa: E402
from trainingapp.contract.events import EVENTS_FILE, Metrics, read_events  # noqa: E402
from trainingapp.engine.digest import digests  # noqa: E402

#: Names of the hosts, with their addresses on a network of their own.
HOSTS = {"barn": "10.211.0.1", "shed": "10.211.0.2"}
INTERFACE = "lan0"
CONFIG: dict[str, Any] = {
    **TINY,
    "batch_size": 2,
    "accumulation_steps": 2,
    "autosave_minutes": 0.05,
}
TOGETHER: dict[str, Any] = {"device_count": 2, "hosts_at_most": 2, "devices_at_least": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    images = 96 if parser.parse_args().quick else 400
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder, networks():
        studio = Studio(Path(folder) / "data")
        runs = studio.prepare(runs=3, start=False, images=images, **{**CONFIG, "epochs": 2})
        try:
            figures = measure(studio, *runs)
        finally:
            studio.cut_power()
    print(json.dumps(figures))


def measure(studio: Studio, alone: int, together: int, broken: int) -> dict[str, Any]:
    workers = {host: start_worker(studio, host) for host in HOSTS}
    for run in (together, broken):
        let_have_two_hosts(studio, run)
    for run in (alone, together):
        studio.manage("train", "start", str(run))
        studio.wait_for_status(run, "completed", 600)
    studio.manage("train", "start", str(broken))
    row = studio.wait_for_step(broken, studio.run(together)["step"] // 3, 600)
    wait_for(lambda: studio.rows("SELECT 1 FROM trainingapp_checkpoint WHERE run_id = ?", broken), 60, "a checkpoint")
    (lost,) = set(HOSTS) - {row["host"]}
    killed_at = time.time()
    kill_all(lost)
    times = wait_for(lambda: step_times(studio, broken, attempt=2), 600, "the next attempt trains")
    resumed_s = times[0] - killed_at
    studio.wait_for_status(broken, "completed", 600)
    workers[lost].wait()
    results = [last_digests(studio, run) for run in (alone, together, broken)]
    figures = {
        "step_ms_one": step_ms(studio, alone),
        "step_ms_two": step_ms(studio, together),
        "resumed_s": round(resumed_s, 1),
        "equal": results[0] == results[1] == results[2],
    }
    for name, value in figures.items():
        print(f"{name:<14}{value!s:>10}")
    return figures


def let_have_two_hosts(studio: Studio, run: int) -> None:
    """Give the run, which was made for one device, the devices of two hosts."""
    studio.python(
        f"""
        from trainingapp.models import TrainingRun
        run = TrainingRun.objects.get(pk={run})
        run.config = run.config | {TOGETHER!r}
        run.save()
        """
    )


@contextmanager
def networks() -> Iterator[None]:
    """A network namespace for each host, joined by a cable."""
    first, second = HOSTS
    remove_networks()
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", INTERFACE, "netns", first, "type", "veth", "peer", "name", INTERFACE, "netns", second)
        for host, address in HOSTS.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                ip("-n", host, "link", "set", interface, "up")
        yield
    finally:
        remove_networks()


def remove_networks() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=False, stderr=subprocess.DEVNULL)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def start_worker(studio: Studio, host: str) -> "subprocess.Popen[bytes]":
    """A worker in the network of the host."""
    settings = {"HOST_NAME": host, "CLUSTER_INTERFACE": INTERFACE, "MAX_TRAINING_PROCESSES": "1"}
    with studio.log.open("ab") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, "manage.py", "run_huey"],
            cwd=ROOT,
            env={**studio.env, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    studio.processes.append(process)
    return process


def kill_all(host: str) -> None:
    """SIGKILL to all processes of the host at once."""
    for pid in ip("netns", "pids", host).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def step_times(studio: Studio, run: int, attempt: int) -> list[float]:
    """When an attempt made its steps, each of which has a point, in Unix seconds."""
    path = studio.data_dir / "runs" / str(run) / EVENTS_FILE
    events = [event for event, _offset in read_events(path, 0, -1) if isinstance(event, Metrics)]
    return [event.time for event in events if event.split == "train" and event.attempt == attempt]


def step_ms(studio: Studio, run: int) -> float:
    """The median time between two steps."""
    times = step_times(studio, run, 1)
    return round(1000 * statistics.median(later - earlier for earlier, later in pairwise(times)), 1)


def last_digests(studio: Studio, run: int) -> Any:
    folder = studio.data_dir / "runs" / str(run) / "checkpoints"
    return digests(folder / json.loads((folder / "index.json").read_text())[-1]["file"])


if __name__ == "__main__":
    main()
