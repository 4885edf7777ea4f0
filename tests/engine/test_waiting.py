"""Whether waiting CPU threads spin or sleep: by the load of other processes, and with the real libgomp."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainingapp.engine import waiting
from trainingapp.engine.waiting import QUIET_POLLS, Company, Reading, read_load

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="libgomp and /proc are Linux's")


def _look(company: Company, *, others: float, own: float = 1.5, passed_s: float = 0.5) -> bool:
    """Whether there is company after a look at a time in which cores were busy so far."""
    after = Reading(100.0 + passed_s, 7.0 + (own + others) * passed_s, 3.0 + own * passed_s)
    company.look(Reading(100.0, 7.0, 3.0), after)
    return company.is_there


def _left_alone() -> Company:
    company = Company()
    for _ in range(QUIET_POLLS):
        _look(company, others=0.05)
    return company


def test_cores_count_as_idle_only_after_several_quiet_polls() -> None:
    company = Company()
    assert company.is_there, "until it has looked, nothing is known"
    seen = [_look(company, others=0.05) for _ in range(QUIET_POLLS)]
    assert seen == [True] * (QUIET_POLLS - 1) + [False]
    assert not _look(company, others=0.05)


def test_one_busy_poll_counts_as_load() -> None:
    company = _left_alone()
    assert _look(company, others=1.0)
    assert [_look(company, others=0.0) for _ in range(QUIET_POLLS)][-2:] == [True, False]


def test_a_busy_poll_among_quiet_ones_restarts_the_count() -> None:
    company = Company()
    for _ in range(QUIET_POLLS - 1):
        _look(company, others=0.0)
    assert _look(company, others=0.5)
    assert _look(company, others=0.0)


def test_load_while_the_process_was_stopped_is_ignored() -> None:
    company = _left_alone()
    assert not _look(company, others=1.9, own=0.1, passed_s=60)


def test_without_usage_counters_the_threads_sleep() -> None:
    """Some containers show zeros: less than this process alone has used."""
    company = _left_alone()
    assert _look(company, others=-1.5, own=1.5)


@ON_LINUX
def test_the_load_is_that_of_the_cores_this_process_may_use(tmp_path: Path) -> None:
    own, foreign = min(os.sched_getaffinity(0)), 4095
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\n"
        f"cpu{own} 100 200 300 5000 6000 10 20 30 77 88\n"
        f"cpu{foreign} 999 999 999 999 999 999 999 999 0 0\n"
        "intr 1 2 3\n"
    )
    reading = read_load(stat)
    assert reading is not None
    assert reading.all_s == 660 / os.sysconf("SC_CLK_TCK"), "without idle, iowait and what guests count twice"
    assert read_load(tmp_path / "missing") is None


@ON_LINUX
def test_this_machine_counts_the_usage_of_a_process() -> None:
    before = read_load()
    sum(number * number for number in range(3_000_000))
    after = read_load()
    assert before is not None
    assert after is not None
    assert after.own_s > before.own_s
    assert after.all_s > before.all_s


def test_the_wait_policy_of_the_environment_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is put back as it was
        monkeypatch.delenv(name)
    waiting.prepare_environment()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("PASSIVE", str(waiting.SPIN_COUNT))
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    waiting.prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ


# How often the threads of a team went to sleep in twenty operations, and how many threads there were: without an idle
# team, with one, and without again. They may spin for minutes, so a sleeping thread is one that was made to sleep.
SLEEPS = """
import json, os, threading, time
import torch
from trainingapp.engine.waiting import IdleTeam

torch.set_num_threads(2)
numbers = torch.ones(1 << 20)
(numbers * 2).sum()  # the team is there from here on
team_tasks = sorted(os.listdir("/proc/self/task"), key=int)

def sleeps():
    seen = 0
    for task in team_tasks:
        status = open(f"/proc/self/task/{task}/status").read()
        if int(task) != os.getpid():
            seen += int(status.split("\\nvoluntary_ctxt_switches:")[1].split()[0])
    return seen

def measure():
    before = sleeps()
    sums = []
    for _ in range(20):
        sums.append(float((numbers * 2).sum()))
        begin = time.thread_time()
        while time.thread_time() - begin < 0.005:  # alone for a while, so that the others have to wait
            pass
    return sleeps() - before, len(os.listdir("/proc/self/task")) - len(team_tasks), sums[-1]

team = IdleTeam()
found = [measure()]
for change in (team.gather, team.gather, team.dismiss, team.dismiss):
    change()
    found.append(measure())
print(json.dumps([found, len(os.sched_getaffinity(0))]))
"""


@pytest.mark.long
@ON_LINUX
def test_threads_sleep_while_a_second_team_exists_and_spin_after_it() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("with one core threads always sleep")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "100000000000"}
    done = subprocess.run(
        [sys.executable, "-c", SLEEPS], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    found, cores = json.loads(done.stdout)
    spinning, sleeping, sleeping_still, spinning_again, spinning_still = found
    for sleeps, extra_threads, _ in (sleeping, sleeping_still):
        assert sleeps >= 15
        assert extra_threads == cores, "gathering twice makes one team"
    for sleeps, extra_threads, _ in (spinning, spinning_again, spinning_still):
        assert sleeps <= 4
        assert extra_threads == 0
    assert len({total for _, _, total in found}) == 1, "how threads wait changes no sum"


# How many threads the process has before and after the writer's thread has saved; then after a torch operation in a
# thread that stays, which shows that this count would tell.
SAVES = """
import json, os, sys, threading, time
from pathlib import Path
import torch
from tests.helpers.saved import open_folder
from trainingapp.engine import checkpoint
from trainingapp.contract.storage.index import read_index

checkpoint.TRUSTED_S = 0  # what is shared is read again by the writer
torch.set_num_threads(2)
numbers = torch.ones(1 << 20)
(numbers * 2).sum()  # the loop's own team is there from here on
run_dir, form = Path(sys.argv[1]), sys.argv[2]
folder = open_folder(run_dir, form=form)

def threads():
    return len(os.listdir("/proc/self/task"))

def save(epoch):
    content = {"model_state_dict": {
        "frozen": torch.ones(1 << 20), "moving": torch.full((1 << 20,), float(epoch)),
        "half": torch.full((1 << 20,), float(epoch), dtype=torch.float16),
        "brain": torch.full((1 << 20,), float(epoch), dtype=torch.bfloat16),
        "image": torch.full((8, 64, 64, 64), float(epoch)).to(memory_format=torch.channels_last)}}
    facts = {"epoch": epoch, "step": epoch, "step_in_epoch": 1, "attempt": 1, "metrics": {}, "is_best": False}
    folder.save({**content, **facts, "timestamp": 1.0}, file=f"epoch_{epoch}.pt", reason="epoch")
    while folder._writer.is_writing:  # not drain(): that would do the work in this thread
        time.sleep(0.01)
    folder.raise_failure()

before = threads()
for epoch in (1, 2):
    save(epoch)
after = threads()
saved = len(read_index(run_dir / "checkpoints"))

done, over = threading.Event(), threading.Event()
def compute():
    (numbers * 3).sum()
    done.set()
    over.wait()
threading.Thread(target=compute, daemon=True).start()
done.wait()
print(json.dumps([before, after, saved, threads()]))
over.set()
"""


@ON_LINUX
@pytest.mark.parametrize("form", ["compact", pytest.param("plain", marks=pytest.mark.long)])
def test_the_checkpoint_writer_keeps_no_thread_team(tmp_path: Path, form: str) -> None:
    """A team that it kept would count for libgomp, and the loop's threads would never spin again."""
    command = [sys.executable, "-c", SAVES, str(tmp_path / "run"), form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    before, after, saved, with_a_team = json.loads(done.stdout)
    assert saved == 2
    assert after == before
    assert with_a_team == before + 2, "a thread and the other one of its team"
