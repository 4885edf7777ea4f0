"""The page of the queue, and changes of the order by its forms."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.machines import asking, busy_studio, hold, machine
from trainingapp.models import Dataset, Forecast, TrainingRun
from trainingapp.scheduling import forecast
from trainingapp.scheduling.placement import queued_runs
from trainingapp.views import queue

pytestmark = pytest.mark.database

MAKE = Callable[..., TrainingRun]
HTMX = {"HX-Request": "true", "HX-Target": "queue"}


def html(response: Any) -> str:
    return str(response.content.decode()).replace("\xa0", " ")


def page(client: Client) -> str:
    return html(client.get(reverse("queue")))


@pytest.fixture
def three(make: MAKE) -> list[TrainingRun]:
    machine()
    return [make("queued", name=name, queue_rank=float(rank), config=asking()) for rank, name in enumerate("abc")]


def order() -> str:
    return "".join(queued_runs().values_list("name", flat=True))


def move(client: Client, run: TrainingRun, headers: dict[str, str] | None = None, **place: object) -> Any:
    return client.post(reverse("queue_move", args=[run.pk]), place, headers=headers)


def test_anonymous_users_are_redirected_to_the_login(client: Client, three: list[TrainingRun]) -> None:
    assert client.get(reverse("queue")).status_code == 302
    assert move(client, three[0], to="last").status_code == 302
    assert order() == "abc"


def test_an_empty_queue_explains_the_next_step(user_client: Client) -> None:
    text = page(user_client)
    assert "No running or waiting runs" in text
    assert reverse("run_new") in text
    assert "No worker is running" in text


def test_running_and_waiting_runs_are_shown_with_reasons(user_client: Client, admin: User, dataset: Dataset) -> None:
    busy_studio(admin, dataset)
    text = page(user_client)
    held = re.findall(r'id="held-\d+"[^>]*>\s*<td[^>]*>\s*<div><span[^>]*>([^<]*)</span>', text)
    assert held == ["cuda:0", "cpu", "cpu"]
    names = re.findall(r'<li class="queue-item".*?class="row-title"[^>]*>([^<]*)<', text, re.S)
    assert names[0] == "Leaves, second try"
    assert names[-1] == "Small one"
    assert len(names) == 6
    assert "cuda:1 on gpu-box lacks 3.0 GB of free memory." in text
    assert "No host has cuda:3." in text
    assert "It does not start before" in text
    assert "Of the last 12 forecasts, 6 were within their range; median error 5 min 15 s." in text
    assert len(re.findall('class="queue-why"', text)) == 6


def test_a_run_on_several_devices_has_one_row(user_client: Client, make: MAKE) -> None:
    host = machine(slots=4, gpus=3)
    gang, other = make("running", name="gang", attempt=1), make("running", name="other", attempt=1)
    for run, index in ((gang, 0), (other, 1), (gang, 2)):
        hold(run, host.devices.get(kind="gpu", index=index))
    text = page(user_client)
    assert re.findall(r'<span class="fw-semibold">([^<]*)</span>', text) == ["cuda:0, cuda:2", "cuda:1"]
    assert text.count('id="held-') == 2


def test_the_devices_of_a_run_on_several_hosts_are_shown_by_host(user_client: Client, make: MAKE) -> None:
    run = make("running", name="gang", attempt=1)
    for name in ("north", "south"):
        host = machine(name, gpus=2)
        for device in host.devices.filter(kind="gpu"):
            hold(run, device)
    text = page(user_client)
    shown = re.findall(r'<span class="fw-semibold">([^<]*)</span> <span class="quiet[^"]*">([^<]*)</span>', text)
    assert shown == [("cuda:0, cuda:1", "north"), ("cuda:0, cuda:1", "south")]
    assert text.count('id="held-') == 1


def test_a_forecast_is_shown_as_a_range(user_client: Client, three: list[TrainingRun]) -> None:
    TrainingRun.objects.update(queued_at=timezone.now() - timedelta(minutes=1))
    noon = timezone.localtime().replace(hour=12, minute=0, second=0)
    times = {"start_earliest": noon, "start_latest": noon + timedelta(minutes=9)}
    times |= {"finish_earliest": noon + timedelta(hours=1), "finish_latest": noon + timedelta(days=1)}
    forecast.keep_up()
    Forecast.objects.create(run=three[0], made_at=timezone.now(), basis=3, **times)
    text = page(user_client)
    assert "Starts 12:00 – 12:09" in text
    assert re.search(r"ends 13:00 – \d+ \w+ 12:00", text)
    assert "based on 3 similar runs" in text
    assert "No similar run has finished yet, so the end is unknown." in text


def test_only_users_who_may_control_a_run_get_its_buttons(staff_client: Client, other_user: User, three: Any) -> None:
    assert page(staff_client).count('title="Move up"') == 3
    stranger = Client()
    stranger.force_login(other_user)
    assert "Move up" not in page(stranger)
    assert move(stranger, three[2], to="first").status_code == 403
    priority = stranger.post(reverse("queue_priority", args=[three[2].pk]), {"priority": 5})
    assert priority.status_code == 403
    assert order() == "abc"


@pytest.mark.parametrize(
    ("moved", "place", "expected"),
    [(2, {"to": "first"}, "cab"), (0, {"to": "last"}, "bca"), (1, {"before": 0}, "bac"), (1, {"after": 2}, "acb")],
)
def test_a_form_moves_a_run(
    user_client: Client, three: list[TrainingRun], moved: int, place: dict[str, Any], expected: str
) -> None:
    values = {name: three[value].pk if isinstance(value, int) else value for name, value in place.items()}
    for _ in range(2):  # pressed twice, nothing else happens
        assert move(user_client, three[moved], **values).status_code == 302
        assert order() == expected


def test_htmx_gets_the_lists_and_an_announcement(user_client: Client, three: list[TrainingRun]) -> None:
    response = move(user_client, three[2], HTMX, to="first")
    assert html(response).lstrip().startswith('<div id="queue"')
    assert "position 1 of 3" in response.headers["HX-Trigger"]
    assert html(user_client.get(reverse("queue"), headers=HTMX)).lstrip().startswith('<div id="queue"')


@pytest.mark.parametrize("place", [{}, {"to": "nowhere"}, {"before": "x"}, {"after": "4711"}])
def test_an_invalid_position_is_refused(user_client: Client, three: Any, place: dict[str, str]) -> None:
    response = move(user_client, three[0], HTMX, **place)
    assert "studio:problem" in response.headers["HX-Trigger"]
    assert order() == "abc"
    response = move(user_client, three[0], **place)
    assert "notice-error" in html(user_client.get(response.url))


def test_a_run_that_has_just_started_cannot_be_moved(user_client: Client, three: list[TrainingRun]) -> None:
    three[0].transition("running", attempt=1)
    response = move(user_client, three[0], HTMX, to="last")
    assert "and not in the queue" in response.headers["HX-Trigger"]
    assert move(user_client, three[1], HTMX, after=three[0].pk).status_code == 200


@pytest.mark.parametrize(("value", "stored"), [("7", 7), ("-3", -3), ("1001", 0), ("much", 0), ("", 0)])
def test_a_priority_is_set_or_refused(user_client: Client, three: Any, value: str, stored: int) -> None:
    address = reverse("queue_priority", args=[three[2].pk])
    response = user_client.post(address, {"priority": value}, headers=HTMX)
    assert ("studio:problem" in response.headers["HX-Trigger"]) == (stored == 0)
    assert TrainingRun.objects.get(pk=three[2].pk).priority == stored
    assert user_client.post(address, {"priority": value}).status_code == 302


def test_moving_requires_post(user_client: Client, three: list[TrainingRun]) -> None:
    assert user_client.get(reverse("queue_move", args=[three[0].pk])).status_code == 405
    assert user_client.get(reverse("queue_priority", args=[three[0].pk])).status_code == 405
    assert user_client.post(reverse("queue_move", args=[4711]), {"to": "last"}).status_code == 404


def test_the_page_of_a_run_shows_why_it_waits(user_client: Client, make: MAKE) -> None:
    host = machine(slots=1)
    running = make("running", name="night")
    hold(running, host.devices.get())
    waiting = make("queued", queued_at=timezone.now(), config=asking())
    text = html(user_client.get(waiting.get_absolute_url()))
    assert "No free slot: the CPU of here is used by “night”." in text
    forecast.keep_up()
    assert "The start time cannot be estimated now." in html(user_client.get(waiting.get_absolute_url()))


def test_runs_beyond_the_shown_ones_are_counted(
    user_client: Client, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "SHOWN", 2)
    for number in range(5):
        make("queued", name=f"r{number}", queue_rank=float(number), config=asking())
    text = page(user_client)
    assert text.count('class="queue-item"') == 2
    assert "3 more runs are waiting." in text
