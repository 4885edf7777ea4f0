"""Forks and clones: the form of a fork, copies, and the lineage on the pages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.evaluations import evaluated
from trainingapp.contract.config import parse_config
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.forms import config_changes

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def html(response: Any) -> str:
    return str(response.content.decode())


def saved(run: TrainingRun, epoch: int = 5, **fields: Any) -> Checkpoint:
    values = {"file": f"epoch_{epoch}.pt", "attempt": 1, "epoch": epoch, "step": 10 * epoch, "reason": "epoch"}
    values |= {"size_bytes": 1, "sha256": "0" * 64, "created_at": timezone.now()}
    return Checkpoint.objects.create(run=run, **{**values, **fields})


def address(run: TrainingRun) -> str:
    return reverse("run_fork", args=[run.pk])


def sent(run: TrainingRun, **changes: Any) -> dict[str, Any]:
    """The data of the prefilled form."""
    plain = {name: value for name, value in run.config.items() if value is not False and value is not None}
    return {**plain, "name": "branch", "priority": 0, "checkpoint": "epoch_5.pt", "mode": "continue", **changes}


def fork_of(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.exclude(pk=run.pk).get()


def test_the_form_is_prefilled_from_the_run_and_the_checkpoint(user_client: Client, make: MAKE) -> None:
    run = make("completed", name="birds")
    saved(run)
    saved(run, 8)
    page = html(user_client.get(address(run), {"checkpoint": "epoch_5.pt"}))
    assert '<option value="epoch_5.pt" selected>' in page
    assert 'value="birds from epoch 5"' in page
    assert f'name="batch_size" value="{run.config["batch_size"]}"' in page
    kept = "Model, Labels per image, Folds, Fold, Optimizer, Layer-wise LR decay, EMA decay"
    assert f"these fields must keep their values: {kept}" in page


@pytest.mark.parametrize(("epochs", "offered"), [(4, 8), (5, 5)])
def test_a_fork_of_a_complete_run_has_epochs_left_by_default(
    user_client: Client, make: MAKE, epochs: int, offered: int
) -> None:
    run = make("completed")
    run.config["epochs"] = epochs
    run.save()
    saved(run, 4)
    form = user_client.get(address(run)).context["form"]
    assert form["epochs"].value() == offered
    user_client.post(address(run), sent(run, checkpoint="epoch_4.pt", epochs=offered))
    assert fork_of(run).config["epochs"] > 4


def test_it_continues_from_the_step(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    saved(run)
    response = user_client.post(address(run), sent(run, learning_rate="0.01", epochs="30", soft_limit_h="2"))
    fork = fork_of(run)
    assert response.headers["Location"] == fork.get_absolute_url()
    assert (fork.forked_from, fork.forked_checkpoint, fork.name, fork.status) == (
        run,
        "epoch_5.pt",
        "branch",
        "pending",
    )
    assert (fork.config["learning_rate"], fork.config["epochs"], fork.soft_limit_h) == (0.01, 30, 2.0)


def test_it_takes_only_the_weights_and_starts(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    saved(run)
    user_client.post(address(run), sent(run, mode="weights", optimizer="SGD", start="1"))
    fork = fork_of(run)
    assert (fork.forked_checkpoint, fork.config["start_from"]) == ("", f"run/{run.pk}/epoch_5.pt")
    assert (fork.config["optimizer"], fork.status) == ("SGD", "queued")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"optimizer": "SGD"}, "optimizer", "Must be AdamW"),
        ({"epochs": "5"}, "epochs", "from epoch 5"),
        ({"checkpoint": "epoch_9.pt"}, "checkpoint", "Select a valid choice"),
        ({"learning_rate": "0"}, "learning_rate", "more than 0"),
        ({"name": ""}, "name", "required"),
    ],
)
def test_an_error_is_shown_beside_its_field(
    user_client: Client, make: MAKE, changes: dict[str, str], field: str, said: str
) -> None:
    run = make("completed")
    saved(run)
    response = user_client.post(address(run), sent(run, **changes))
    assert response.status_code == 422
    assert said in " ".join(response.context["form"].errors[field])
    assert said.split()[-1] in html(response)
    assert TrainingRun.objects.count() == 1


def test_a_corrupted_checkpoint_is_not_offered(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    saved(run, damage="its hash does not hold")
    assert "No checkpoint yet" in html(user_client.get(address(run)))
    assert user_client.post(address(run), sent(run)).status_code == 422


def test_users_who_see_the_run_may_fork_it_but_viewers_may_not(client: Client, make: MAKE, other_user: User) -> None:
    run = make("completed")
    saved(run)
    client.force_login(other_user)
    client.post(address(run), sent(run))
    assert fork_of(run).owner == other_user
    other_user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    assert client.get(address(run)).status_code == 403


def test_a_run_that_the_user_cannot_see_is_not_forked(client: Client, make: MAKE, other_user: User) -> None:
    run = make("completed", visibility="private")
    saved(run)
    client.force_login(other_user)
    assert client.post(address(run), sent(run)).status_code == 404


def test_checkpoints_and_evaluations_link_to_the_form(user_client: Client, make: MAKE) -> None:
    run = make("completed")
    saved(run, 1)
    evaluated(run, 1)
    evaluated(run, 2)
    link = f"{address(run)}?checkpoint=epoch_1.pt"
    assert link in html(user_client.get(reverse("run_checkpoints", args=[run.pk])))
    there = reverse("evaluation", args=[run.pk])
    assert link in html(user_client.get(there, {"epoch": 1}))
    assert "?checkpoint=" not in html(user_client.get(there, {"epoch": 2}))  # none of that epoch is kept


# Where a run came from


def test_both_runs_show_their_relation(user_client: Client, make: MAKE, user: User) -> None:
    run = make("completed", name="origin")
    config = parse_config({**run.config, "learning_rate": 0.01})
    fork = run_verbs.fork_run(run, saved(run), owner=user, config=config, name="branch")
    page = html(user_client.get(fork.get_absolute_url()))
    assert "Forked from" in page
    assert "at epoch 5, step 50" in page
    assert "<del>0.001</del>" in page
    assert "<ins>0.01</ins>" in page
    assert "1 run was created from this one:" in html(user_client.get(run.get_absolute_url()))


def test_the_checkpoint_may_have_been_deleted(user_client: Client, make: MAKE, user: User) -> None:
    run = make("completed")
    fork = run_verbs.fork_run(run, saved(run), owner=user, config=parse_config(run.config))
    Checkpoint.objects.all().delete()
    assert '<span class="mono">epoch_5.pt</span>' in html(user_client.get(fork.get_absolute_url()))


def test_an_origin_that_the_user_cannot_see_is_not_named(client: Client, make: MAKE, other_user: User) -> None:
    run = make("completed", name="secret plan")
    fork = run_verbs.fork_run(run, saved(run), owner=other_user, config=parse_config(run.config), name="branch")
    TrainingRun.objects.filter(pk=run.pk).update(visibility="private")
    client.force_login(other_user)
    page = html(client.get(fork.get_absolute_url()))
    assert "a run that is not shared with you" in page
    assert "secret plan" not in page


def test_a_copy_stores_its_origin(user_client: Client, make: MAKE) -> None:
    run = make("completed", name="origin", soft_limit_h=3.0)
    page = html(user_client.get(reverse("run_new"), {"clone": run.pk}))
    assert f'name="clone" value="{run.pk}"' in page
    assert 'name="soft_limit_h" value="3.0"' in page or 'name="soft_limit_h" value="3"' in page
    form = sent(run, dataset=run.dataset_id, clone=run.pk, soft_limit_h="3")
    assert user_client.post(reverse("run_new"), form).status_code == 302
    copy = fork_of(run)
    assert (copy.forked_from, copy.forked_checkpoint, copy.soft_limit_h) == (run, "", 3.0)
    assert "Copy of" in html(user_client.get(copy.get_absolute_url()))


def test_only_differences_are_listed(make: MAKE) -> None:
    config = make().config
    found = config_changes(config, {**config, "epochs": 30, "amp": "on"})
    assert [(row.old, row.new) for row in found] == [(20, 30), ("auto", "on")]
    assert config_changes(config, config) == []
