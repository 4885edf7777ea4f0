"""Sharing: success, repetition, invalid requests, and the effect on visibility."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.accounts.permissions import visible_to
from trainingapp.models import AuditEntry, Dataset, Team, TrainingRun
from trainingapp.models.verbs import VerbError

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(user: User) -> Team:
    team = Team.objects.create(name="birds")
    team.members.add(user)
    return team


def test_sharing_is_stored_and_recorded_once(run: TrainingRun, team: Team, user: User) -> None:
    AuditEntry.objects.all().delete()
    for _time in range(2):
        sharing_verbs.share(run, "team", team, by=user)
    stored = TrainingRun.objects.get()
    assert (stored.visibility, stored.team) == ("team", team)
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.kind, entry.username, entry.details) == ("share", "run", "ada", {"with": "birds"})


@pytest.mark.parametrize("visibility", ["everybody", "private"])
def test_the_team_is_stored_only_for_sharing_with_a_team(dataset: Dataset, team: Team, visibility: str) -> None:
    sharing_verbs.share(dataset, "team", team)
    sharing_verbs.share(dataset, visibility, team)
    stored = Dataset.objects.get()
    assert (stored.visibility, stored.team) == (visibility, None)


def test_invalid_requests_are_refused(run: TrainingRun, team: Team, other_user: User) -> None:
    strange = Team.objects.create(name="strangers")
    strange.members.add(other_user)
    for wrong in (("world", None), ("team", None), ("team", strange)):
        with pytest.raises(VerbError):
            sharing_verbs.share(run, *wrong)
    assert TrainingRun.objects.get().visibility == "everybody"


def test_a_deleted_object_cannot_be_shared(run: TrainingRun) -> None:
    TrainingRun.objects.all().delete()
    with pytest.raises(VerbError, match="was deleted"):
        sharing_verbs.share(run, "private")


@pytest.mark.parametrize(("visibility", "strangers", "mates"), [("private", 0, 0), ("team", 0, 1), ("everybody", 1, 1)])
def test_sharing_decides_who_sees_it(
    run: TrainingRun, team: Team, other_user: User, visibility: str, strangers: int, mates: int
) -> None:
    mate = User.objects.create_user("mate")
    team.members.add(mate)
    sharing_verbs.share(run, visibility, team)
    seen: dict[str, Any] = {}
    for name, who in (("stranger", other_user), ("mate", mate), ("owner", run.owner)):
        seen[name] = visible_to(who, TrainingRun.objects.all()).count()
    assert seen == {"stranger": strangers, "mate": mates, "owner": 1}


def test_a_run_needs_a_visible_dataset(dataset: Dataset, other_user: User) -> None:
    from tests.helpers.tiny import make_run

    sharing_verbs.share(dataset, "private")
    with pytest.raises(VerbError, match="not shared with grace"):
        make_run(other_user, dataset)


def test_a_run_needs_a_visible_start_checkpoint(run: TrainingRun, other_user: User) -> None:
    from django.utils import timezone

    from tests.helpers.tiny import make_run
    from trainingapp.models import Checkpoint

    Checkpoint.objects.create(
        run=run, file="epoch_1.pt", attempt=1, epoch=1, step=1, reason="epoch", size_bytes=1, created_at=timezone.now()
    )
    start = f"run/{run.pk}/epoch_1.pt"
    assert make_run(other_user, run.dataset, start_from=start).pk
    sharing_verbs.share(run, "private")
    with pytest.raises(VerbError, match="does not exist"):
        make_run(other_user, run.dataset, start_from=start)
    assert make_run(run.owner, run.dataset, start_from=start).pk


def test_a_viewer_cannot_create_anything(dataset: Dataset, other_user: User) -> None:
    from django.contrib.auth.models import Group

    from tests.helpers.tiny import make_run

    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    with pytest.raises(VerbError, match="Viewers"):
        make_run(other_user, dataset)
