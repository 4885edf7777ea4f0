"""The worker process: what is prepared before its threads read the queue."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import django
django.setup()
from huey.contrib.djhuey import HUEY
HUEY.create_consumer(workers=1)
print(*sorted(HUEY._registry._registry))
"""


@pytest.mark.any_database
def test_the_tasks_are_registered_before_a_thread_reads_a_wake_up(studio_env: dict[str, str]) -> None:
    env = {**os.environ, **studio_env, "DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
    command = [sys.executable, "-c", PROGRAM]
    registered = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=120).stdout
    assert {f"trainingapp.worker.tasks.{name}" for name in ("start_training", "control_training", "do_jobs")} <= set(
        registered.split()
    )
