"""The trainer: `python -m trainingapp.engine RUN_DIR`.

Standard input carries commands, one JSON object a line such as {"command": "pause"} (see control.py); its end means
save and leave. With --no-control, or on a terminal, it is not watched. With --spare the process gets ready, prints
"ready" and waits for a first line {"run_dir": ..., "log_file": ...}. --job FOLDER does the job in that folder, --jobs
those that standard input names (see jobs/work.py). --export-checkpoint FILE --to OUT writes a checkpoint as a file for
others: OUT.pt for torch.load, or its weights as OUT.safetensors. --gpu-check measures what the engine does on the GPU.
--rank R is a process that a trainer on several devices, or the worker of another host, starts for each further device
(see rank_processes.py).

Exit codes: 0 completed, paused, stopped or interrupted; 1 failed; 2 wrong usage; 28 the disk is full.
"""

import argparse
import contextlib
import errno
import faulthandler
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from trainingapp.contract.errors import Failure, StillRunning, Superseded, classify
from trainingapp.contract.events import EVENTS_FILE, Ended, EventLog, Failed
from trainingapp.contract.run_directory import (
    EXIT_PEER_LOST,
    check_attempt,
    check_config,
    read_config_file,
    read_run_spec,
    run_lock,
)
from trainingapp.engine import waiting
from trainingapp.engine.control import Control, LineReader
from trainingapp.engine.heap import keep_freed_memory
from trainingapp.engine.postponed_compiler import postpone_compiler

EXIT_FAILED, EXIT_USAGE = 1, 2
#: Exit codes of an attempt that could not write its failed event.
EXITS_UNWRITTEN = {"disk_full": errno.ENOSPC, "read_only": errno.EROFS}

logger = logging.getLogger("trainingapp.engine")


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if "--gpu-check" in given:
        return _gpu_check([word for word in given if word != "--gpu-check"])
    options = _parsed(given)
    prefix = f"rank {options.rank}: " if options.rank else ""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {prefix}%(message)s")
    faulthandler.enable()  # a crash leaves a traceback in the log
    faulthandler.register(signal.SIGUSR1)  # the supervisor requests one from a trainer that hangs
    _prepare_environment()
    if options.export_checkpoint:
        return _export(options.export_checkpoint, options.to)
    lines = LineReader(sys.stdin.fileno())
    if options.rank:
        return _follow(options, lines)
    if options.job or options.jobs:
        from trainingapp.engine.jobs.work import do_job, serve_jobs  # loads torch, so not at the top

        if options.job:
            return 0 if do_job(options.job) else EXIT_FAILED
        serve_jobs(lines)
        return 0
    if options.spare:
        run_dir = _wait_as_spare(lines)
        return _run(run_dir, lines) if run_dir else 0
    watched = not options.no_control and not sys.stdin.isatty()
    return _run(options.run_dir, lines if watched else None)


def _prepare_environment() -> None:
    """Set what libraries read when they are loaded."""
    postpone_compiler()
    # cuBLAS gives the same sums each time only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Memory of a GPU grows in place: with batches of other shapes, fixed segments leave gaps that no tensor fits into.
    # Not where the user has set the allocator under its older name, which torch would then ignore.
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    waiting.prepare_environment()


def _gpu_check(arguments: list[str]) -> int:
    _prepare_environment()
    from trainingapp.engine.gpu_check.main import main as check  # loads torch, so not at the top

    return check(arguments)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainingapp.engine", description="Train one run.")
    parser.add_argument("run_dir", nargs="?", type=Path, metavar="RUN_DIR", help="folder with the run's config.json")
    parser.add_argument("--spare", action="store_true", help="get ready, then take RUN_DIR from standard input")
    parser.add_argument("--no-control", action="store_true", help="do not watch standard input for commands")
    parser.add_argument("--job", type=Path, metavar="FOLDER", help="do the job in this folder")
    parser.add_argument("--jobs", action="store_true", help="do the jobs that standard input names")
    parser.add_argument("--export-checkpoint", type=Path, metavar="FILE", help="write a checkpoint as --to OUT")
    parser.add_argument(
        "--gpu-check", action="store_true", help="measure what the engine does on the GPU (see its --help)"
    )
    for name in ("--rank", "--report", "--parent"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, metavar="OUT", help="a name that ends with .pt or .safetensors")
    options = parser.parse_args(arguments)
    if sum(map(bool, (options.spare, options.run_dir, options.job, options.jobs, options.export_checkpoint))) != 1:
        parser.error("give one of RUN_DIR, --spare, --job, --jobs and --export-checkpoint")
    if options.export_checkpoint and (options.to is None or options.to.suffix not in (".pt", ".safetensors")):
        parser.error("--export-checkpoint needs --to with a name that ends with .pt or .safetensors")
    return options


def _export(checkpoint: Path, target: Path) -> int:
    from trainingapp.contract.storage.exporting import export_file
    from trainingapp.contract.storage.reading import open_checkpoint

    try:
        export_file(open_checkpoint(checkpoint), "pt" if target.suffix == ".pt" else "safetensors", target)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{checkpoint} {error}\n")
        return EXIT_FAILED
    return 0


def _wait_as_spare(lines: LineReader) -> Path | None:
    """Prepare and wait for a run; None when standard input ends first."""
    from trainingapp.engine import loop  # noqa: F401 - takes seconds to import, so not at the top
    from trainingapp.engine.spare import rehearse

    waiting.IDLE_TEAM.gather()
    rehearse()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = lines.read_line()
    if line is None:
        return None
    request = json.loads(line)
    # The file descriptors themselves, not sys.stdout: torch's C++ code writes to them too.
    log = os.open(request["log_file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return Path(request["run_dir"])


def _follow(options: argparse.Namespace, lines: LineReader) -> int:
    """Be a rank above 0 of the attempt that the parent process makes."""
    from trainingapp.engine.data.batches import end_with_parent  # loads torch, so not at the top
    from trainingapp.engine.follower import follow
    from trainingapp.engine.rank_processes import Reports
    from trainingapp.engine.ranks import PeerLost

    end_with_parent(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides
    reports = Reports(options.rank, options.report)
    waiting.follow_load()
    keep_freed_memory()
    try:
        unwanted_fds = [options.report] if options.report else []
        follow(options.run_dir, options.rank, lines, reports, unwanted_fds=unwanted_fds)
    except PeerLost as error:
        logger.info("Another rank has ended: %s", error)
        return EXIT_PEER_LOST
    except Exception as error:
        logger.exception("The rank failed.")
        reports.failed(error)
        return EXIT_FAILED
    return 0


def _run(run_dir: Path, lines: LineReader | None) -> int:
    try:
        values = read_config_file(run_dir)
    except ValueError as error:
        logger.error("%s", error)
        return EXIT_USAGE
    control = Control()
    control.catch_signals()
    if lines is not None:
        control.watch(lines)
    try:
        with run_lock(run_dir, values["attempt"]) as lock_fd:
            check_config(run_dir, values["attempt"])
            return _attempt(run_dir, values, control, lock_fd)
    except Superseded as error:
        logger.error("%s", error.message)
        return EXIT_FAILED
    except StillRunning as error:
        logger.error("%s", error.message)
        failure = Failure(error.error_class, error.message, [])
        event = Failed(time=time.time(), attempt=values["attempt"], epoch=0, step=0, **failure.as_data())
        # Another trainer has this file open, so only one whole line is appended: EventLog would also repair the end of
        # the file, which may be the other trainer's unfinished line.
        with contextlib.suppress(OSError), (run_dir / EVENTS_FILE).open("a", encoding="utf-8", buffering=1) as file:
            file.write(event.model_dump_json(exclude_unset=True) + "\n")
        return EXIT_FAILED


def _attempt(run_dir: Path, values: dict[str, Any], control: Control, lock_fd: int) -> int:
    """Train and write how it ended. This is the one place where every error is caught: each must become an event.

    Raises Superseded alone: whoever has lost the run writes nothing.
    """
    events = EventLog(run_dir / EVENTS_FILE, values["attempt"], lambda: check_attempt(run_dir, values["attempt"]))
    try:
        from trainingapp.engine.loop import train

        waiting.follow_load()
        keep_freed_memory()
        ended = train(read_run_spec(run_dir, values), control, events, unwanted_fds=[lock_fd])
        events.write(Ended(state=ended))
        events.flush()
    except Superseded:
        raise
    except Exception as error:
        logger.exception("The run failed.")
        failure = classify(error)
        kinds = [failure.error_class]
        try:
            events.write(Failed(**failure.as_data()))
            events.flush()
        except OSError as unwritten:  # a full or read-only disk: the exit code still reports it
            kinds.append(classify(unwritten).error_class)
            logger.error("The failure could not be written to %s: %s", EVENTS_FILE, unwritten)
        return next((EXITS_UNWRITTEN[kind] for kind in kinds if kind in EXITS_UNWRITTEN), EXIT_FAILED)
    return 0


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(exit_code)  # an orderly shutdown of torch takes a second, during which the device would be occupied
