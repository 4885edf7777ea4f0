"""Corrupted model files: detected, marked, and logged in the runs that start from them."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from tests.helpers.library import make_entry
from tests.helpers.saved import flip_a_bit
from tests.helpers.tiny import make_run
from trainingapp.models import Dataset, RunEvent, TrainingRun, Weights
from trainingapp.models.verbs import VerbError
from trainingapp.runs import checkpoint_files as housekeeping
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def library_folder(tmp_path: Path, settings: Any) -> None:
    settings.WEIGHTS_DIR = tmp_path / "weights"
    settings.JOBS_DIR = tmp_path / "jobs"


@pytest.fixture
def weights(user: User) -> Weights:
    """An entry that is old enough to be looked at."""
    made = make_entry(user)
    Weights.objects.update(created_at=timezone.now() - timedelta(days=30))
    return made


@pytest.fixture
def child(weights: Weights, user: User, tints: Dataset) -> TrainingRun:
    """A run that starts from it."""
    return make_run(user, tints, "child", model="mobilenet_v3_small", image_size=32, start_from=weights.start_name)


def log_lines(run: TrainingRun) -> list[tuple[str, str]]:
    return [(event.level, event.data["message"]) for event in run.events.filter(type=RunEvent.Type.LOG)]


def test_corruption_is_detected_marked_and_logged_once_and_so_is_its_end(weights: Weights, child: TrainingRun) -> None:
    whole = weights.path.read_bytes()
    flip_a_bit(weights.path, 4000)
    assert housekeeping.scrub_some() == 1
    weights.refresh_from_db()
    assert "does not match" in weights.damage
    assert weights.damage_data["code"] == "damage_hash"
    ((level, message),) = log_lines(child)
    assert (level, "“tints v1”" in message) == ("error", True)
    assert weights_verbs.verify_weights(weights)
    assert len(log_lines(child)) == 1, "log_lines once"
    weights.path.write_bytes(whole)
    assert weights_verbs.verify_weights(weights) == weights.damage == ""
    assert log_lines(child)[-1][0] == "info"
    assert weights.report["is_whole"], "what else is known of it stays"


def test_a_missing_file_is_logged(weights: Weights) -> None:
    weights.path.unlink()
    assert housekeeping.scrub_some() == 1
    weights.refresh_from_db()
    assert weights.damage == "is missing"


def test_a_corrupted_file_is_not_used(weights: Weights, user: User, tints: Dataset) -> None:
    flip_a_bit(weights.path, 4000)
    housekeeping.scrub_some()
    weights.refresh_from_db()
    with pytest.raises(VerbError, match="does not match"):
        weights_verbs.export_weights(weights, formats=["pt"], by=user)
    with pytest.raises(VerbError, match="does not match"):
        make_run(user, tints, model="mobilenet_v3_small", image_size=32, start_from=weights.start_name)


def test_the_page_shows_it(weights: Weights, child: TrainingRun, staff_client: Client) -> None:
    flip_a_bit(weights.path, 4000)
    housekeeping.scrub_some()
    page = staff_client.get(weights.get_absolute_url()).content.decode()
    assert "The file is corrupted (its hash does not match)" in page
    assert child.get_absolute_url() in page


def test_only_due_models_are_verified_the_oldest_check_first(weights: Weights, user: User, settings: Any) -> None:
    fresh, seen = make_entry(user, name="fresh"), make_entry(user, name="seen")
    ages = {weights.pk: 30, seen.pk: 40}
    for pk, days in ages.items():
        Weights.objects.filter(pk=pk).update(created_at=timezone.now() - timedelta(days=days))
    assert housekeeping.due_weights() == [seen, weights]
    housekeeping.scrub_some(most_s=0)
    assert housekeeping.due_weights() == [weights], "one at least, then its time is over"
    Weights.objects.filter(pk=fresh.pk).update(state=Weights.State.PENDING)
    settings.SCRUB_DAYS = 0
    flip_a_bit(weights.path, 4000)
    assert housekeeping.scrub_some() == 0


def test_the_command_names_corrupted_models_and_the_runs_that_use_them(weights: Weights, child: TrainingRun) -> None:
    output = io.StringIO()
    call_command("weights", "verify", stdout=output)
    assert output.getvalue() == "1 compared, 0 damaged.\n"
    flip_a_bit(weights.path, 4000)
    output = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("weights", "verify", "tints", "--json", stdout=output)
    (record,) = json.loads(output.getvalue())
    assert record["runs"] == [{"id": child.pk, "name": "child"}]
