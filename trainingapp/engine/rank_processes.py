"""The processes of the ranks above 0: rank 0 starts them, watches them and ends them.

Each is `python -m trainingapp.engine RUN_DIR --rank R`, a child in the process group of the trainer, so that whatever
ends the group ends all; a rank also ends with its parent (`end_with_parent`). It reads one line from standard input,
what it is to do (`Setup`), and reports by lines on a pipe: that it is ready, or why it failed.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from trainingapp.contract.errors import EngineError, FailureData, LostRank, RankFailed, classify
from trainingapp.contract.messages import VERBATIM, Message, from_data
from trainingapp.contract.messages.ranks import EXIT_SIGNAL, EXIT_STATUS, RANK_LOST, RANKS_SILENT
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.control import LineReader
from trainingapp.engine.device import available_threads
from trainingapp.engine.ranks import PeerLost, Ranks, Word

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

HOST = "127.0.0.1"
#: The exit status of a rank whose operation failed because another had ended: it is not the cause.
EXIT_PEER_LOST = 3
#: Seconds that an error of rank 0 waits for the end of another rank, which may have caused it.
CAUSE_S = 3.0
#: Seconds after the end of a rank in which rank 0 should have noticed it, at an operation that fails.
NOTICED_S = 10.0
#: Seconds that ranks get to end by themselves.
END_S = 10.0

logger = logging.getLogger("trainingapp.engine")


@dataclass(frozen=True)
class Setup:
    """What a rank is told before it builds the network: how many there are, where they meet, and how they compute."""

    world: int
    port: int
    batch_size: int
    cpu_threads: int
    deterministic: bool
    computation: int


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
            message = from_data(self.failure) or VERBATIM(text=self.failure["message"])
            return RankFailed(self.failure["error_class"], message)
        ended = _exit_text(self.process.returncode)
        return LostRank(RANK_LOST(rank=self.rank, device=self.device, exit=ended))


class RankProcesses:
    """The ranks of an attempt, as a context: an error within it ends them, and names the rank that caused it."""

    def __init__(self, spec: RunSpec, world: int, end_attempt: Callable[[EngineError], None]) -> None:
        """Starts `world` - 1 processes. `end_attempt` is called from a thread when a rank has ended and rank 0 has not
        noticed it, as when it waits for a GPU; it must not return."""
        self._changed = threading.Condition()
        self._is_over = False
        self._end_attempt = end_attempt
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen(world)
        self.world = world
        self.ranks = Ranks(0, world)
        self._joined_at = time.monotonic()
        self._processes = [self._start(spec.run_dir, rank, spec.devices[rank]) for rank in range(1, world)]

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

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        return self

    def connect(self, setup: Setup, device: "torch.device") -> Ranks:
        """Tell the ranks their setup, wait until they have built their networks, and form the process group."""
        from torch.distributed import TCPStore  # a run on one device does not need it

        # On a socket of our own: torch would listen on every interface.
        store: Store = TCPStore(
            HOST, setup.port, self.world, True, wait_for_workers=False, master_listen_fd=self._listener.detach()
        )
        line = json.dumps(asdict(setup)).encode() + b"\n"
        for one in self._processes:
            assert one.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: the watch tells why
                one.process.stdin.write(line)
                one.process.stdin.flush()
        with self._changed:
            self._changed.wait_for(lambda: all(one.is_ready for one in self._processes) or self._cause())
        if cause := self._cause():
            raise cause.error()
        self.ranks = Ranks.join(0, self.world, store, device)
        self._joined_at = time.monotonic()
        return self.ranks

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

    def _cause(self) -> RankProcess | None:
        """The rank that ended first, and not because another one did."""
        ended = sorted((one for one in self._processes if one.is_cause), key=lambda one: one.ended_at)
        return ended[0] if ended else None

    def _cause_of(self, error: RuntimeError) -> EngineError | None:
        """The failure behind an error of rank 0: that of a rank which has ended, or a rank that does not respond."""
        with self._changed:
            cause = self._changed.wait_for(self._cause, CAUSE_S)
        if cause:
            return cause.error()
        if not isinstance(error, PeerLost):
            return None
        stopped = [one for one in self._processes if _is_stopped(one.process.pid)] or self._processes
        names = [f"{one.rank} ({one.device})" for one in stopped]
        return LostRank(RANKS_SILENT(ranks=names, seconds=round(self.ranks.response_s)))

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
    """The other end of the pipe, in a rank."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        self._write({"ready": True})

    def failed(self, error: BaseException) -> None:
        self._write({"failure": classify(error).as_data()})

    def _write(self, report: dict[str, object]) -> None:
        os.write(self._descriptor, json.dumps(report).encode() + b"\n")


def rank_threads(config_threads: int, ranks: int) -> int:
    """CPU threads of each rank of a new run: its part of the cores, where the configuration does not say."""
    return config_threads or max(1, available_threads() // ranks)


def _exit_text(status: int) -> Message:
    if status >= 0:
        return EXIT_STATUS(status=status)
    return EXIT_SIGNAL(number=-status, name=signal.Signals(-status).name)


def _is_stopped(pid: int) -> bool:
    """Whether the process is stopped (by SIGSTOP, or by a debugger)."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False
