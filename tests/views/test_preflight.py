"""The preflight check of a run: requested in the form, performed in a separate process, reported in sentences."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.preflights import result
from tests.helpers.studio import TINY
from trainingapp.contract.config import config_fields, parse_config
from trainingapp.jobs import lease
from trainingapp.models import Dataset, Job, TrainingRun
from trainingapp.presentation.preflight import preflight_lines

HTMX = {"HX-Request": "true"}
ADDRESS = "preflight_start"


@pytest.fixture(autouse=True)
def job_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    no_worker(monkeypatch)


def values(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    whole = {name: field.default for name, field in config_fields("classification").items() if not field.is_fixed}
    plain = {name: value for name, value in {**whole, **TINY}.items() if value is not False and value is not None}
    return {**plain, "task": "classification", "dataset": dataset.pk, "priority": 0, **changes}


def html(response: Any) -> str:
    return str(response.content.decode())


@pytest.mark.django_db(transaction=True)
def test_the_form_is_checked_by_real_steps(user_client: Client, tints: Dataset) -> None:
    response = user_client.post(reverse(ADDRESS), values(tints), headers=HTMX)
    assert "Waiting for a worker" in html(response)
    job = Job.objects.get()
    assert job.params["config"] == parse_config(job.params["config"]).model_dump(mode="json")
    work_off()
    page = html(user_client.get(reverse("job", args=[job.pk]), headers=HTMX))
    for title in ("Memory", "Time", "Disk", "Data loading", "Numerical stability"):
        assert f"<strong>{title}</strong>" in page
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
def test_the_name_may_be_missing_but_other_fields_are_validated(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(reverse(ADDRESS), values(dataset, learning_rate="0"), headers=HTMX)
    assert response.status_code == 422
    assert "Learning rate: Must be more than 0." in html(response)
    assert user_client.post(reverse(ADDRESS), {**values(dataset), "dataset": ""}, headers=HTMX).status_code == 422
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_it_works_without_javascript(user_client: Client, dataset: Dataset) -> None:
    response = user_client.post(reverse(ADDRESS), values(dataset), follow=True)
    assert response.redirect_chain == [(reverse("job", args=[Job.objects.get().pk]), 302)]
    assert "Waiting for a worker" in html(response)


@pytest.mark.django_db
def test_it_can_be_cancelled(user_client: Client, dataset: Dataset) -> None:
    user_client.post(reverse(ADDRESS), values(dataset), headers=HTMX)
    job = Job.objects.get()
    assert "Cancelled." in html(user_client.post(reverse("job_cancel", args=[job.pk]), headers=HTMX))
    assert lease.claim_job() is None


@pytest.mark.django_db
def test_it_is_requested_by_post_only(user_client: Client) -> None:
    assert user_client.get(reverse(ADDRESS)).status_code == 405


# The rendered results


def line(title: str, **changes: Any) -> tuple[str, str]:
    found = next(one for one in preflight_lines(result(**changes)) if one.title == title)
    return found.level, found.text.replace("\xa0", " ")


def test_a_passed_check_is_reported_as_passed() -> None:
    assert {one.level for one in preflight_lines(result())} == {"good"}
    assert line("Time") == ("good", "About 32 s per epoch and 10 min 40 s in total, at 450 img/s.")


def test_a_batch_size_that_does_not_fit_is_an_error_that_names_one_that_fits() -> None:
    level, text = line("Memory", memory={"fits": False, "batch_size": 16, "accumulation_steps": 2})
    assert level == "error"
    assert "batch size to 16 and the accumulation steps to 2" in text


def test_memory_used_by_other_programs_is_a_warning() -> None:
    assert line("Memory", memory={"free_bytes": 10**6})[0] == "warning"


def test_missing_disk_space_is_reported_with_the_amount() -> None:
    level, text = line("Disk", disk={"short_by_bytes": 3 * 10**9})
    assert level == "error"
    assert "2.8 GB are missing" in text


def test_it_reports_whether_loading_or_computing_is_the_bottleneck() -> None:
    slow = {"images_per_s": 300.0, "is_slower": True}
    assert line("Data loading", loader=slow) == (
        "warning",
        "300 img/s can be loaded; training processes 450 img/s. "
        "The device waits for images: increase the number of loader processes.",
    )


def test_non_finite_values_are_named() -> None:
    level, text = line("Numerical stability", finite={"gradients": False, "loss_value": None})
    assert level == "error"
    assert "the gradients" in text
    assert "the loss" not in text


def test_a_run_beyond_the_time_limit_gets_a_warning(settings: Any) -> None:
    settings.SOFT_TIME_LIMIT_HOURS = 0.1
    assert line("Time")[0] == "warning"
    settings.SOFT_TIME_LIMIT_HOURS = 0
    assert line("Time")[0] == "good"


def test_for_several_devices_the_result_of_one_is_explained() -> None:
    (found,) = (one for one in preflight_lines(result(accumulation_steps=4), 2) if one.title == "Devices")
    assert found.level == "good"
    assert "needs 2 devices at the same time" in found.text
    assert "with 2 an epoch takes 16 s or longer" in found.text
    (found,) = (one for one in preflight_lines(result(accumulation_steps=1), 2) if one.title == "Devices")
    assert (found.level, "with 1 an epoch takes 32 s or longer" in found.text) == ("warning", True)
