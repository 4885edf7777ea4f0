"""The order of the queue: moves, priorities, concurrency, and refusals."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers.threads import in_threads
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.verbs import move_in_queue, set_priority
from trainingapp.scheduling.placement import queued_runs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture
def queue(make: MAKE) -> dict[str, TrainingRun]:
    """a b c with priority 1, d e f with priority 0."""
    return {name: make("queued", name=name, queue_rank=rank, priority=int(name < "d")) for rank, name in letters()}


def letters() -> Iterator[tuple[float, str]]:
    return ((float(rank), name) for rank, name in enumerate("abcdef"))


def order() -> str:
    return "".join(run.name for run in queued_runs())


@pytest.mark.parametrize(
    ("moved", "place", "expected"),
    [
        ("c", {"before": "b"}, "acbdef"),
        ("c", {"after": "a"}, "acbdef"),
        ("a", {"after": "c"}, "bcadef"),
        ("f", {"before": "e"}, "abcdfe"),
        ("f", {"to": "first"}, "fabcde"),
        ("a", {"to": "last"}, "bcdefa"),
        ("e", {"before": "b"}, "aebcdf"),
        ("b", {"after": "e"}, "acdebf"),
        ("d", {"after": "a"}, "adbcef"),
        ("c", {"before": "d"}, "abcdef"),
        ("a", {"to": "first"}, "abcdef"),
        ("f", {"to": "last"}, "abcdef"),
        ("b", {"before": "b"}, "abcdef"),
    ],
)
def test_a_run_moves_to_the_requested_position(
    queue: dict[str, TrainingRun], moved: str, place: dict[str, str], expected: str
) -> None:
    arguments: dict[str, Any] = {name: queue.get(value, value) for name, value in place.items()}
    move_in_queue(queue[moved], **arguments)
    assert order() == expected
    before = list(queued_runs().values_list("queue_rank", "priority", "updated_at"))
    move_in_queue(queue[moved], **arguments)
    assert list(queued_runs().values_list("queue_rank", "priority", "updated_at")) == before, "asked again, it stays"


def test_the_priority_changes_only_where_the_position_requires_it(queue: dict[str, TrainingRun]) -> None:
    move_in_queue(queue["f"], before=queue["d"])
    assert queue["f"].priority == 0
    move_in_queue(queue["f"], before=queue["c"])
    assert queue["f"].priority == 1
    move_in_queue(queue["a"], to="last")
    assert queue["a"].priority == 0


def test_a_hundred_moves_into_the_same_gap_all_take_effect(queue: dict[str, TrainingRun]) -> None:
    """A float can be halved a limited number of times; the ranks are renumbered before that."""
    for number in range(100):
        name = "bc"[number % 2]
        move_in_queue(queue[name], after=queue["a"])
        assert order()[1] == name
    ranks = list(queued_runs().filter(priority=1).values_list("queue_rank", flat=True))
    assert ranks == sorted(set(ranks))


def test_runs_of_equal_rank_have_an_order(make: MAKE) -> None:
    """As they are in a database from before there were ranks."""
    runs = {name: make("queued", name=name) for name in "abc"}
    move_in_queue(runs["c"], before=runs["b"])
    assert order() == "acb"


@pytest.mark.parametrize("status", ["pending", "running", "paused", "completed", "failed", "stopped"])
def test_a_run_that_is_not_queued_cannot_be_moved(queue: dict[str, TrainingRun], make: MAKE, status: str) -> None:
    other = make(status, name="other")
    with pytest.raises(VerbError, match="and not in the queue"):
        move_in_queue(other, to="first")
    with pytest.raises(VerbError, match="no longer waiting"):
        move_in_queue(queue["a"], before=other)
    assert order() == "abcdef"


def test_moving_a_deleted_run_is_refused(queue: dict[str, TrainingRun]) -> None:
    gone = queue["a"]
    TrainingRun.objects.filter(pk=gone.pk).delete()
    with pytest.raises(VerbError, match="was deleted"):
        move_in_queue(gone, to="last")


def test_the_priority_of_a_run(queue: dict[str, TrainingRun]) -> None:
    set_priority(queue["f"], 7)
    assert order() == "fabcde"
    stamp = TrainingRun.objects.get(pk=queue["f"].pk).updated_at
    set_priority(queue["f"], 7)
    assert TrainingRun.objects.get(pk=queue["f"].pk).updated_at == stamp
    with pytest.raises(VerbError, match="between"):
        set_priority(queue["f"], 1001)


@pytest.mark.parametrize("status", ["completed", "failed", "stopped"])
def test_the_priority_of_a_finished_run_cannot_be_changed(make: MAKE, status: str) -> None:
    with pytest.raises(VerbError, match="has no effect"):
        set_priority(make(status), 3)


def test_a_started_run_is_last_and_a_recovered_run_keeps_its_position(make: MAKE) -> None:
    first, second = make(name="a"), make(name="b")
    run_verbs.start_run(first)
    run_verbs.start_run(second)
    assert order() == "ab"
    first.transition("running", attempt=1)
    third = run_verbs.start_run(make(name="c"))
    assert order() == "bc"
    first.transition("queued")
    assert order() == "abc"
    run_verbs.pause_run(first)
    run_verbs.resume_run(first)
    assert order() == "bca"
    assert third.queue_rank > second.queue_rank


@pytest.mark.django_db(transaction=True)
def test_concurrent_moves_leave_every_run_at_one_position(make: MAKE) -> None:
    runs = [make("queued", name=f"{number}", queue_rank=float(number)) for number in range(8)]

    def shuffle(which: int) -> None:
        for other in (5, 6, 7, 0):
            move_in_queue(TrainingRun.objects.get(pk=runs[which].pk), to="first")
            move_in_queue(TrainingRun.objects.get(pk=runs[which].pk), after=runs[other])

    assert in_threads([lambda which=which: shuffle(which) for which in (1, 2, 3, 4)]) == [None] * 4
    found = list(queued_runs())
    assert sorted(run.pk for run in found) == [run.pk for run in runs]
    ranks = [run.queue_rank for run in found]
    assert len(set(ranks)) == len(ranks)


@pytest.mark.django_db(transaction=True)
def test_a_concurrent_claim_and_move(make: MAKE, settings: Any) -> None:
    from trainingapp.scheduling.scheduler import claim_next

    settings.MAX_TRAINING_PROCESSES = 64
    for _ in range(8):
        run, _other = make("queued", config={}), make("queued", config={})
        results = in_threads([lambda run=run: move_in_queue(run, to="last"), lambda: claim_next("here", "here:1:2")])
        assert all(isinstance(result, TrainingRun | VerbError) for result in results), results
        assert queued_runs().count() == 1
        queued_runs().delete()
