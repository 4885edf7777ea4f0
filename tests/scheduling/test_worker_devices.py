"""A real worker: it records its host, runs two runs one after the other on its one slot, and forecasts both."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.studio import Studio, wait_for


@pytest.mark.slow
@pytest.mark.long
def test_one_slot_for_two_runs(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "data", MAX_TRAINING_PROCESSES="1")
    first, second = studio.prepare(runs=2, epochs=2000)
    studio.start_worker()
    try:
        studio.wait_for_step(first, 2)
        (host,) = json.loads(studio.manage("devices", "--json").stdout)
        assert (host["slots"], host["is_away"]) == (1, False)
        (device,) = host["devices"]
        assert [hold["run"] for hold in device["holds"]] == [first]
        (waiting,) = queue(studio)
        assert waiting["id"] == second
        assert waiting["reason"] == f"No free slot: the CPU of {host['name']} is used by “try”."
        wait_for(lambda: queue(studio)[0]["forecast"], 60, "there is a forecast")
        studio.manage("train", "stop", str(first))
        studio.wait_for_step(second, 1, 120)
        studio.manage("train", "stop", str(second))
        studio.wait_for_status(second, "stopped", 120)
        holds = studio.rows("SELECT run_id, taken_at, released_at FROM trainingapp_devicehold ORDER BY taken_at")
        assert [row["run_id"] for row in holds] == [first, second]
        assert holds[0]["released_at"] <= holds[1]["taken_at"] < holds[1]["released_at"], "never both at once"
        told = studio.python(
            f"""
            from trainingapp.scheduling import forecast
            from trainingapp.models import Forecast
            forecast.keep_up()
            result = [row.started_at is not None for row in Forecast.objects.filter(run={second})]
            """
        )
        assert told
        assert all(told)
    finally:
        studio.cut_power()


def queue(studio: Studio) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(studio.manage("queue", "list", "--json").stdout)
    return found
