"""SIGKILLs at random moments while one run trains on two hosts: nothing is stored twice, nothing is lost.

    sudo TEST_DATABASE_URL=postgres://... python benchmarks/host_kills.py [--kills 20] [--seed 0]

The hosts are those of hosts.py. Runs train on both, one after another, until so many kills have been made, an equal
number of each kind:

    rank 0        the trainer
    other rank    the process on the other host
    supervisor    the worker of the host with rank 0, alone
    agent         the worker of the other host, alone, which has started the rank there
    leader host   all processes of the host with rank 0 at once, its cable pulled out first: nobody is told

Workers and hosts come back after up to five seconds. Every second run may go on with the device of one host. Then each
run is compared with one that trained on one device and was not killed. `repeated` and `missing` count the events that
are stored twice or not at all, by their numbers, by what was not read of the files, and by the points of the curves;
`left` the holds and shares that are still open; `equal` says whether the last checkpoints and all evaluations are the
same, bit by bit. The last line is JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.hosts import (  # noqa: E402
    BRIDGE,
    CONFIG,
    HOSTS,
    TOGETHER,
    ClusterStudio,
    database,
    forward,
    kill_all,
    last_digests,
    networks,
    plug,
)
from tests.helpers.studio import TINY  # noqa: E402
from trainingapp.contract.system_series import SYSTEM  # noqa: E402
from trainingapp.operations.drill.comparison import SPEEDS  # noqa: E402

KINDS = ("rank 0", "other rank", "supervisor", "agent", "leader host")
IMAGES, EPOCHS = 120, 3
#: This share of the kills comes after steps of the attempt, within half of LONGEST_WAIT_S; the others within all of it
#: from the moment on at which they could be made, which is often before the first step.
WHILE_TRAINING, LONGEST_WAIT_S = 0.6, 8.0
LONGEST_AWAY_S = 5.0
ROUND_TIMEOUT_S = 1800.0
POLL_S = 0.05


class Kills:
    """Kills processes of the run that is training, and lets workers and hosts come back."""

    def __init__(self, studio: ClusterStudio, count: int, seed: int) -> None:
        self.studio, self.made = studio, Counter[str]()
        self.random = random.Random(seed)
        self._left = [KINDS[index % len(KINDS)] for index in range(count)]
        #: Run, attempt and step of the kill that is planned, and its kind; of the last one: only run and attempt.
        self._planned: tuple[int, int, int] | None = None
        self._kind = ""
        self._hit: tuple[int, int] | None = None
        self._due: float | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {host: studio.start_on(host) for host in HOSTS}

    @property
    def are_over(self) -> bool:
        return not self._left

    def step(self, run: dict[str, Any]) -> None:
        """Choose the next kill, one for each attempt, and make it when it is due."""
        place = (run["id"], run["attempt"])
        if place == self._hit:
            return
        shares = self._shares(run)
        if self._planned is None or self._planned[:2] != place:
            possible = [kind for kind in dict.fromkeys(self._left) if self._is_possible(kind, run, shares)]
            if not possible:
                return
            self._kind, self._planned, self._due = self.random.choice(possible), (*place, run["step"]), None
            if self.random.random() > WHILE_TRAINING:
                self._due = time.monotonic() + self.random.uniform(0.0, LONGEST_WAIT_S)
        if self._due is None and run["step"] != self._planned[2]:
            self._due = time.monotonic() + self.random.uniform(0.0, LONGEST_WAIT_S / 2)
        if self._due is None or time.monotonic() < self._due or not self._is_possible(self._kind, run, shares):
            return
        if self._kill(self._kind, run, shares):
            self._left.remove(self._kind)
            self.made[self._kind] += 1
            self._hit = place
            print(f"{sum(self.made.values()):>3} {self._kind:<12} attempt {place[1]}, step {run['step']}", flush=True)
        self._planned = None

    def _shares(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        sql = "SELECT * FROM trainingapp_runshare WHERE run_id = ? AND attempt = ? ORDER BY node_rank"
        return self.studio.rows(sql, run["id"], run["attempt"])

    def _is_possible(self, kind: str, run: dict[str, Any], shares: list[dict[str, Any]]) -> bool:
        if run["status"] != "running" or not run["pid"] or run["host"] not in self.workers:
            return False
        return kind not in ("other rank", "agent") or (len(shares) > 1 and bool(shares[1]["pid"]))

    def _kill(self, kind: str, run: dict[str, Any], shares: list[dict[str, Any]]) -> bool:
        if kind in ("rank 0", "other rank"):
            return killed(run["pid"] if kind == "rank 0" else shares[1]["pid"])
        host = shares[1]["host"] if kind == "agent" else run["host"]
        if kind == "leader host":
            plug(host, into=None)
            kill_all(host)
        else:
            self.workers[host].kill()
        self.workers[host].wait()
        time.sleep(self.random.uniform(0.0, LONGEST_AWAY_S))
        if kind == "leader host":
            plug(host, into=BRIDGE)
        self.workers[host] = self.studio.start_on(host)
        return True


def killed(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the kinds and the moments")
    parser.add_argument(
        "--database", default=os.environ.get("TEST_DATABASE_URL", ""), help="URL of a PostgreSQL server"
    )
    arguments = parser.parse_args()
    if not arguments.database:
        parser.error("needs a PostgreSQL server: --database or TEST_DATABASE_URL")
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder, database(arguments.database), networks():
        forward(arguments.database)
        unlimited = {"MAX_RECOVERIES": "100", "RETRY_WAIT_S": "0"}
        studio = ClusterStudio(Path(folder) / "data", arguments.database, **unlimited)
        (reference,) = studio.prepare(start=True, images=IMAGES, **{**CONFIG, "epochs": EPOCHS})
        try:
            figures = measure(studio, reference, arguments.kills, arguments.seed)
        finally:
            studio.cut_power()
    print(json.dumps(figures))


def measure(studio: ClusterStudio, reference: int, count: int, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    kills = Kills(studio, count, seed)
    studio.wait_for_status(reference, "completed", 600)
    found: list[dict[str, Any]] = []
    while not kills.are_over:
        run = new_run(studio, devices_at_least=1 + len(found) % 2)
        train(studio, run, kills)
        found.append(compared(studio, run, reference))
        print(f"run {run}: {found[-1]}", flush=True)
    return {
        "kills": dict(kills.made),
        "runs": len(found),
        "attempts": sum(one["attempts"] for one in found),
        "repeated": sum(one["repeated"] for one in found),
        "missing": sum(one["missing"] for one in found),
        "left": sum(one["left"] for one in found),
        "equal": all(one["equal"] for one in found),
        "seconds": round(time.monotonic() - began),
    }


def new_run(studio: ClusterStudio, devices_at_least: int) -> int:
    """A queued run that trains on both hosts, or on as many devices at least."""
    config = {**TINY, **CONFIG, "epochs": EPOCHS, **TOGETHER, "devices_at_least": devices_at_least}
    run: int = studio.python(
        f"""
        from tests.helpers.tiny import make_run
        from django.contrib.auth.models import User
        from trainingapp.models import Dataset
        result = make_run(User.objects.get(), Dataset.objects.get(), start=True, **{config!r}).pk
        """
    )
    return run


def train(studio: ClusterStudio, run: int, kills: Kills) -> None:
    deadline = time.monotonic() + ROUND_TIMEOUT_S
    while (row := studio.run(run))["status"] != "completed":
        if row["status"] not in ("queued", "running") or time.monotonic() > deadline:
            raise SystemExit(f"Run {run} is {row['status']}. {row['error_message']}")
        if not kills.are_over:
            kills.step(row)
        time.sleep(POLL_S)


def compared(studio: ClusterStudio, run: int, reference: int) -> dict[str, Any]:
    """What of the run is stored twice, not at all, or differs from the reference."""
    row = studio.run(run)
    numbers, expected = studio.numbers(run), set(range(1, row["event_seq"] + 1))
    ours, theirs = points(studio, run), points(studio, reference)
    unread = (studio.data_dir / "runs" / str(run) / "events.jsonl").stat().st_size - row["event_offset"]
    still_open = [
        *studio.rows("SELECT id FROM trainingapp_devicehold WHERE run_id = ? AND released_at IS NULL", run),
        *studio.rows("SELECT id FROM trainingapp_runshare WHERE run_id = ? AND ended_at IS NULL", run),
    ]
    return {
        "attempts": row["attempt"],
        "repeated": len(numbers) - len(set(numbers)) + (ours - theirs).total(),
        "missing": len(expected - set(numbers)) + (theirs - ours).total() + bool(unread),
        "left": len(still_open),
        "equal": last_digests(studio, run) == last_digests(studio, reference)
        and evaluations(studio, run) == evaluations(studio, reference),
    }


def points(studio: ClusterStudio, run: int) -> Counter[str]:
    """The points of the curves that count, without what depends on the speed of the machine."""
    found: Counter[str] = Counter()
    for event in studio.events(run, "metrics"):
        data = event["data"]
        if not event["superseded"] and data["split"] != SYSTEM:
            values = {name: value for name, value in data["values"].items() if name not in SPEEDS}
            found[json.dumps([event["step"], data["split"], values], sort_keys=True)] += 1
    return found


def evaluations(studio: ClusterStudio, run: int) -> dict[str, Any]:
    folder = studio.data_dir / "runs" / str(run) / "evaluations"
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    main()
