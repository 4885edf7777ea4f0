"""Verbs, trainers, kills and restarts in random order: the status of each run stays accurate and no run is lost.

Rows, events, claims, recovery and verdicts are the real ones. The trainers are played here, for there are thousands:
they write the events that the engine writes. `manage.py drill` does the same with real ones.
"""

import shutil
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.helpers.events import write
from tests.helpers.searches import IS_NEW, search
from tests.helpers.world import stored_events
from trainingapp.contract.config import parse_config
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.models import Dataset, DeviceHold, Host, RunEvent, TrainingRun
from trainingapp.models.run import ALLOWED_MOVES, Status
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import recover_run
from trainingapp.supervision.event_store import EventStore, LostRunError
from trainingapp.supervision.outcome import End
from trainingapp.supervision.supervision import settle

HOSTS = ("one", "two")
VERBS = ("start", "pause", "resume", "stop", "force_stop", "retry")
ORDERS = ("checkpoint_now", "evaluate_now")
MOST_RUNS = 4
TOTAL_STEPS = 1000


@dataclass
class Played:
    """An attempt in the hands of a worker: its supervisor's store, and its trainer, which may outlive it."""

    run_id: int
    store: EventStore
    log: EventLog
    step: int
    is_trainer_alive: bool = True
    final: str = ""
    wrote: list[int] = field(default_factory=list)


class Studio(RuleBasedStateMachine):
    """`held` has what living workers hold, `ghosts` what workers held that were given up and may wake up again."""

    runs_dir: Path
    numbers = count(1)

    @initialize()
    def prepare(self) -> None:
        self.user = User.objects.create_user(f"ada{next(self.numbers)}")
        self.dataset = Dataset.objects.create(
            name=f"pets{next(self.numbers)}",
            owner=self.user,
            source="/nowhere",
            status=Dataset.Status.READY,
            classes=["blue", "red"],
            tasks=["classification"],
            images={"train": 8, "val": 4},
        )
        self.held: dict[int, Played] = {}
        self.ghosts: list[Played] = []
        #: By run: the step of its newest checkpoint, and whether any trainer reported that it is complete.
        self.saved: dict[int, int] = {}
        self.completed: set[int] = set()
        self.deleted: set[int] = set()
        for _number in range(2):
            self.create(0)
            run_verbs.start_run(self._runs()[-1])

    # What people do

    @precondition(lambda self: len(self._runs()) < MOST_RUNS)
    @rule(priority=st.integers(-1, 1))
    def create(self, priority: int) -> None:
        config = parse_config({"device": "cpu"})
        run_verbs.create_run(owner=self.user, name="try", dataset=self.dataset, config=config, priority=priority)

    @precondition(lambda self: self._runs())
    @rule(data=st.data(), verb=st.sampled_from(VERBS))
    def ask(self, data: st.DataObject, verb: str) -> None:
        self._try(getattr(run_verbs, f"{verb}_run"), self._pick(data))

    @precondition(lambda self: self._runs())
    @rule(data=st.data(), order=st.sampled_from(ORDERS))
    def order(self, data: st.DataObject, order: str) -> None:
        self._try(getattr(run_verbs, order), self._pick(data))

    @precondition(lambda self: self._runs())
    @rule(data=st.data(), epochs=st.integers(1, 30))
    def extend(self, data: st.DataObject, epochs: int) -> None:
        run = self._pick(data)
        if self._try(run_verbs.extend_run, run, epochs):
            self.completed.discard(run.pk)

    @precondition(lambda self: self._runs())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        run = self._pick(data)
        number = run.pk
        if self._try(run_verbs.delete_run, run):
            self.deleted.add(number)
            assert not (self.runs_dir / str(number)).exists()

    def _try(self, verb: Any, run: TrainingRun, *arguments: Any) -> bool:
        """A verb that is refused changes nothing at all."""
        before = TrainingRun.objects.filter(pk=run.pk).values().get()
        try:
            verb(run, *arguments)
        except VerbError:
            assert TrainingRun.objects.filter(pk=before["id"]).values().get() == before
            return False
        return True

    # What workers and trainers do

    @rule(host=st.sampled_from(HOSTS))
    def claim(self, host: str) -> None:
        run = claim_next(host, f"{host}:{next(self.numbers)}:1.0")
        if run is None:
            return
        assert run.pk not in self.held
        run.folder.mkdir(parents=True, exist_ok=True)
        played = Played(
            run.pk, EventStore(run), EventLog(run.folder / EVENTS_FILE, run.attempt), self.saved.get(run.pk, 0)
        )
        played.log.epoch, played.log.step = 1, played.step
        write(
            played.log, "status", state="started", device="cpu", resumed_from=None, validation_due=False, batch_size=4
        )
        self.held[run.pk] = played

    @precondition(lambda self: self._living())
    @rule(data=st.data(), steps=st.integers(1, 3), seen=st.booleans())
    def train(self, data: st.DataObject, steps: int, seen: bool) -> None:
        played = self._pick_living(data)
        self._train(played, steps)
        if seen and self.held.get(played.run_id) is played:
            self._pull(played)

    def _train(self, played: Played, steps: int) -> None:
        for _number in range(steps):
            played.step += 1
            played.log.step = played.step
            write(played.log, "metrics", split="train", values={"loss": 1.0 / played.step})
        values = {"phase": "train", "total_epochs": 20, "total_steps": TOTAL_STEPS, "elapsed_s": 1.0, "eta_s": 1.0}
        write(played.log, "progress", **values)

    @precondition(lambda self: self._living())
    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        self._save(self._pick_living(data))

    def _save(self, played: Played) -> None:
        values = {"step_in_epoch": played.step, "reason": "autosave", "size_bytes": 1, "metrics": {}, "is_best": False}
        file = f"step_{played.step}.pt"
        write(played.log, "checkpoint", file=file, sha256="0" * 64, removed=[], **values)
        if not self._is_ghost(played):
            self.saved[played.run_id] = played.step

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def pull(self, data: st.DataObject) -> None:
        self._pull(self._pick_held(data))

    def _pull(self, played: Played) -> bool:
        try:
            played.store.pull_all()
        except LostRunError:
            self._release(played)
            return False
        return True

    @precondition(lambda self: self._living())
    @rule(data=st.data(), how=st.sampled_from(["completed", "interrupted", "failed", "killed", "as wished"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """The trainer ends and its supervisor sees it."""
        played = self._pick_living(data)
        if self.held.get(played.run_id) is not played or not self._pull(played):
            return
        self._end(played, how)

    def _end(self, played: Played, how: str) -> None:
        wanted = played.store.run.requested_action
        if how == "as wished":
            how = {"pause": "paused", "stop": "stopped"}.get(wanted, "interrupted")
        if how != "killed":
            self._save(played)
            self._report_final(played, how)
        played.is_trainer_alive = False
        if self._pull(played):
            exit_code = -9 if how == "killed" else 0
            settle(played.store, End(played.store.final, exit_code, is_shutting_down=how == "interrupted"))
            self._release(played)

    def _report_final(self, played: Played, how: str) -> None:
        failure = {"error_class": "bad_data", "message": "An image is broken.", "lines": []} if how == "failed" else {}
        write(played.log, "status", state=how, **failure)
        played.final = how
        if how == "completed":
            self.completed.add(played.run_id)

    # What goes wrong

    @precondition(lambda self: self.held)
    @rule(data=st.data(), trainer_dies=st.booleans(), torn=st.booleans())
    def worker_is_killed(self, data: st.DataObject, trainer_dies: bool, torn: bool) -> None:
        """The worker ends; the trainer may continue for a while, or die while writing a line."""
        played = self._pick_held(data)
        del self.held[played.run_id]
        self.ghosts.append(played)
        if trainer_dies:
            played.is_trainer_alive = False
            if torn:
                with (self.runs_dir / str(played.run_id) / EVENTS_FILE).open("ab") as file:
                    file.write(b'{"type": "metrics", "st')

    @precondition(lambda self: self._runs("running"))
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """Another worker takes the run for lost, rightly or because its own was slow."""
        run = data.draw(st.sampled_from(self._runs("running")))
        for played in [*self.ghosts, *self.held.values()]:
            if played.run_id == run.pk:
                played.is_trainer_alive = False  # its folder's lock makes the next trainer wait for that
        recover_run(run)
        if (played := self.held.pop(run.pk, None)) is not None:
            self.ghosts.append(played)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), steps=st.integers(0, 3), host=st.sampled_from(HOSTS))
    def power_cut(self, data: st.DataObject, steps: int, host: str) -> None:
        """Worker and trainer die at any moment; after the restart a worker continues."""
        played = self._pick_held(data)
        self._train(played, steps)
        if steps == 1:
            self._pull(played)
        played.is_trainer_alive = False
        if self.held.pop(played.run_id, None) is not None:
            recover_run(TrainingRun.objects.get(pk=played.run_id))
        self.claim(host)

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def ghost_wakes_up(self, data: st.DataObject) -> None:
        """A worker that was given up stores and judges as if nothing had happened: only if the run is still its own."""
        ghost = data.draw(st.sampled_from(self.ghosts))
        self.ghosts.remove(ghost)
        if ghost.run_id in self.deleted:
            with pytest.raises(LostRunError):
                ghost.store.pull()
            return
        row = TrainingRun.objects.get(pk=ghost.run_id)
        is_its_own = (row.status, row.attempt, row.worker) == (Status.RUNNING, *ghost.store.fence)
        if is_its_own:
            self.held[ghost.run_id] = ghost
        else:
            with pytest.raises(LostRunError):
                ghost.store.pull()

    # What always holds

    @invariant()
    def events_are_numbered_without_a_gap(self) -> None:
        for run in self._runs():
            numbers = [event.seq for event in stored_events(run.pk)]
            assert numbers == list(range(1, run.event_seq + 1))

    @invariant()
    def statuses_move_by_the_table_and_are_all_written_down(self) -> None:
        for run in self._runs():
            moves = [row.data for row in run.events.filter(type=RunEvent.Type.STATUS) if "to" in row.data]
            for one, other in pairwise(moves):
                assert one["to"] == other["from"]
            assert all(move["to"] in ALLOWED_MOVES[move["from"]] for move in moves)
            assert (moves[-1]["to"] if moves else Status.PENDING) == run.status
            assert run.attempt == sum(move["to"] == Status.RUNNING for move in moves)

    @invariant()
    def running_runs_and_only_those_have_a_worker_and_a_device(self) -> None:
        for run in self._runs():
            is_running = run.status == Status.RUNNING
            assert bool(run.worker) == is_running
            assert run.holds.filter(released_at=None).count() == int(is_running)
            assert is_running or not run.requested_action

    @invariant()
    def no_device_is_given_away_twice(self) -> None:
        for host in Host.objects.all():
            held = DeviceHold.objects.filter(device__host=host, released_at=None)
            assert sum(held.values_list("slots", flat=True)) <= host.slots

    @invariant()
    def every_step_is_shown_once_and_none_is_missing(self) -> None:
        for run in self._runs():
            shown = [event for event in stored_events(run.pk, "metrics") if not event.superseded]
            steps = sorted(event.step for event in shown)
            assert steps == list(range(1, len(steps) + 1))

    @invariant()
    def only_runs_reported_complete_are_completed(self) -> None:
        for run in self._runs("completed"):
            assert run.pk in self.completed

    def teardown(self) -> None:
        """And no run is lost: each can still be brought to its end."""
        try:
            for run in self._runs("running"):
                recover_run(run)
            for run in [*self._runs("queued"), *self._runs("paused")]:
                run_verbs.stop_run(run)
            for run in self._runs():
                self._bring_to_its_end(run)
        finally:
            for model in (TrainingRun, Host, Dataset, User):
                model.objects.all().delete()
            shutil.rmtree(self.runs_dir, ignore_errors=True)

    def _bring_to_its_end(self, run: TrainingRun) -> None:
        if run.status == Status.COMPLETED:
            return
        (run_verbs.start_run if run.status == Status.PENDING else run_verbs.resume_run)(run)
        self.held.pop(run.pk, None)
        self.claim(HOSTS[0])
        played = self.held.pop(run.pk)
        self._train(played, 2)
        self._end(played, "completed")
        run.refresh_from_db()
        assert run.status == Status.COMPLETED
        self.every_step_is_shown_once_and_none_is_missing()

    # Finding

    def _runs(self, status: str = "") -> list[TrainingRun]:
        found = TrainingRun.objects.order_by("pk")
        return list(found.filter(status=status) if status else found)

    def _pick(self, data: st.DataObject) -> TrainingRun:
        return data.draw(st.sampled_from(self._runs()))

    def _pick_held(self, data: st.DataObject) -> Played:
        return data.draw(st.sampled_from(list(self.held.values())))

    def _living(self) -> list[Played]:
        return [
            played for played in [*self.held.values(), *self.ghosts] if played.is_trainer_alive and not played.final
        ]

    def _pick_living(self, data: st.DataObject) -> Played:
        living = self._living()
        assume(living)
        return data.draw(st.sampled_from(living))

    def _is_ghost(self, played: Played) -> bool:
        """Whether another attempt has started meanwhile."""
        row = TrainingRun.objects.filter(pk=played.run_id).first()
        return row is None or row.attempt != played.store.fence[0]

    def _release(self, played: Played) -> None:
        if self.held.get(played.run_id) is played:
            del self.held[played.run_id]
        played.is_trainer_alive = False


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_statuses_stay_accurate_and_no_run_is_lost(tmp_path: Path, settings: Any) -> None:
    settings.RUNS_DIR = Studio.runs_dir = tmp_path / "runs"
    settings.RETRY_WAIT_S = 0
    run_state_machine_as_test(Studio, settings=_search())


def _search() -> settings:
    # Shrinking a finding takes minutes of database work: only a search for new ones does it.
    phases = list(Phase) if IS_NEW else [Phase.generate]
    return search(25 if IS_NEW else 8, stateful_step_count=40, phases=phases, suppress_health_check=list(HealthCheck))
