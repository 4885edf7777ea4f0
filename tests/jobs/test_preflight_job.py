"""A preflight check from the request to its result, in the process that a worker starts for it."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.studio import TINY
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import Dataset, Job, TrainingRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


@pytest.fixture(autouse=True)
def job_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    no_worker(monkeypatch)


def done(user: User, dataset: Dataset, **config: Any) -> Job:
    params = {"config": {**TINY, **config}, "dataset_dir": str(dataset.folder)}
    job_verbs.request_job(Job.Kind.PREFLIGHT, owner=user, params=params)
    return work_off(is_shared=False)


def test_it_reports_what_the_run_needs(user: User, tints: Dataset) -> None:
    job = done(user, tints)
    assert (job.state, job.done, job.total) == ("done", 4, 4), job.message
    assert job.result["steps_per_epoch"] == 6
    assert job.result["memory"]["peak_bytes"] > 0
    assert job.result["finite"]["loss"] is True


def test_errors_become_its_message(user: User, tints: Dataset) -> None:
    job = done(user, tints, device="cuda:7")
    assert job.state == "failed"
    assert job.message.startswith("device is cuda:7")


@pytest.mark.long
def test_the_command_performs_it_and_prints_the_result(user: User, tints: Dataset) -> None:
    output = StringIO()
    values = [f"--set={name}={value}" for name, value in TINY.items()]
    owner = user.get_username()
    call_command("train", "check", "--dataset", tints.name, "--owner", owner, "--json", *values, stdout=output)
    assert json.loads(output.getvalue())["steps_per_epoch"] == 6
    assert not TrainingRun.objects.exists()
    with pytest.raises(CommandError, match="device is cuda:7"):
        call_command("train", "check", "--dataset", tints.name, "--owner", owner, *values, "--set=device=cuda:7")
