"""When a worker that stays for a while only leaves."""

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.helpers.jobs import no_worker
from tests.helpers.machines import asking, machine
from tests.helpers.studio import wait_for
from trainingapp.jobs.lease import claim
from trainingapp.jobs.verbs import cancel_job, request_job
from trainingapp.models import Host, Job, TrainingRun
from trainingapp.supervision import HOST, worker_id
from trainingapp.worker.consumer import Stay
from trainingapp.worker.departure import Idleness, is_occupied, leave_later

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture
def here() -> Host:
    return machine(HOST, slots=1)


@pytest.fixture
def ends() -> Iterator[threading.Event]:
    """Set once this process was asked to end."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = signal.signal(signal.SIGTERM, note)
    yield asked
    signal.signal(signal.SIGTERM, before)


def queued(make: MAKE, **config: object) -> TrainingRun:
    return make("queued", queued_at=timezone.now(), config=asking(**{"device": "cpu", **config}))


def test_without_work_it_is_idle(here: Host) -> None:
    assert not is_occupied()


def test_a_run_that_fits_occupies_it_and_others_do_not(here: Host, make: MAKE) -> None:
    queued(make, device="cuda")
    queued(make, device_count=9)
    make("running", worker="elsewhere:1:2", host="elsewhere", heartbeat_at=timezone.now())
    assert not is_occupied()
    queued(make)
    assert is_occupied()


def test_its_own_run_occupies_it(here: Host, make: MAKE) -> None:
    make("running", worker=worker_id(), host=HOST, heartbeat_at=timezone.now())
    assert is_occupied()


def test_a_job_occupies_it_until_another_worker_has_it(here: Host, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    no_worker(monkeypatch)
    job = request_job(Job.Kind.EXPORT, owner=user, params={})
    assert is_occupied()
    assert claim(job)
    assert is_occupied()
    Job.objects.update(worker="elsewhere:1:2")
    assert not is_occupied()
    Job.objects.update(worker=worker_id())
    cancel_job(job)
    assert not is_occupied()


def test_a_gpu_that_is_still_being_checked_occupies_it() -> None:
    gpu = machine(HOST, gpus=1).devices.filter(kind="gpu")
    gpu.update(problem="unchecked")
    assert is_occupied()
    gpu.update(problem="driver")
    assert not is_occupied()


def test_it_leaves_once_there_was_nothing_to_do_for_the_limit(here: Host, make: MAKE, ends: threading.Event) -> None:
    waiting = queued(make)
    idleness = Idleness(0)
    idleness.look()
    idleness.look()
    assert not ends.is_set(), "there is a run for it"
    waiting.delete()
    idleness.look()
    assert not ends.is_set(), "it has only just become idle"
    queued(make).delete()
    idleness.look()
    assert ends.is_set()


def test_work_in_between_starts_the_time_again(here: Host, make: MAKE, ends: threading.Event) -> None:
    idleness = Idleness(0)
    idleness.look()
    waiting = queued(make)
    idleness.look()
    waiting.delete()
    idleness.look()
    assert not ends.is_set()


@pytest.mark.any_database
def test_its_time_counts_from_the_start_of_its_process(ends: threading.Event) -> None:
    leave_later(0.001)  # the process of the tests is older
    wait_for(ends.is_set, 10, "it leaves")


def test_a_limit_makes_it_temporary() -> None:
    assert not Stay().is_temporary
    assert Stay(idle_s=0).is_temporary
    assert Stay(leave_after_s=60).is_temporary
