"""The drill: processes are killed at random moments while runs train; the completed runs are then compared."""

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from pydantic import JsonValue

from trainingapp.contract.events import AnyEvent, read_events
from trainingapp.contract.storage.durable import DURABLE_WITHIN_S
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.operations.drill.comparison import Facts, differences, facts_of, gaps
from trainingapp.operations.drill.installation import TARGETS, DrillError, Installation
from trainingapp.operations.drill.losses import EpochEnds, Loss, durable_seconds, losses
from trainingapp.operations.drill.reader import StreamReader

#: Small networks on small images, so that a kill hits every phase of a run within seconds.
CONFIGS: dict[str, dict[str, JsonValue]] = {name: dict(task.drill) for name, task in TASKS.items() if task.drill}
COMMON: dict[str, JsonValue] = {
    "image_size": 64,
    "device": "cpu",
    "cpu_threads": 1,
    "amp": "off",
    "autosave_minutes": 0.01,
    "log_every_steps": 1,
    "warmup_epochs": 0,
}
IMAGES, SIZE = 60, 48
DATASET = "Drill"
POLL_S = 0.05
#: The maximum wait before a kill. A start takes some seconds, so that some kills hit the start and some the training.
LONGEST_WAIT_S = 5.0
#: How long the end of an epoch is waited for, how often it is looked for, and the maximum wait after it.
LONGEST_EPOCH_S = 20.0
EPOCH_POLL_S = 0.005
LONGEST_SAVE_S = 0.2
ROUND_TIMEOUT_S = 900.0
#: Time in which the readers of the streams must receive the last events after the end of a round.
READERS_TIMEOUT_S = 60.0
PASSWORD = "of a studio that lives for minutes"  # noqa: S105 - the installation is removed afterwards

#: Called with the number of kills so far and what happens now.
ReportProgress = Callable[[int, str], object]


class Summary(TypedDict):
    """The worst and the median of what was measured, null without a measurement, and the worst that was promised."""

    worst: float | None
    median: float | None
    promised: float | None


class ReportRecord(TypedDict):
    """The JSON form of a report. `lost_steps` counts steps that were repeated after the kill of a trainer, `durable_s`
    the seconds from the beginning of a save until the checkpoint was on the disk."""

    certified: bool
    kills: dict[str, int]
    runs: dict[str, int]
    problems: list[str]
    lost_steps: Summary
    durable_s: Summary
    seconds: float


@dataclass
class Report:
    """Kills by target, runs by task, every difference found, what kills of trainers cost, and how long saves took."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    durable_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_certified(self) -> bool:
        return not self.problems

    @property
    def lost_steps(self) -> Summary:
        promised = max((loss.promised for loss in self.losses), default=None)
        return _summary([loss.steps for loss in self.losses], promised)

    def add_work(self, run_id: int, task: str, events: Sequence[AnyEvent]) -> None:
        """Take in what kills have cost a run."""
        found = losses(events)
        self.losses += found
        self.durable_s += durable_seconds(events)
        self.problems += [
            f"run {run_id} ({task}): a kill cost {loss.steps} steps, at most {loss.promised} were promised"
            for loss in found
            if loss.steps > loss.promised
        ]

    def as_json(self) -> ReportRecord:
        return {
            "certified": self.is_certified,
            "kills": dict(self.kills),
            "runs": dict(self.runs),
            "problems": self.problems,
            "lost_steps": self.lost_steps,
            "durable_s": _summary([round(seconds, 3) for seconds in self.durable_s], DURABLE_WITHIN_S),
            "seconds": round(self.seconds, 1),
        }


def _summary(values: Sequence[float], promised: float | None) -> Summary:
    median = statistics.median(values) if values else None
    return {"worst": max(values, default=None), "median": median, "promised": promised}


class Drill:
    """Kills `kills` processes of `studio` while runs of `tasks` train in it."""

    def __init__(
        self, studio: Installation, tasks: Sequence[str], kills: int, seed: int, report_progress: ReportProgress
    ) -> None:
        self.studio, self.tasks, self.wanted_kills = studio, list(tasks), kills
        self.report_progress = report_progress
        self.random = random.Random(seed)  # noqa: S311 - chooses moments, not secrets
        self.report = Report()

    def hold(self) -> Report:
        """Prepare the studio, train once without a kill, then in rounds with kills. Raises DrillError."""
        began = time.monotonic()
        try:
            token = self._prepare()
            self.studio.keep_up()
            self.report_progress(0, "training without kills, for comparison")
            runs = self._start_runs()
            self._wait(runs, killing=False)
            expected = {task: facts_of(self.studio, run_id) for task, run_id in runs.items()}
            for task, run_id in runs.items():
                if self.studio.run(run_id)["attempt"] != 1:  # a comparison with a recovered run would prove nothing
                    raise DrillError(f"The run without kills for {task} was interrupted.")
            while self._kills < self.wanted_kills:
                self._round(token, expected)
        finally:
            self.studio.end()
        self.report.seconds = time.monotonic() - began
        return self.report

    @property
    def _kills(self) -> int:
        return sum(self.report.kills.values())

    def _prepare(self) -> str:
        """Create the database, an account and the dataset; returns an API token with the scope read."""
        studio = self.studio
        studio.manage("migrate", "-v0")
        studio.manage(
            "createsuperuser", "--no-input", "--username=drill", "--email=", DJANGO_SUPERUSER_PASSWORD=PASSWORD
        )
        studio.manage("demo", "--name", DATASET, "--images", str(IMAGES), "--size", str(SIZE))
        return studio.manage("token", "create", "drill", "--user", "drill", "--scope", "read").strip()

    def _round(self, token: str, expected: dict[str, Facts]) -> None:
        """Train one run of each task with kills until it is completed, then compare it with `expected`."""
        runs = self._start_runs()
        readers = {run_id: StreamReader(self.studio.port, token, run_id) for run_id in runs.values()}
        try:
            self._wait(runs, killing=True)
            deadline = time.monotonic() + READERS_TIMEOUT_S
            while time.monotonic() < deadline:
                self.studio.keep_up()  # the last kill may have hit the web server
                if all(reader.has_seen(self.studio.run(run_id)["event_seq"]) for run_id, reader in readers.items()):
                    break
                time.sleep(POLL_S)
        finally:
            for reader in readers.values():
                reader.end()
        for task, run_id in runs.items():
            found = differences(facts_of(self.studio, run_id), expected[task])
            found += gaps(self.studio, run_id, readers[run_id].numbers)
            self.report.runs[task] += 1
            self.report.problems += [f"run {run_id} ({task}): {sentence}" for sentence in found]
            self.report.add_work(
                run_id, task, [event for event, _ in read_events(self.studio.events_file(run_id), 0, -1)]
            )

    def _start_runs(self) -> dict[str, int]:
        runs = {}
        for task in self.tasks:
            values = {"task": task, **COMMON, **CONFIGS[task]}
            settings = [part for name, value in values.items() for part in ("--set", f"{name}={json.dumps(value)}")]
            created = self.studio.manage("train", "create", task, "--dataset", DATASET, *settings, "--start", "--json")
            runs[task] = int(json.loads(created)["id"])
        return runs

    def _wait(self, runs: dict[str, int], *, killing: bool) -> None:
        """Wait until all runs are completed. Raises DrillError for another end, or none within ROUND_TIMEOUT_S."""
        deadline = time.monotonic() + ROUND_TIMEOUT_S
        kill_at = self._next_kill()
        while True:
            self.studio.keep_up()
            states = {run_id: self.studio.run(run_id) for run_id in runs.values()}
            if all(state["status"] == "completed" for state in states.values()):
                return
            for run_id, state in states.items():
                if state["status"] not in ("queued", "running", "completed"):
                    raise DrillError(f"Run {run_id} is {state['status']}: {state['error_message']}")
            if time.monotonic() > deadline:
                raise DrillError(f"The runs {sorted(states)} did not end within {ROUND_TIMEOUT_S:.0f} s.")
            if killing and time.monotonic() >= kill_at and self._kills < self.wanted_kills:
                self._kill(self.random.choice(TARGETS), runs.values())
                kill_at = self._next_kill()
            time.sleep(POLL_S)

    def _kill(self, target: str, runs: Collection[int]) -> None:
        """Kill the target if it is running, and count that."""
        if target == "trainer":
            was_running = self.studio.kill_trainer(runs)
        elif target == "trainer_after_epoch":
            was_running = self._kill_after_epoch(runs)
        else:
            was_running = self.studio.kill(target)
        if was_running:
            self.report.kills[target] += 1
            self.report_progress(self._kills, f"killed the {target.replace('_', ' ')}")

    def _kill_after_epoch(self, runs: Collection[int]) -> bool:
        """Kill the trainer that ends an epoch first, while it saves the checkpoint or shortly after."""
        ends = {run_id: EpochEnds(self.studio.events_file(run_id)) for run_id in runs}
        deadline = time.monotonic() + LONGEST_EPOCH_S
        while time.monotonic() < deadline:
            for run_id, end in ends.items():
                if end.has_come():
                    time.sleep(self.random.uniform(0.0, LONGEST_SAVE_S))
                    return self.studio.kill_trainer([run_id])
            time.sleep(EPOCH_POLL_S)
        return False

    def _next_kill(self) -> float:
        return time.monotonic() + self.random.uniform(0.0, LONGEST_WAIT_S)
