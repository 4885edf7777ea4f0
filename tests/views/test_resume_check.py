"""The run's page shows the result of the resume check and the environment of the run."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.helpers.world import store_events
from trainingapp.models import TrainingRun
from trainingapp.runs.run_page import log_events, render_log_lines

pytestmark = pytest.mark.django_db
MAKE = Callable[..., TrainingRun]


def page(client: Client, run: TrainingRun) -> str:
    return client.get(run.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("verdict", "difference", "words"),
    [
        ("exact", 0.0, "Resume verified: bit-exact"),
        ("near", 0.00012, "Difference: 0.012 %."),
        ("differs", 0.4, "Difference: 40 %."),
        ("unknown", 0.0, "Resume not verified"),
    ],
)
def test_the_verdict_is_shown_with_its_meaning(
    user_client: Client, make: MAKE, verdict: str, difference: float, words: str
) -> None:
    check = {"verdict": verdict, "difference": difference, "reason": "", "attempt": 2, "step": 7}
    html = page(user_client, make("running", resume_check=check))
    assert f'data-resume-check="{verdict}"' in html
    assert words in html
    assert "Attempt 2, step 7." in html


def test_a_reason_is_shown_and_escaped(user_client: Client, make: MAKE) -> None:
    check = {"verdict": "near", "difference": 1e-5, "reason": "torch was <2>, now 3", "attempt": 2, "step": 7}
    html = page(user_client, make("running", resume_check=check))
    assert "Reason: torch was &lt;2&gt;, now 3." in html


def test_nothing_is_shown_before_the_first_resume(user_client: Client, make: MAKE) -> None:
    html = page(user_client, make("running"))
    assert "data-resume-check" not in html
    assert 'id="environment"' not in html


def test_the_environment_is_shown_collapsed(user_client: Client, make: MAKE) -> None:
    environment = {"python": "CPython 3.11.7", "platform": "Linux", "cpu": "x86_64", "packages": {"torch": "2.9.1"}}
    run = make("completed", environment={**environment, "driver": "550.54.15"})
    html = user_client.get(reverse("run_config", args=[run.pk])).content.decode()
    for text in ('<details class="panel-body pt-0" id="environment">', "CPython 3.11.7", "550.54.15", "2.9.1"):
        assert text in html


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"order": "epochs", "id": 1, "by": "ada", "epochs": 30},
            "Change of the number of epochs requested: 30 (ada).",
        ),
        ({"order": "checkpoint", "id": 1, "by": ""}, "Checkpoint requested."),
        ({"state": "order", "id": 1, "result": "Saved as step_2.pt."}, "Request carried out: Saved as step_2.pt."),
        ({"state": "proof", "message": "It is the same."}, "It is the same."),
    ],
)
def test_the_log_shows_requests_and_their_results(make: MAKE, data: dict[str, Any], text: str) -> None:
    run = make("running")
    store_events(run, {"type": "status", "data": data})
    assert text in render_log_lines(log_events(run, before=99))
