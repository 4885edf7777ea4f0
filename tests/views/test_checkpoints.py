"""The page of a run's checkpoints, and their download in every format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse
from safetensors.torch import load as load_safetensors

from tests.helpers.saved import content, flip_a_bit
from tests.helpers.stored import stored
from tests.helpers.trainers import assert_bit_equal
from trainingapp.models import Team, TrainingRun

MAKE = Callable[..., TrainingRun]


def page(run: TrainingRun) -> str:
    return reverse("run_checkpoints", args=[run.pk])


def files(run: TrainingRun) -> list[str]:
    return list(run.checkpoints.order_by("step").values_list("file", flat=True))


def text(response: Any) -> str:
    return response.content.decode().replace("\N{NO-BREAK SPACE}", " ")


async def downloaded(user: User, run: TrainingRun, file: str, form: str = "") -> tuple[bytes, Any]:
    client = AsyncClient()
    await client.aforce_login(user)
    address = reverse("checkpoint_download", args=[run.pk, file]) + form
    response = await client.get(address)
    assert response.status_code == 200
    return b"".join([bytes(piece) async for piece in response.streaming_content]), response  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["compact", "plain"])
async def test_a_downloaded_checkpoint_can_be_loaded_by_torch(
    user: User, make: MAKE, tmp_path: Path, form: str
) -> None:
    run = await sync_to_async(lambda: stored(make("paused"), 3, form=form))()
    for number in (1, 3):
        data, response = await downloaded(user, run, f"epoch_{number}.pt")
        assert response.headers["Content-Length"] == str(len(data))
        assert ("X-Checksum-SHA256" in response.headers) == (form == "plain")
        assert f'-{run.pk}-epoch_{number}.pt"' in response.headers["Content-Disposition"]
        (tmp_path / "got.pt").write_bytes(data)
        assert_bit_equal(torch.load(tmp_path / "got.pt", weights_only=True), content(number, is_best=number == 1))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["compact", "plain"])
async def test_the_weights_are_downloaded_as_safetensors(user: User, make: MAKE, form: str) -> None:
    run = await sync_to_async(lambda: stored(make("paused"), 2, form=form))()
    data, response = await downloaded(user, run, "epoch_2.pt", "?format=safetensors")
    assert response.headers["Content-Length"] == str(len(data))
    assert ".safetensors" in response.headers["Content-Disposition"]
    assert_bit_equal(load_safetensors(data), content(2)["model_state_dict"])


@pytest.mark.django_db(transaction=True)
async def test_the_download_of_a_corrupted_checkpoint_is_incomplete(user: User, make: MAKE) -> None:
    run = await sync_to_async(lambda: stored(make("paused"), 2))()
    flip_a_bit(sorted((run.folder / "checkpoints" / "packs").iterdir())[-1], 4000)
    with pytest.raises(ValueError, match="does not match"):
        await downloaded(user, run, "epoch_2.pt")


@pytest.mark.parametrize("form", ["zip", "", "../pt"])
def test_an_unknown_format_is_not_found(user_client: Client, make: MAKE, form: str) -> None:
    run = stored(make("paused"), 2)
    address = reverse("checkpoint_download", args=[run.pk, "epoch_2.pt"])
    assert user_client.get(address, {"format": form}).status_code == 404


def test_a_checkpoint_with_a_truncated_manifest_is_not_found(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"), 2)
    path = run.checkpoints.get(file="epoch_2.pt").path
    path.write_bytes(path.read_bytes()[:100])
    assert user_client.get(reverse("checkpoint_download", args=[run.pk, "epoch_2.pt"])).status_code == 404


def test_the_page_previews_the_retention_policy(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"), 6, best=2)
    shown = text(user_client.get(page(run), {"last": 2}))
    assert "These rules would delete 3 checkpoints" in shown
    assert 'value="epoch_1.pt,epoch_3.pt,epoch_4.pt"' in shown
    assert "These rules would delete nothing." in text(user_client.get(page(run), {"last": 6}))
    assert len(files(run)) == 6, "looking deletes nothing"


def test_htmx_gets_only_the_list(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"))
    shown = text(user_client.get(page(run), {"last": 2}, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="clean-up"))
    assert shown.strip().startswith('<div id="clean-up">')
    assert "<html" not in shown


@pytest.mark.parametrize(("name", "value"), [("last", "-1"), ("best", "0"), ("days", "soon"), ("gb", "")])
def test_an_invalid_rule_is_named(user_client: Client, make: MAKE, name: str, value: str) -> None:
    run = stored(make("paused"))
    shown = text(user_client.get(page(run), {name: value}))
    assert "notice-error" in shown
    assert "would delete" not in shown


def test_deletion_is_confirmed_with_files_and_bytes(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"), 6, best=2)
    asked = text(user_client.post(page(run), {"files": "epoch_1.pt,epoch_3.pt"}))
    assert "Delete 2 checkpoints?" in asked
    assert "packs/000003.pack" in asked
    assert len(files(run)) == 6
    answer = user_client.post(page(run), {"files": "epoch_1.pt,epoch_3.pt", "confirmed": "yes"}, follow=True)
    assert "2 checkpoints deleted" in text(answer)
    assert files(run) == ["epoch_2.pt", "epoch_4.pt", "epoch_5.pt", "epoch_6.pt"]
    again = user_client.post(page(run), {"files": "epoch_1.pt,epoch_3.pt", "confirmed": "yes"}, follow=True)
    assert again.status_code == 200, "pressed twice"


def test_deletion_of_selected_checkpoints_is_confirmed(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"))
    assert "Delete 2 checkpoints?" in text(user_client.post(page(run), {"file": ["epoch_1.pt", "epoch_2.pt"]}))
    assert "No checkpoints were selected" in text(user_client.post(page(run), {}, follow=True))


def test_deleting_a_required_checkpoint_is_refused_with_a_reason(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"), 2)
    answer = user_client.post(page(run), {"file": ["epoch_1.pt"], "confirmed": "yes"}, follow=True)
    assert "at least 2 valid" in text(answer)
    assert len(files(run)) == 2


def test_deleting_from_a_running_run_is_refused_with_a_reason(user_client: Client, make: MAKE) -> None:
    run = stored(make("running"))
    answer = user_client.post(page(run), {"file": ["epoch_1.pt"], "confirmed": "yes"}, follow=True)
    assert "Pause it before" in text(answer)
    assert len(files(run)) == 4


def test_only_the_owner_and_administrators_can_change_checkpoints(
    client: Client, other_user: User, staff_client: Client, make: MAKE
) -> None:
    run = stored(make("completed"))
    client.force_login(other_user)
    assert "Delete the chosen" not in text(client.get(page(run)))
    assert client.post(page(run), {"file": ["epoch_1.pt"], "confirmed": "yes"}).status_code == 403
    assert client.post(reverse("checkpoint_control", args=[run.pk, "epoch_1.pt", "pin"])).status_code == 403
    assert len(files(run)) == 4
    staff_client.post(page(run), {"file": ["epoch_1.pt"], "confirmed": "yes"})
    assert len(files(run)) == 3


def test_a_checkpoint_is_pinned_verified_and_unpinned(user_client: Client, make: MAKE) -> None:
    run = stored(make("running"))

    def press(verb: str, file: str = "epoch_2.pt") -> Any:
        return user_client.post(reverse("checkpoint_control", args=[run.pk, file, verb]), follow=True)

    assert "pinned" in text(press("pin"))
    assert run.checkpoints.get(is_pinned=True).file == "epoch_2.pt"
    assert "all hashes match" in text(press("verify"))
    flip_a_bit(sorted((run.folder / "checkpoints" / "packs").iterdir())[1], 4000)
    assert "does not match" in text(press("verify"))
    assert "does not match" in text(user_client.get(page(run)))
    press("unpin")
    assert not run.checkpoints.filter(is_pinned=True).exists()
    assert press("pin", "epoch_9.pt").status_code == 404
    assert user_client.get(reverse("checkpoint_control", args=[run.pk, "epoch_2.pt", "pin"])).status_code == 405


def test_a_run_without_checkpoints_shows_an_empty_state(user_client: Client, run: TrainingRun) -> None:
    assert "No checkpoints yet" in text(user_client.get(page(run)))


def test_a_corrupted_index_is_reported(user_client: Client, make: MAKE) -> None:
    run = stored(make("paused"))
    (run.folder / "checkpoints" / "index.json").write_text("[{")
    assert "is corrupted" in text(user_client.get(page(run)))


@pytest.mark.django_db
def test_a_team_mate_can_pin_but_not_delete_checkpoints(make: MAKE, user: User, other_user: User) -> None:
    team = Team.objects.create(name="team")
    team.members.add(user, other_user)
    run = stored(make("stopped", visibility="team", team=team))
    mate, owner = Client(), Client()
    mate.force_login(other_user)
    owner.force_login(user)
    shown = text(mate.get(page(run)))
    assert "Pin</button>" in shown
    assert "Delete selected" not in shown
    assert "Delete these" not in shown
    assert "Delete selected" in text(owner.get(page(run)))
    assert mate.post(page(run), {"files": "epoch_1.pt", "confirmed": "1"}).status_code == 403
    assert len(files(run)) == 4
