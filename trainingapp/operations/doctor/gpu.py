"""The check of the GPU, which trains on it for minutes: the engine's `--gpu-check` in a child process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from trainingapp.models import Device
from trainingapp.scheduling.placement import held_by_jobs, open_holds
from trainingapp.supervision.identity import HOST
from trainingapp.supervision.trainers import trainer_environment

COMMAND = (sys.executable, "-m", "trainingapp.engine", "--gpu-check")


def runs_on_gpus() -> list[str]:
    """Names of the runs that hold a GPU of this machine, and kinds of the jobs that do."""
    holds = open_holds().filter(device__kind=Device.Kind.GPU, device__host__name=HOST)
    jobs = held_by_jobs().filter(host__name=HOST).values_list("job__kind", flat=True)
    return sorted([*holds.values_list("run_name", flat=True), *jobs])


def gpu_check(write: Callable[[str], None]) -> int:
    """Call `write` with each line of the check as it comes, and return its exit status.

    The last line is JSON where there is a GPU. Progress goes to standard error.
    """
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        env=trainer_environment(),
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            write(line.rstrip("\n"))
    return child.returncode
