"""Archive and restore, tags, notes, stars and saved views; and the columns that lists sort by."""

from collections.abc import Callable
from functools import partial

import pytest
from django.contrib.auth.models import User

from tests.helpers.threads import in_threads
from trainingapp.contract.limits import MAX_TAGS, MAX_VIEWS
from trainingapp.models import SavedView, Tag, TrainingRun
from trainingapp.models.run import TransitionError
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.organizing import save_view, star_run

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def names(run: TrainingRun) -> list[str]:
    return [tag.name for tag in run.tags.all()]


@pytest.mark.parametrize("status", ["pending", "paused", "completed", "failed", "stopped"])
def test_a_run_that_is_not_queued_is_archived_and_restored(make: MAKE, status: str) -> None:
    run = make(status)
    assert run_verbs.RUN_VERBS["archive"].is_possible(run)
    run_verbs.archive_run(run)
    first = run.archived_at
    assert first is not None
    run_verbs.archive_run(run)  # again changes nothing
    assert run.archived_at == first
    assert run_verbs.RUN_VERBS["restore"].is_possible(run)
    run_verbs.restore_run(run)
    assert run.archived_at is None
    assert run.status == status


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_queued_or_running_run_is_not_archived(make: MAKE, status: str) -> None:
    run = make(status)
    assert not run_verbs.RUN_VERBS["archive"].is_possible(run)
    with pytest.raises(VerbError, match="cannot be archived"):
        run_verbs.archive_run(run)


@pytest.mark.parametrize(
    ("status", "verb"),
    [("pending", "start"), ("paused", "resume"), ("failed", "retry"), ("stopped", "resume"), ("completed", "epochs")],
)
def test_an_archived_run_is_not_queued(make: MAKE, status: str, verb: str) -> None:
    run = make(status)
    run_verbs.archive_run(run)
    record = run_verbs.RUN_VERBS[verb]
    assert not record.is_possible(run)
    values = {"epochs": run.total_epochs + 10} if verb == "epochs" else {}
    with pytest.raises(VerbError, match="Restore it first"):
        record.function(run, by="ada", **values)
    with pytest.raises(TransitionError):
        run.transition("queued")
    run.refresh_from_db()
    assert run.status == status


def test_tags_are_added_and_removed_by_name(make: MAKE) -> None:
    first, second = make(), make()
    run_verbs.tag_run(first, add=" baseline ,  large   images,,Baseline")
    run_verbs.tag_run(second, add="BASELINE")
    assert names(first) == ["Baseline", "large images"]
    assert names(second) == ["Baseline"], "the same tag in any case"
    run_verbs.tag_run(first, remove="baseline, unknown")
    assert names(first) == ["large images"]
    assert Tag.objects.filter(name="Baseline").exists(), "another run has it"
    run_verbs.tag_run(second, remove="baseline")
    assert not Tag.objects.filter(name="Baseline").exists()


def test_wrong_tags_are_refused(make: MAKE) -> None:
    run = make()
    with pytest.raises(FieldError, match="more than 40 characters"):
        run_verbs.tag_run(run, add="x" * 41)
    run_verbs.tag_run(run, add=",".join(f"tag {number}" for number in range(MAX_TAGS)))
    with pytest.raises(FieldError, match=f"{MAX_TAGS} tags"):
        run_verbs.tag_run(run, add="one more")
    run_verbs.tag_run(run, add="one more", remove="tag 0")
    assert len(names(run)) == MAX_TAGS


def test_a_note_is_set_and_removed(make: MAKE) -> None:
    run = make()
    run_verbs.note_run(run, " two\r\nlines ")
    assert TrainingRun.objects.get(pk=run.pk).note == "two\nlines"
    run_verbs.note_run(run, "")
    assert TrainingRun.objects.get(pk=run.pk).note == ""
    with pytest.raises(FieldError, match="10000 characters"):
        run_verbs.note_run(run, "x" * 10_001)


def test_a_star_is_that_of_one_user(make: MAKE, user: User, other_user: User) -> None:
    run = make()
    for _time in range(2):
        star_run(run, user, is_starred=True)
    assert list(user.starred_runs.all()) == [run]
    assert not other_user.starred_runs.exists()
    star_run(run, user, is_starred=False)
    assert not user.starred_runs.exists()


def test_a_view_is_saved_for_one_user_and_replaced(user: User, other_user: User) -> None:
    save_view(user, " failed ", "status=failed")
    save_view(other_user, "failed", "q=x")
    save_view(user, "failed", "status=failed&sort=name")
    assert list(SavedView.objects.filter(user=user).values_list("name", "query")) == [
        ("failed", "status=failed&sort=name")
    ]
    with pytest.raises(VerbError, match="A name is needed"):
        save_view(user, " ", "")
    with pytest.raises(VerbError, match="too many conditions"):
        save_view(user, "long", "q=" + "x" * 2000)
    SavedView.objects.bulk_create(SavedView(user=user, name=f"view {number}") for number in range(MAX_VIEWS - 1))
    with pytest.raises(VerbError, match=f"{MAX_VIEWS} views"):
        save_view(user, "one more", "")


@pytest.mark.django_db(transaction=True)
def test_views_saved_at_the_same_time_do_not_exceed_the_limit(user: User) -> None:
    SavedView.objects.bulk_create(SavedView(user=user, name=f"view {number}") for number in range(MAX_VIEWS - 1))
    results = in_threads([partial(save_view, user, f"new {number}", "") for number in range(4)])
    assert sum(isinstance(result, VerbError) for result in results) == 3
    assert SavedView.objects.filter(user=user).count() == MAX_VIEWS


def test_copied_columns_follow_their_source(make: MAKE) -> None:
    run = make(config={**make().config, "learning_rate": 0.25, "batch_size": 12})
    run = TrainingRun.objects.get(pk=run.pk)
    assert (run.learning_rate, run.batch_size, run.val_loss) == (0.25, 12, None)
    assert run.architecture == run.config["model"]
    run.metrics = {"val/loss": 0.5}
    run.config = {**run.config, "learning_rate": None, "image_size": "large", "model": "other"}
    run.save(update_fields=["metrics", "config"])
    run = TrainingRun.objects.get(pk=run.pk)
    assert (run.val_loss, run.learning_rate, run.image_size, run.architecture) == (0.5, None, None, "other")
    run.metrics = {"val/loss": float("nan")}
    run.epoch = 3
    run.save(update_fields=["epoch"])
    assert TrainingRun.objects.get(pk=run.pk).val_loss == 0.5, "only with its source"
