"""The queue: order, and one taker for each run."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.threads import in_threads
from trainingapp.models import Dataset, TrainingRun
from trainingapp.scheduler import claim_next, is_waiting

MAKE = Callable[..., TrainingRun]


@pytest.mark.django_db
def test_priority_goes_before_age_and_age_before_number(make: MAKE) -> None:
    now = timezone.now()
    third = make("queued", queued_at=now)
    fourth = make("queued", queued_at=now)
    second = make("queued", queued_at=now - timedelta(hours=1))
    first = make("queued", queued_at=now, priority=1)
    last = make("queued", queued_at=now - timedelta(days=1), priority=-1)
    for expected in (first, second, third, fourth, last):
        assert claim_next("here", "here:1:2") == expected
    assert claim_next("here", "here:1:2") is None
    assert not is_waiting()


@pytest.mark.django_db
def test_a_claim_says_whose_the_run_is(make: MAKE) -> None:
    make("queued", attempt=2)
    run = claim_next("here", "here:1:2")
    assert run is not None
    stored = TrainingRun.objects.get()
    assert (stored.status, stored.attempt, stored.host, stored.worker) == ("running", 3, "here", "here:1:2")
    assert stored.heartbeat_at is not None
    assert stored.started_at is not None
    assert stored.phase == "starting"
    assert not stored.is_silent


@pytest.mark.django_db
def test_only_queued_runs_are_claimed(make: MAKE) -> None:
    for status in set(TrainingRun.Status.values) - {"queued"}:
        make(status)
    assert claim_next("here", "here:1:2") is None


@pytest.mark.django_db(transaction=True)
def test_of_two_hundred_runs_none_is_claimed_twice(user: User, dataset: Dataset) -> None:
    runs = [TrainingRun(name="r", owner=user, dataset=dataset, config={}, status="queued") for _ in range(200)]
    TrainingRun.objects.bulk_create(runs)

    def claim_all(worker: str) -> list[int]:
        claimed = []
        while (run := claim_next("here", worker)) is not None:
            claimed.append(run.pk)
        return claimed

    first, second = in_threads([lambda: claim_all("here:1:1"), lambda: claim_all("here:2:2")])
    assert isinstance(first, list), first
    assert isinstance(second, list), second
    assert len(first) + len(second) == len({*first, *second}) == 200
    assert set(TrainingRun.objects.values_list("attempt", flat=True)) == {1}
