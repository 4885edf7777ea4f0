"""Imports as jobs: progress, cancellation, and resuming after the worker was killed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.helpers.jobs import no_worker, work_off, working_on
from tests.helpers.sources import files_under, two_classes, write_tree, write_zip
from trainingapp.contract.messages.jobs_and_models import IMPORTING_IMAGES
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.options import ImportOptions
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import Dataset
from trainingapp.models.verbs import VerbError

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    no_worker(monkeypatch)


@pytest.fixture
def uploaded(user: User, data_dir: Path) -> Dataset:
    """A dataset with an uploaded zip that awaits its import."""
    upload = write_zip(data_dir / "uploads" / "pets.zip", two_classes())
    return dataset_verbs.start_import(
        owner=user, name="pets", source=upload, source_is_upload=True, options=ImportOptions()
    )


def test_a_job_imports_and_reports_its_progress(uploaded: Dataset) -> None:
    job = work_off()
    uploaded.refresh_from_db()
    total = uploaded.count("train") + uploaded.count("val")
    assert (uploaded.status, uploaded.job) == ("ready", job)
    assert (job.state, job.done, job.total) == ("done", total, total)
    assert job.result == {"dataset_id": uploaded.pk, "status": "ready"}


def test_a_canceled_waiting_import_is_refused_with_a_message(uploaded: Dataset, data_dir: Path) -> None:
    dataset_verbs.cancel_import(uploaded)
    assert uploaded.status == "refused"
    assert [item["code"] for item in uploaded.report] == ["import_cancelled"]
    assert uploaded.job is not None
    assert uploaded.job.state == "cancelled"
    assert files_under(data_dir / "uploads") == []
    with pytest.raises(VerbError, match="not being imported"):
        dataset_verbs.cancel_import(uploaded)


def test_an_import_canceled_by_its_job_keeps_no_files(
    uploaded: Dataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainingapp.datasets import imports

    real = imports.run_import

    def cancelled_at_ten(dataset: Dataset, *, on_progress: Callable[[int, int], None]) -> None:
        def told(done: int, total: int) -> None:
            on_progress(done, total)
            if done == 3:
                assert uploaded.job is not None
                job_verbs.cancel_job(uploaded.job)

        real(dataset, on_progress=told)

    monkeypatch.setattr(imports, "run_import", cancelled_at_ten)
    assert work_off().state == "cancelled"
    uploaded.refresh_from_db()
    assert (uploaded.status, uploaded.report[0]["code"]) == ("refused", "import_cancelled")
    assert files_under(data_dir) == []


def test_a_cancellation_after_the_dataset_is_ready_has_no_effect(uploaded: Dataset) -> None:
    work_off()
    assert uploaded.job is not None
    assert job_verbs.cancel_job(uploaded.job).state == "done"
    uploaded.refresh_from_db()
    assert uploaded.status == "ready"


def test_a_source_on_the_server_is_kept_when_its_import_is_canceled(admin: User, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "mine", two_classes())
    before = files_under(source)
    dataset = dataset_verbs.start_import(owner=admin, name="mine", source=source, source_is_upload=False)
    dataset_verbs.cancel_import(dataset)
    assert (dataset.status, files_under(source)) == ("refused", before)


def test_the_page_shows_the_progress_and_cancels(user_client: Client, uploaded: Dataset) -> None:
    uploaded.job.delete()  # type: ignore[union-attr]
    working_on(uploaded, "importing", IMPORTING_IMAGES(), done=30, total=120)
    page = user_client.get(uploaded.get_absolute_url()).content.decode()
    assert "30 of 120" in page
    address = reverse("dataset_cancel", args=[uploaded.pk])
    assert f'action="{address}"' in page
    assert user_client.get(address).status_code == 405
    page = user_client.post(address, follow=True).content.decode()
    assert "The import was cancelled, and nothing of it was kept." in page
    assert address not in page
    again = user_client.post(address, follow=True).content.decode()
    assert "is not being imported" in again


SETUP = """
import sys, django
django.setup()
from pathlib import Path
from django.contrib.auth.models import User
from django.core.management import call_command
from trainingapp.datasets import verbs
from trainingapp.datasets.options import ImportOptions
call_command("migrate", verbosity=0)
owner = User.objects.create_superuser("root")
made = verbs.start_import(
    owner=owner, name="x", source=Path(sys.argv[1]), source_is_upload=True, options=ImportOptions()
)
print(made.pk)
"""

#: A worker that prints a line on standard output after ten images and waits to be killed.
WORKER = """
import time, django
django.setup()
from trainingapp.datasets import imports
from trainingapp.jobs import execution, lease
from trainingapp.jobs.kinds import Lane

real = imports.run_import

def slowly(dataset, *, on_progress):
    def told(done, total):
        on_progress(done, total)
        if done == 10:
            print("ten", flush=True)
            time.sleep(600)

    real(dataset, on_progress=told)

imports.run_import = slowly
execution.work(lease.claim_job(Lane.IMPORT))
"""

#: A second worker: started while the first one runs, or, with the argument "later", after the lease has expired.
SECOND = """
import sys, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from trainingapp.jobs import execution, lease
from trainingapp.jobs.kinds import Lane
from trainingapp.models import Dataset, Job

if sys.argv[1:] == ["later"]:
    Job.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=lease.LEASE_S + 1))
job = lease.claim_job(Lane.IMPORT)
if job is not None:
    execution.work(job)
print(Dataset.objects.get().status, Job.objects.get().state, Job.objects.get().tries)
"""


def test_an_import_whose_worker_is_killed_is_resumed_by_another(tmp_path: Path, studio_env: dict[str, str]) -> None:
    def studio(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        env = {**studio_env, "DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    data_dir = tmp_path / "data"
    upload = write_zip(data_dir / "uploads" / "x.zip", two_classes(each=30))
    number = studio(SETUP, upload).communicate()[0].strip()
    with studio(WORKER) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "ten\n"
        assert studio(SECOND).communicate()[0] == "importing working 1\n"
        killed.send_signal(signal.SIGKILL)
    assert studio(SECOND, "later").communicate()[0] == "ready done 2\n"
    assert [path.name for path in (data_dir / "datasets").iterdir()] == [number]
    assert not upload.exists()
