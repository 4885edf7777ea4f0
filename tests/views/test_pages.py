"""Properties of every page: login, methods, content security policy, and templates that compile."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse

from tests.views.test_roles import routes
from trainingapp.models import Dataset, TrainingRun

#: Pages that need no login.
OPEN = {"login", "logout", "set_language", "health", "ready"}
ARGUMENTS: dict[str, list[object]] = {
    "run_script": [1],
    "run_tensorboard": [1],
    "run_checkpoints": [1],
    "checkpoint_control": [1, "epoch_1.pt", "pin"],
    "job_file": ["0" * 8 + "-0000-4000-8000-" + "0" * 12, "export.zip"],
    "job_boxes": ["0" * 8 + "-0000-4000-8000-" + "0" * 12],
    "job_image": ["0" * 8 + "-0000-4000-8000-" + "0" * 12, "a.png"],
    "weights_detail": [1],
    "weights_edit": [1],
    "weights_alias": [1],
    "weights_share": [1],
    "weights_delete": [1],
    "weights_download": [1],
    "weights_export": [1],
    "weights_try": [1],
    "weights_predict_many": [1],
    "weights_save": [1],
    "token_revoke": [1],
    "run_detail": [1],
    "run_charts": [1],
    "run_config": [1],
    "run_system": [1],
    "run_activity": [1],
    "run_name": [1],
    "run_log": [1],
    "run_metrics": [1],
    "run_metrics_csv": [1],
    "run_metrics_parquet": [1],
    "run_metrics_tensorboard": [1],
    "run_delete": [1],
    "run_share": [1],
    "job": ["0" * 8 + "-0000-4000-8000-" + "0" * 12],
    "job_cancel": ["0" * 8 + "-0000-4000-8000-" + "0" * 12],
    "dataset_share": [1],
    "run_control": [1, "pause"],
    "run_force_stop": [1],
    "run_epochs": [1],
    "run_fork": [1],
    "run_edit": [1],
    "run_star": [1],
    "run_labels": [1],
    "view_delete": [1],
    "notification_open": [1],
    "webhook": [1],
    "webhook_test": [1],
    "webhook_delete": [1],
    "run_report": [1],
    "run_report_markdown": [1],
    "queue_move": [1],
    "queue_priority": [1],
    "evaluation": [1],
    "evaluation_data": [1, 1],
    "evaluation_csv": [1, 1, "classes"],
    "evaluation_curve": [1, 1, "reliability"],
    "evaluation_images": [1, 1],
    "evaluation_mask": [1, 1, 0],
    "batch_image": [1, "step_0.webp"],
    "checkpoint_download": [1, "epoch_1.pt"],
    "dataset_detail": [1],
    "dataset_delete": [1],
    "dataset_confirm": [1],
    "dataset_cancel": [1],
    "dataset_read_again": [1],
    "dataset_store": [1],
    "dataset_view": [1, 1],
    "dataset_image": [1, "images/a.png"],
    "device_quarantine": [1],
    "device_release": [1],
    **{f"sweep_{page}": [1] for page in ("detail", "edit", "enqueue", "delete", "share")},
    "sweep_control": [1, "pause"],
}
TEMPLATES = sorted(
    str(path.relative_to(settings.BASE_DIR / "templates"))
    for path in Path(settings.BASE_DIR / "templates").rglob("*.html")
)


def address(name: str) -> str:
    return reverse(name, args=ARGUMENTS.get(name, []))


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in routes() if ":" not in name and name not in OPEN])
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_page_requires_a_login(client: Client, name: str, method: str) -> None:
    response = getattr(client, method)(address(name))
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("login"))


@pytest.mark.django_db
def test_public_pages_need_no_login(client: Client) -> None:
    assert client.get(reverse("login")).status_code == 200
    assert client.get(reverse("health")).json() == {"status": "ok"}
    assert client.post(reverse("set_language"), {"language": "zh-hans", "next": "/"}).headers["Location"] == "/"


@pytest.mark.parametrize(
    "name", ["run_list", "run_detail", "run_log", "run_metrics", "dataset_list", "dataset_detail", "dataset_image"]
)
def test_read_only_pages_refuse_post(user_client: Client, name: str) -> None:
    assert user_client.post(address(name)).status_code == 405


def test_actions_refuse_get(user_client: Client, run: TrainingRun) -> None:
    assert user_client.get(reverse("run_control", args=[run.pk, "start"])).status_code == 405


def test_an_unknown_verb_is_not_found(user_client: Client, run: TrainingRun) -> None:
    assert user_client.post(f"/runs/{run.pk}/explode/").status_code == 404


@pytest.mark.parametrize(
    "name", ["run_detail", "run_log", "run_metrics", "run_delete", "dataset_detail", "dataset_delete"]
)
def test_missing_objects_are_not_found(user_client: Client, name: str) -> None:
    response = user_client.get(reverse(name, args=[4711]))
    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


@pytest.fixture
def pages(user_client: Client, run: TrainingRun, dataset: Dataset) -> list[str]:
    return [
        reverse("run_list"),
        reverse("run_new"),
        reverse("run_new") + f"?clone={run.pk}",
        reverse("run_detail", args=[run.pk]),
        reverse("run_log", args=[run.pk]),
        reverse("run_delete", args=[run.pk]),
        reverse("dataset_list"),
        reverse("dataset_import"),
        reverse("dataset_delete", args=[dataset.pk]),
        reverse("account"),
    ]


def test_pages_have_the_strict_policy_and_no_inline_code(user_client: Client, pages: list[str]) -> None:
    for page in pages:
        response = user_client.get(page)
        assert response.status_code == 200, page
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        html = response.content.decode()
        for inline in (" style=", "<style", " onclick=", " onchange=", "javascript:", "<script>"):
            assert inline not in html, (page, inline)


def test_pages_are_translated_to_chinese(user_client: Client, pages: list[str]) -> None:
    user_client.post(reverse("set_language"), {"language": "zh-hans"})
    for page in pages:
        assert '<html lang="zh-hans"' in user_client.get(page).content.decode()


def test_the_templates_are_found() -> None:
    assert len(TEMPLATES) > 20


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_compile(name: str) -> None:
    get_template(name)


def test_the_health_check_fails_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError, connection

    def refuse(*args: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", refuse)
    assert client.get(reverse("health")).status_code == 503


def test_a_forged_form_is_refused_with_an_explanation(user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    response = strict.post(reverse("run_new"), {})
    assert response.status_code == 403
    assert "The form was rejected" in response.content.decode()


def test_lists_need_few_queries(
    user_client: Client, make: Callable[..., TrainingRun], django_assert_max_num_queries: Callable[[int], object]
) -> None:
    for _number in range(5):
        make()
    with django_assert_max_num_queries(16):  # type: ignore[attr-defined]
        user_client.get(reverse("run_list"))


def test_the_menu_leads_to_every_page_once(staff_client: Client) -> None:
    menu = re.findall(r'class="menu-item" href="([^"]+)"', staff_client.get(reverse("queue")).content.decode())
    assert len(menu) == len(set(menu))
    assert {reverse(name) for name in ("device_list", "journal", "disk", "audit", "account", "token_list")} < set(menu)


def test_dates_are_written_unambiguously(user_client: Client, dataset: Dataset) -> None:
    """11/12/2026 is another day in another country."""
    Dataset.objects.update(status="refused", created_at=datetime(2026, 12, 11, 21, 5, tzinfo=UTC))
    assert "2026-12-11 21:05" in user_client.get(reverse("dataset_list")).content.decode()
    assert "11 Dec 2026, 21:05" in user_client.get(dataset.get_absolute_url()).content.decode()
