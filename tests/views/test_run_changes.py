"""The pages that change a run: its epochs with a preview of the effect, its name and its limits."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from trainingapp.contract.config import parse_config
from trainingapp.models import TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.views.epochs_preview import preview, rate_at

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def html(response: Any) -> str:
    return str(response.content.decode())


def epochs(run: TrainingRun) -> str:
    return reverse("run_epochs", args=[run.pk])


def edit(run: TrainingRun) -> str:
    return reverse("run_edit", args=[run.pk])


# Epochs


TRAINED = {"epoch": 5, "step": 50, "total_epochs": 20, "total_steps": 200, "elapsed_s": 100.0}


def test_the_page_shows_the_schedule_before_and_after(user_client: Client, make: MAKE) -> None:
    run = make("running", **TRAINED)
    page = html(user_client.get(epochs(run), {"epochs": 30}))
    assert page.count("<polyline") == 3
    assert "was 20" in page
    assert "<table" in page
    assert 'value="30"' in page


def test_htmx_gets_only_the_preview(user_client: Client, make: MAKE) -> None:
    headers = {"HX-Request": "true", "HX-Target": "epochs-preview"}
    response = user_client.get(epochs(make("running", **TRAINED)), {"epochs": 30}, headers=headers)
    assert html(response).lstrip().startswith('<div id="epochs-preview"')


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("4", "already in epoch 5"), ("10001", "Must be at most 10000"), ("many", "whole number"), ("", "required")],
)
def test_an_impossible_number_is_reported_while_typing_and_on_submit(
    user_client: Client, make: MAKE, wanted: str, said: str
) -> None:
    run = make("paused", **TRAINED)
    typed, sent = user_client.get(epochs(run), {"epochs": wanted}), user_client.post(epochs(run), {"epochs": wanted})
    assert (typed.status_code, sent.status_code) == (200, 422)
    assert said in html(typed)
    assert said in html(sent)
    assert TrainingRun.objects.get().config["epochs"] == 20


@pytest.mark.parametrize(
    ("status", "then"), [("paused", "paused"), ("stopped", "stopped"), ("failed", "failed"), ("completed", "queued")]
)
def test_epochs_can_be_changed_in_every_state(user_client: Client, make: MAKE, status: str, then: str) -> None:
    run = make(status, **TRAINED)
    assert user_client.post(epochs(run), {"epochs": "30"}).status_code == 302
    stored = TrainingRun.objects.get()
    assert (stored.config["epochs"], stored.status) == (30, then)


def test_a_running_run_gets_a_request_without_a_pause(user_client: Client, make: MAKE) -> None:
    run = make("running", **TRAINED)
    response = user_client.post(epochs(run), {"epochs": "30"}, follow=True)
    assert TrainingRun.objects.get().requests == [{"id": 1, "command": "epochs", "epochs": 30}]
    assert "The new schedule takes effect" in html(response)


def test_it_can_be_resumed_with_the_change(user_client: Client, make: MAKE) -> None:
    run = make("stopped", **TRAINED)
    user_client.post(epochs(run), {"epochs": "30", "resume": "1"})
    stored = TrainingRun.objects.get()
    assert (stored.config["epochs"], stored.status) == (30, "queued")


def test_an_ending_run_is_not_changed(user_client: Client, make: MAKE) -> None:
    run = make("running", requested_action="stop", **TRAINED)
    assert "run is ending" in html(user_client.get(epochs(run)))
    assert user_client.post(epochs(run), {"epochs": "30"}).status_code == 422


def test_other_users_cannot_change_it(client: Client, make: MAKE, other_user: User) -> None:
    run = make("paused")
    client.force_login(other_user)
    assert client.get(epochs(run)).status_code == 403
    assert client.post(epochs(run), {"epochs": "30"}).status_code == 403
    assert client.get(edit(run)).status_code == 403


def test_the_time_is_that_of_the_remaining_epochs(make: MAKE) -> None:
    found = preview(make("running", **TRAINED), 30)  # 20 s an epoch, 5 of them done
    assert found.left_before is not None
    assert found.left_after is not None
    assert (found.left_before.high, found.left_after.high) == (300.0, 500.0)


def test_the_table_lists_the_rates_of_the_schedule(make: MAKE) -> None:
    run = make("running", **TRAINED)
    found = preview(run, 40)
    first, last = found.rows[0], found.rows[-1]
    assert (first.epoch, last.epoch) == (0, 40)
    assert first.after is None  # it is done already
    assert last.before is None  # it was not planned
    assert last.after == pytest.approx(0.0, abs=1e-5)
    assert found.rate_before < found.rate_after  # the cosine of a longer run is not as far
    assert found.jumps


def test_a_rate_between_two_points_is_interpolated() -> None:
    points = [(0.0, 1.0), (1.0, 0.5), (2.0, 0.0)]
    assert [rate_at(points, at) for at in (0.5, 1.5, 2.4, 3.0)] == [0.75, 0.25, 0.0, None]
    assert rate_at([], 1.0) is None


# Name and limits


def values(run: TrainingRun, **changes: Any) -> dict[str, Any]:
    return {"name": run.name, "priority": 0, "version": run.version, **changes}


def test_it_shows_the_stored_values_and_the_limits_of_the_studio(
    user_client: Client, make: MAKE, settings: Any
) -> None:
    settings.SOFT_TIME_LIMIT_HOURS = 7.5
    page = html(user_client.get(edit(make("running", soft_limit_h=None, hard_limit_h=30.0))))
    assert 'placeholder="7.5"' in page
    assert 'name="hard_limit_h" value="30"' in page


def test_name_and_limits_are_changed(user_client: Client, make: MAKE) -> None:
    run = make("running")
    sent = values(run, name="better", priority=3, soft_limit_h="1.5", hard_limit_h="2", max_recoveries="0")
    assert user_client.post(edit(run), sent).status_code == 302
    stored = TrainingRun.objects.get()
    assert (stored.name, stored.priority, stored.version) == ("better", 3, 2)
    assert (stored.soft_limit_h, stored.hard_limit_h, stored.max_recoveries) == (1.5, 2.0, 0)


def test_an_empty_limit_restores_that_of_the_studio(user_client: Client, make: MAKE) -> None:
    run = make("paused", soft_limit_h=1.0, max_recoveries=9)
    user_client.post(edit(run), values(run))
    stored = TrainingRun.objects.get()
    assert (stored.soft_limit_h, stored.max_recoveries) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": " "}, "required"),
        ({"priority": "5000"}, "less than or equal to 1000"),
        ({"soft_limit_h": "-1"}, "greater than or equal to 0"),
        ({"soft_limit_h": "3", "hard_limit_h": "2"}, "exceed the hard time limit of 2 hours"),
        ({"soft_limit_h": "48"}, "exceed the hard time limit of 24 hours"),
        ({"max_recoveries": "1.5"}, "whole number"),
    ],
)
def test_an_error_is_shown_beside_its_field(user_client: Client, make: MAKE, wrong: dict[str, str], said: str) -> None:
    run = make("paused")
    response = user_client.post(edit(run), values(run, **wrong))
    assert response.status_code == 422
    assert said in html(response)
    assert f'id="id_{next(iter(wrong))}_error"' in html(response)
    assert TrainingRun.objects.get().version == 1


def test_a_concurrent_edit_is_reported_to_the_second_editor(user_client: Client, make: MAKE) -> None:
    run = make("paused")
    sent = values(run, name="mine", soft_limit_h="1")
    run_verbs.update_run(TrainingRun.objects.get(), name="theirs")
    response = user_client.post(edit(run), sent)
    assert response.status_code == 409
    assert "current value theirs; your value mine" in html(response)
    assert TrainingRun.objects.get().name == "theirs"
    assert user_client.post(edit(run), {**sent, "version": 2}).status_code == 302
    assert (TrainingRun.objects.get().name, TrainingRun.objects.get().soft_limit_h) == ("mine", 1.0)


def test_saving_unchanged_values_changes_nothing(user_client: Client, make: MAKE) -> None:
    run = make("paused")
    user_client.post(edit(run), values(run))
    assert TrainingRun.objects.get().version == 1


def test_the_configuration_of_the_page_is_the_stored_one(make: MAKE) -> None:
    """The preview reads a stored configuration as the trainer does."""
    run = make("paused")
    assert parse_config(run.config).epochs == 20
