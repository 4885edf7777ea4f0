"""The processes of the ranks above 0: rank 0 starts those of its host, watches them and ends them.

Each is `python -m trainingapp.engine RUN_DIR --rank R`, a child in the process group of the trainer, so that whatever
ends the group ends all; a rank also ends with its parent (`end_with_parent`). It reads one line from standard input,
where rank 0 is (`Meeting`), takes what it is to do (`Setup`) from the store there, and reports by lines on a pipe: that
it is ready, or why it failed.

The ranks of other hosts are children of the workers there, which know the end of their processes. They report by the
store.
"""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from trainingapp.contract.commands import Meeting
from trainingapp.contract.errors import EngineError, FailureData, LostRank, RankFailed, classify
from trainingapp.contract.messages import VERBATIM, from_data
from trainingapp.contract.messages.ranks import RANK_LOST, RANKS_AWAY, RANKS_SILENT, exit_text
from trainingapp.contract.run_directory import EXIT_PEER_LOST, RunSpec
from trainingapp.engine.control import LineReader
from trainingapp.engine.device import available_threads
from trainingapp.engine.ranks import PeerLost, Ranks, Word, communicating

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

#: The key of the store with the `Setup`.
SETUP = "setup"
#: Seconds between two looks for reports of ranks on other hosts.
LOOK_S = 0.1
#: Seconds that an error of rank 0 waits for the end of another rank, which may have caused it.
CAUSE_S = 3.0
#: Seconds after the end of a rank in which rank 0 should have noticed it, at an operation that fails.
NOTICED_S = 10.0
#: Seconds that ranks get to end by themselves.
END_S = 10.0

logger = logging.getLogger("trainingapp.engine")

Found = TypeVar("Found")


@dataclass(frozen=True)
class Setup:
    """What a rank is told before it builds the network: the attempt, how many ranks there are, how they compute."""

    attempt: int
    world: int
    batch_size: int
    cpu_threads: int
    deterministic: bool
    computation: int
    #: The name of the number format.
    precision: str
    #: What the configuration's `pretrained` was decided to be; empty for a task without the field.
    pretrained: str = ""


@dataclass
class RankProcess:
    """One rank, and what is known of it: `failure` is what it reported, `ended_at` the time at which it was gone."""

    rank: int
    device: str
    process: subprocess.Popen[bytes]
    is_ready: bool = False
    failure: FailureData | None = None
    ended_at: float = 0.0

    @property
    def is_cause(self) -> bool:
        """Whether it has ended, and not because another one did or rank 0 told it."""
        expected = (0, EXIT_PEER_LOST) if self.is_ready else ()
        return bool(self.ended_at) and self.process.returncode not in expected

    def error(self) -> EngineError:
        """Its failure, or that it is lost."""
        if self.failure:
            return _reported(self.failure)
        ended = exit_text(self.process.returncode)
        return LostRank(RANK_LOST(rank=self.rank, device=self.device, exit=ended))


@dataclass
class RankElsewhere:
    """One rank on another host, and what it has reported."""

    rank: int
    device: str
    host: str
    is_ready: bool = False
    failure: FailureData | None = None

    def error(self) -> EngineError:
        """Its failure."""
        assert self.failure is not None
        return _reported(self.failure)


class RankProcesses:
    """The ranks of an attempt, as a context: an error within it ends them, and names the rank that caused it."""

    def __init__(self, spec: RunSpec, world: int, end_attempt: Callable[[EngineError], None]) -> None:
        """Starts the processes of this host. `end_attempt` is called from a thread when one has ended and rank 0 has
        not noticed it, as when it waits for a GPU; it must not return."""
        self._changed = threading.Condition()
        self._is_over = False
        self._end_attempt = end_attempt
        self._listener = socket.socket()
        self._listener.bind((spec.address, 0))
        self._listener.listen(world)
        self._meeting = Meeting(spec.address, self._listener.getsockname()[1], spec.interface)
        self._store: Store | None = None
        self.world = world
        self.ranks = Ranks(0, world)
        self._joined_at = time.monotonic()
        here = [rank for rank in range(1, world) if not spec.is_elsewhere(rank)]
        self._processes = [self._start(spec.run_dir, rank, spec.devices[rank]) for rank in here]
        self._elsewhere = [
            RankElsewhere(rank, spec.devices[rank], spec.hosts[rank])
            for rank in range(1, world)
            if spec.is_elsewhere(rank)
        ]

    def _start(self, run_dir: Path, rank: int, device: str) -> RankProcess:
        reports, writes = os.pipe()
        command = [sys.executable, "-m", "trainingapp.engine", str(run_dir)]
        process = subprocess.Popen(
            [*command, "--rank", str(rank), "--report", str(writes), "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            pass_fds=(writes,),
        )
        os.close(writes)
        found = RankProcess(rank, device, process)
        threading.Thread(target=self._watch, args=(found, reports), name=f"rank {rank}", daemon=True).start()
        return found

    def __enter__(self) -> Self:
        return self

    def connect(self, setup: Setup, device: "torch.device", announce: Callable[[str], None]) -> Ranks:
        """Tell the ranks their setup, wait until they have built their networks, and form the process group.

        `announce` is called with the "address:port" at which the ranks of other hosts are awaited, where there are any.
        """
        from torch.distributed import TCPStore  # a run on one device does not need it

        meeting = self._meeting
        # On a socket of our own: torch would listen on every interface.
        self._store = TCPStore(
            meeting.address,
            meeting.port,
            self.world,
            True,
            wait_for_workers=False,
            master_listen_fd=self._listener.detach(),
        )
        self._store.set(SETUP, json.dumps(asdict(setup)))
        line = json.dumps(asdict(meeting)).encode() + b"\n"
        for one in self._processes:
            assert one.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: the watch tells why
                one.process.stdin.write(line)
                one.process.stdin.flush()
        if self._elsewhere:
            announce(f"{meeting.address}:{meeting.port}")
        self._wait_for(lambda: self._cause() or self._are_ready())
        if cause := self._cause():
            raise cause.error()
        self.ranks = Ranks.join(0, self.world, self._store, device, meeting.interface)
        self._joined_at = time.monotonic()
        return self.ranks

    def use_of_others(self) -> Callable[[], dict[str, float]]:
        """What reads the use of the devices of the other ranks, once they are connected."""
        from trainingapp.engine.system_monitor import UseOfRanks  # loads torch, which is not needed to start them

        assert self._store is not None
        return UseOfRanks(self._store, range(1, self.world)).read

    def _are_ready(self) -> bool:
        return all(one.is_ready for one in self._processes) and all(one.is_ready for one in self._elsewhere)

    def _wait_for(self, condition: Callable[[], Found], timeout_s: float = threading.TIMEOUT_MAX) -> Found:
        """Wait until the condition is true; returns its result. Meanwhile, the reports of ranks elsewhere are read."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._read_reports()
            left_s = deadline - time.monotonic()
            with self._changed:
                found = self._changed.wait_for(condition, min(LOOK_S, left_s) if self._elsewhere else left_s)
            if found or time.monotonic() >= deadline:
                return found

    def _read_reports(self) -> None:
        """Take what the ranks of other hosts have reported since."""
        for one in self._elsewhere:
            key = report_key(one.rank)
            if self._store is not None and self._store.check([key]):
                report = json.loads(self._store.get(key))
                one.failure, one.is_ready = report.get("failure"), report.get("ready", one.is_ready)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cause = self._cause_of(error) if isinstance(error, RuntimeError) else None
        self._is_over = True
        if error is None:
            self._finish()
        self._kill()
        if cause is not None:
            raise cause from error

    def _finish(self) -> None:
        """Have the ranks end."""
        total_s = time.monotonic() - self._joined_at
        logger.info("The collective operations took %.3f s of %.3f s.", self.ranks.collective_s, total_s)
        with contextlib.suppress(PeerLost):  # everything is saved
            self.ranks.tell(Word.END)
        deadline = time.monotonic() + END_S
        for one in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, deadline - time.monotonic()))

    def _kill(self) -> None:
        for one in self._processes:
            one.process.kill()
        for one in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(END_S)

    def _cause(self) -> RankProcess | RankElsewhere | None:
        """The rank that ended first, and not because another one did; or a rank elsewhere that has failed."""
        ended = sorted((one for one in self._processes if one.is_cause), key=lambda one: one.ended_at)
        return next((one for one in self._elsewhere if one.failure), ended[0] if ended else None)

    def _cause_of(self, error: RuntimeError) -> EngineError | None:
        """The failure behind an error of rank 0: that of a rank which has ended, or a rank that does not respond."""
        if cause := self._wait_for(self._cause, CAUSE_S):
            return cause.error()
        if not isinstance(error, PeerLost):
            return None
        seconds = round(self.ranks.response_s)
        stopped = [one for one in self._processes if _is_stopped(one.process.pid)]
        if self._elsewhere and not stopped:
            names = [f"{one.rank} ({one.device}, {one.host})" for one in self._elsewhere]
            return LostRank(RANKS_AWAY(ranks=names, seconds=seconds))
        names = [f"{one.rank} ({one.device})" for one in stopped or self._processes]
        return LostRank(RANKS_SILENT(ranks=names, seconds=seconds))

    def _watch(self, one: RankProcess, reports: int) -> None:
        """Read the reports of a rank until it has ended."""
        lines = LineReader(reports)
        while (line := lines.read_line()) is not None:
            report = json.loads(line)
            with self._changed:
                if failure := report.get("failure"):
                    one.failure = failure
                else:
                    one.is_ready = True
                self._changed.notify_all()
        os.close(reports)
        one.process.wait()
        with self._changed:
            one.ended_at = time.monotonic()
            self._changed.notify_all()
        if one.is_cause and not self._is_over:
            time.sleep(NOTICED_S)
            if not self._is_over:
                self._end_attempt(one.error())


class Reports:
    """What a rank reports: by the pipe of its parent, or by the store where rank 0 is on another host."""

    def __init__(self, rank: int, descriptor: int) -> None:
        """`descriptor` is that of the pipe, 0 where there is none."""
        self._rank, self._descriptor = rank, descriptor
        self.store: Store | None = None

    def ready(self) -> None:
        self._write({"ready": True})

    def failed(self, error: BaseException) -> None:
        self._write({"failure": classify(error).as_data()})

    def _write(self, report: dict[str, object]) -> None:
        line = json.dumps(report)
        if self._descriptor:
            os.write(self._descriptor, line.encode() + b"\n")
        elif self.store is not None:
            with contextlib.suppress(PeerLost), communicating():  # rank 0 has ended
                self.store.set(report_key(self._rank), line)


def report_key(rank: int) -> str:
    """The key of the store with the newest report of a rank on another host."""
    return f"report/{rank}"


def rank_threads(config_threads: int, ranks: int) -> int:
    """CPU threads of each rank of a new run: its part of the cores, where the configuration does not say."""
    return config_threads or max(1, available_threads() // ranks)


def _reported(failure: FailureData) -> RankFailed:
    return RankFailed(failure["error_class"], from_data(failure) or VERBATIM(text=failure["message"]))


def _is_stopped(pid: int) -> bool:
    """Whether the process is stopped (by SIGSTOP, or by a debugger)."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False
