"""manage.py jobs: what it lists, shows and cancels."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from tests.helpers.jobs import no_worker, working_on
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import Dataset, Job


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    no_worker(monkeypatch)


@pytest.fixture
def jobs_command() -> Callable[..., str]:
    def call(*arguments: str) -> str:
        output = StringIO()
        call_command("jobs", *arguments, stdout=output)
        return output.getvalue()

    return call


@pytest.fixture
def importing(user: User) -> Job:
    dataset = Dataset.objects.create(name="pets", owner=user, source="/nowhere")
    return working_on(dataset, "importing", IMPORTING_IMAGES(), done=3, total=9)


def test_jobs_of_every_kind_are_listed_newest_first(
    jobs_command: Callable[..., str], importing: Job, user: User
) -> None:
    waiting = job_verbs.request_job(Job.Kind.EXPORT, owner=user, params={})
    lines = jobs_command("list").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [str(waiting.pk)[:8], "export", "waiting"],
        [str(importing.pk)[:8], "import_dataset", "working"],
    ]
    assert "3/9" in lines[2]
    assert lines[2].endswith("Reading and checking the images")
    [only] = json.loads(jobs_command("list", "--state", "waiting", "--json"))
    assert only["id"] == str(waiting.pk)


def test_a_job_is_shown_by_the_beginning_of_its_id(jobs_command: Callable[..., str], importing: Job) -> None:
    shown = json.loads(jobs_command("show", str(importing.pk)[:8], "--json"))
    assert (shown["id"], shown["done"], shown["total"]) == (str(importing.pk), 3, 9)
    with pytest.raises(CommandError, match="There is no job"):
        jobs_command("show", "zzz")


def test_an_import_is_cancelled(jobs_command: Callable[..., str], importing: Job) -> None:
    assert "state: cancelled" in jobs_command("cancel", str(importing.pk))
    assert Dataset.objects.get().status == "refused"
    assert "state: cancelled" in jobs_command("cancel", str(importing.pk))
