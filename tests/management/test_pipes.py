"""The commands in a pipeline."""

import subprocess
import sys

import pytest

from tests.helpers.studio import REPOSITORY, Studio, studio  # noqa: F401

pytestmark = pytest.mark.slow


def test_a_closed_pipe_is_no_error(studio: Studio) -> None:  # noqa: F811
    (run,) = studio.prepare(start=False)
    command = [sys.executable, "-u", "manage.py", "train", "show", str(run)]
    show = subprocess.Popen(
        command, cwd=REPOSITORY, env=studio.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert show.stdout is not None
    show.stdout.close()
    assert show.stderr is not None
    errors = show.stderr.read()
    show.wait(60)
    assert (show.returncode, errors) == (0, "")
