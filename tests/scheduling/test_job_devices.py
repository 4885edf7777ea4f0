"""Jobs on GPUs: only where no run has or waits for one, and given back when the job ends in whatever way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.jobs import lose_worker
from tests.helpers.machines import asking, hold, machine
from trainingapp.jobs import execution, kinds, lease
from trainingapp.jobs import verbs as job_verbs
from trainingapp.jobs.attempts import Outcome
from trainingapp.models import Device, Job, TrainingRun
from trainingapp.scheduling.forecast import read_board
from trainingapp.scheduling.job_devices import release_gpu, take_gpu
from trainingapp.scheduling.placement import held_by_jobs, read_cluster
from trainingapp.scheduling.scheduler import claim_next, why_waiting
from trainingapp.supervision import HOST
from trainingapp.supervision.device_checks import due_devices

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture
def job(user: User) -> Job:
    return Job.objects.create(kind="predict_many", owner=user, state="working")


def queued(make: MAKE, **config: Any) -> TrainingRun:
    return make("queued", queued_at=timezone.now(), config=asking(**config))


def test_a_job_takes_the_gpu_with_the_most_free_memory(job: Job) -> None:
    host = machine(gpus=2)
    host.devices.filter(kind="gpu", index=0).update(memory_free_bytes=1 << 30)
    assert take_gpu(job, "here") == {"device": "cuda:1", "device_uuid": "GPU-1"}
    assert list(held_by_jobs()) == [Device.objects.get(index=1)]
    release_gpu(job)
    assert not held_by_jobs().exists()


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "waiting"])
def test_a_job_that_does_not_work_holds_nothing(job: Job, state: str) -> None:
    machine(gpus=1)
    take_gpu(job, "here")
    Job.objects.update(state=state)
    assert not held_by_jobs().exists()
    assert [slot.holds for slot in read_cluster().machines[0].devices] == [[], []]


def test_there_is_none_where_runs_have_or_wait_for_it(job: Job, make: MAKE) -> None:
    host = machine(gpus=1)
    assert take_gpu(job, "elsewhere") == {}
    run = make("running", config=asking(device="cuda"), device="cuda:0")
    held = hold(run, host.devices.get(kind="gpu"))
    assert take_gpu(job, "here") == {}
    held.delete()
    waiting = queued(make, device="cuda")
    assert take_gpu(job, "here") == {}, "the run is about to start there"
    waiting.delete()
    host.devices.filter(kind="gpu").update(problem="driver")
    assert take_gpu(job, "here") == {}
    host.devices.filter(kind="gpu").update(problem="")
    assert take_gpu(job, "here") == {"device": "cuda:0", "device_uuid": "GPU-0"}


@pytest.mark.parametrize(
    ("device", "taken"),
    [
        ("auto", {"device": "cuda:0", "device_uuid": "GPU-0"}),
        ("cuda", {"device": "cuda:0", "device_uuid": "GPU-0"}),
        ("cuda:1", {"device": "cuda:1", "device_uuid": "GPU-1"}),
        ("cuda:7", {}),
        ("cpu", {}),
    ],
)
def test_the_check_of_a_run_takes_a_gpu_that_the_run_asks_for(user: User, device: str, taken: dict[str, str]) -> None:
    machine(gpus=2)
    check = Job.objects.create(kind="preflight", owner=user, state="working", params={"config": asking(device=device)})
    assert kinds.kind_of(check).uses_gpu
    assert take_gpu(check, "here") == taken
    assert held_by_jobs().count() == len(taken) / 2


def test_the_check_of_a_run_holds_a_gpu_with_the_memory_that_the_run_needs(user: User) -> None:
    host = machine(gpus=2)
    host.devices.filter(kind="gpu", index=0).update(memory_free_bytes=1 << 30)
    config = asking(device="cuda", min_free_memory_gb=4, share_device=True)
    check, another = (
        Job.objects.create(kind="preflight", owner=user, state="working", params={"config": config}) for _ in range(2)
    )
    assert take_gpu(check, "here")["device"] == "cuda:1"
    assert take_gpu(another, "here") == {}, "a job shares its GPU with nothing"


def test_a_full_host_still_lends_an_idle_gpu(job: Job, make: MAKE) -> None:
    host = machine(gpus=1, slots=1)
    hold(make("running", config=asking(device="cpu")), host.devices.get(kind="cpu"))
    assert take_gpu(job, "here")["device"] == "cuda:0"


def test_no_run_gets_the_gpu_of_a_job_and_its_wait_is_explained(job: Job, make: MAKE) -> None:
    machine(gpus=1)
    take_gpu(job, "here")
    waiting, on_cpu = queued(make, device="cuda"), queued(make, device="cpu")
    assert claim_next("here", "here:1:2") == on_cpu, "a job is no run: the limit of the host does not count it"
    assert claim_next("here", "here:1:2") is None
    assert "a job (prediction of many images)" in why_waiting(waiting)
    assert [
        hold for device in read_board().cluster.machines[0].devices for hold in device.holds if not hold.run_id
    ] == []
    release_gpu(job)
    assert claim_next("here", "here:1:2") == waiting


def test_a_gpu_with_a_job_is_not_checked(job: Job) -> None:
    machine(gpus=1)
    Device.objects.filter(kind="gpu").update(check_at=timezone.now())
    assert len(due_devices("here")) == 1
    take_gpu(job, "here")
    assert due_devices("here") == []


def test_the_page_of_devices_names_the_job(user_client: Client, job: Job) -> None:
    machine(gpus=1)
    take_gpu(job, "here")
    page = user_client.get(reverse("device_list")).content.decode()
    assert "a job (prediction of many images)" in page


class Ended:
    """An attempt whose outcome is there at once."""

    def outcome(self) -> Outcome:
        return Outcome({"images": 1})

    def progress(self) -> dict[str, object]:
        return {}

    def end(self) -> None:
        assert held_by_jobs().count() == 1, "the GPU was given back before the process had ended"


def test_the_worker_names_the_gpu_to_the_engine_and_gives_it_back(
    user: User, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_DIR = tmp_path
    machine(HOST, gpus=1)
    woken: list[bool] = []
    given: list[dict[str, str]] = []
    monkeypatch.setattr(execution, "wake_trainer", lambda: woken.append(True))
    monkeypatch.setattr(execution, "started", lambda job, device: given.append(dict(device)) or Ended())
    monkeypatch.setattr(kinds.JobKind, "on_done", lambda kind, job, result: None)
    monkeypatch.setattr("trainingapp.worker.tasks.do_jobs", lambda lane: None)
    job = job_verbs.request_job(Job.Kind.PREDICT_MANY, owner=user, params={})
    lost = lease.claim_job()
    assert lost is not None
    take_gpu(lost, HOST)
    lose_worker(lost)  # killed: the next worker claims the job, and takes the GPU again
    again = lease.claim_job()
    assert again == job
    execution.work(again)
    job.refresh_from_db()
    assert (job.state, given) == ("done", [{"device": "cuda:0", "device_uuid": "GPU-0"}])
    assert not held_by_jobs().exists()
    assert woken == [True]
