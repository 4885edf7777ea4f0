"""An installation of version 0.1 is upgraded: everything in it opens, and a paused run resumes bit-exact."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import postgres_database
from tests.helpers.studio import Studio
from tests.helpers.trainers import assert_same_result
from tests.upgrade.old_installation import OBSERVE, OldInstallation, has_history, make_old_installation, shown

pytestmark = [pytest.mark.slow, pytest.mark.long]

#: Pages of version 0.1 whose response has changed intentionally.
ANSWERS = {"/nothing/": 404, "/login/": 302}
#: Pages of version 0.1 that redirect to a new address, which is opened in their place.
MOVED = {"/?status=failed&q=nothing": "/runs/?status=failed&q=nothing"}

#: Opens the pages in both languages as the administrator and lists the errors.
VISIT = """
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
settings.ALLOWED_HOSTS = ["testserver"]
client = Client(raise_request_exception=False)
client.force_login(User.objects.get(username="admin"))
result, texts = [], []
for language in ("en", "zh-hans"):
    client.cookies["django_language"] = language
    for address in PAGES:
        answer = client.get(address)
        if moved := MOVED.get(address):
            if (answer.status_code, answer.get("Location")) != (302, moved):
                result.append(f"{address} in {language} does not redirect to {moved}: {answer.status_code}")
            answer = client.get(moved)
        html = b"".join(answer).decode() if answer.streaming else answer.content.decode()
        texts.append(html)
        if answer.status_code != ANSWERS.get(address, 200):
            result.append(f"{address} in {language}: {answer.status_code}")
        elif answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
            if f'lang="{language}"' not in html:
                result.append(f"{address} is not in {language}")
whole = " ".join(texts)
result += [f"{prose} is shown nowhere" for prose in PROSE if prose not in whole]
"""

#: English text that version 0.1 stored without codes: it is shown unchanged.
PROSE = ["No room.", "It is cut short."]

#: Every list and every row of the administration, and every response of the API.
ADDRESSES = """
from django.contrib import admin
from django.urls import reverse
from trainingapp.models import Dataset, Job, TrainingRun, Weights
result = []
for model, model_admin in admin.site._registry.items():
    if model._meta.app_label == "trainingapp":
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        result.append(reverse(f"{base}_changelist"))
        rows = model._default_manager.values_list("pk", flat=True)[:20]
        result += [reverse(f"{base}_change", args=[pk]) for pk in rows]
for pk in TrainingRun.objects.values_list("pk", flat=True):
    result += [f"/api/v1/training/{pk}{part}" for part in ("", "/status", "/metrics", "/logs", "/checkpoints")]
result += [f"/api/v1/datasets/{pk}" for pk in Dataset.objects.values_list("pk", flat=True)]
result += [f"/api/v1/weights/{pk}" for pk in Weights.objects.values_list("pk", flat=True)]
result += [f"/api/v1/jobs/{pk}" for pk in Job.objects.values_list("pk", flat=True)]
result += [f"/api/v1/{kind}/" for kind in ("training", "datasets", "weights")]
"""


@pytest.fixture(
    scope="module",
    params=[
        # One process creates the installation that the tests of a database share.
        pytest.param("sqlite", marks=pytest.mark.xdist_group("upgrade sqlite")),
        pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.xdist_group("upgrade postgres")]),
    ],
)
def upgraded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Studio, OldInstallation]]:
    """The installation after `migrate` with the current code, without a worker."""
    if not has_history():
        pytest.skip("the git history has no version 0.1: an archive or a shallow clone")
    env = {"DATABASE_URL": request.getfixturevalue("module_postgres_url")} if request.param == "postgres" else {}
    old = make_old_installation(tmp_path_factory.mktemp(f"old_{request.param}"), **env)
    old.studio.manage("backup", str(old.studio.data_dir.with_name("old.tar.zst")))
    studio = Studio(old.studio.data_dir, **env)
    studio.manage("migrate", "-v0", "--skip-checks")
    yield studio, old
    studio.cut_power()


def visit(studio: Studio, pages: list[str], prose: list[str]) -> list[str]:
    given = f"PAGES, ANSWERS, MOVED, PROSE = {pages!r}, {ANSWERS!r}, {MOVED!r}, {prose!r}"
    found: list[str] = studio.python(f"{given}\n{VISIT}")
    return found


#: The same, read from the current metric storage; names of version 0.1 in values are unchanged.
POINTS_AND_CHARTS = """
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.runs.run_page import chart_points
from trainingapp.runs.series import all_points
runs = TrainingRun.objects.order_by("pk")
points = [
    [run.pk, event.seq, event.attempt, event.epoch, event.step, event.data] for run in runs for event in all_points(run)
]
unconverted = RunEvent.objects.filter(type="metrics").count()
result = [points, [chart_points(run) for run in runs], unconverted]
"""


def test_conversion_does_not_change_any_metric_point(upgraded: tuple[Studio, OldInstallation]) -> None:
    studio, old = upgraded
    assert len(old.points) > 100
    points, charts, unconverted = studio.python(POINTS_AND_CHARTS)
    assert points == old.points
    assert unconverted > 0
    assert ", 0 left" in studio.manage("series", "convert").stdout
    assert studio.python(POINTS_AND_CHARTS) == [points, charts, 0]


def test_every_old_page_opens_in_both_languages(upgraded: tuple[Studio, OldInstallation]) -> None:
    studio, old = upgraded
    runs = (old.completed_run, old.paused_run)
    pages = [page for page in old.pages if page != "/login/"]
    pages += [f"/runs/{run}/{part}" for run in runs for part in ("", "evaluation/", "log/", "checkpoints/", "edit/")]
    problems = visit(studio, [*pages, *studio.python(ADDRESSES)], PROSE)
    assert not problems, "\n".join(problems)


def test_a_run_paused_by_the_old_version_resumes_bit_exact(upgraded: tuple[Studio, OldInstallation]) -> None:
    studio, old = upgraded
    worker = studio.start_worker()
    studio.manage("train", "resume", str(old.paused_run))
    studio.python(f"{OBSERVE}\nwait_until({old.paused_run}, lambda run: run.status == 'completed', 'not completed')")
    assert studio.stop(worker) == 0
    resumed = shown(studio, old.paused_run)
    assert resumed["attempt"] == 2
    assert resumed["config"]["task"] == "classification"
    folders = [studio.data_dir / "runs" / str(run) for run in (old.paused_run, old.completed_run)]
    assert_same_result(*folders, added=frozenset({"algorithms", "precision"}))
    verdict: Any = studio.python(
        f"from trainingapp.models import TrainingRun\nrun = TrainingRun.objects.get(pk={old.paused_run})\n"
        "result = getattr(run, 'resume_check', None) or run.resume_proof"
    )
    assert verdict["verdict"] == "exact"


def test_a_backup_of_the_old_version_is_restored(upgraded: tuple[Studio, OldInstallation], tmp_path: Path) -> None:
    _studio, old = upgraded
    restored = Studio(tmp_path / "restored")
    restored.manage("restore", str(old.studio.data_dir.with_name("old.tar.zst")))
    runs = (old.completed_run, old.paused_run)
    assert [shown(restored, run)["status"] for run in runs] == ["completed", "paused"]
    assert [shown(restored, run)["config"]["task"] for run in runs] == ["classification"] * 2
    pages = [f"/runs/{run}/{part}" for run in runs for part in ("", "evaluation/", "log/", "checkpoints/", "edit/")]
    problems = visit(restored, pages, [])
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def module_postgres_url() -> Iterator[str]:
    """As `postgres_url`, for the tests of a module together."""
    with postgres_database() as url:
        yield url
