"""A run with Redis."""

import pytest

from tests.helpers.studio import Studio

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def test_a_run_completes_over_redis(studio: Studio, redis_url: str) -> None:
    studio.env["REDIS_URL"] = redis_url
    (run,) = studio.prepare()
    worker = studio.start_worker()
    studio.wait_for_status(run, "completed", 60)
    assert studio.stop(worker) == 0
    assert not (studio.data_dir / "queue.sqlite3").exists()
