"""Long lists of the API are read by index."""

import pytest

from tests.api.conftest import Api
from tests.helpers.plans import explained
from tests.helpers.world import line, store_events
from trainingapp.models import RunEvent, TrainingRun

pytestmark = pytest.mark.django_db


def test_errors_are_found_by_their_index(api: Api, run: TrainingRun) -> None:
    store_events(run, *(line(f"line {number}", level="error" if number == 7 else "info") for number in range(30)))
    with explained(RunEvent._meta.db_table) as plans:
        assert len(api.get(f"training/{run.pk}/logs?level=error").json()["items"]) == 1
    assert ["INDEX event_run_level_seq" in plan and "TEMP B-TREE" not in plan for plan in plans] == [True], plans
