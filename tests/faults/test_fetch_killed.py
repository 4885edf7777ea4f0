"""A worker that is killed while it downloads published weights: the next one continues the file, and verifies it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.helpers.hub import Hub, local_hub
from tests.helpers.studio import PATIENCE, Studio, wait_for
from trainingapp.contract.published_files import PART_SUFFIX, stored_hash
from trainingapp.contract.published_weights import TIMM_FILES

WEIGHTS = TIMM_FILES["timm/resnet10t"]
#: Several pieces of a download: one is written before the worker is killed.
CONTENT = save({"conv.weight": torch.arange(1_000_000.0)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(studio: Studio) -> Iterator[Hub]:
    with local_hub() as found:
        studio.env |= {"PUBLISHED_WEIGHTS": "download", "HF_ENDPOINT": found.url, "NO_PROXY": "127.0.0.1"}
        found.serve(WEIGHTS, CONTENT)
        found.stalls = True
        try:
            yield found
        finally:
            found.released.set()


@pytest.mark.long
def test_the_fetch_continues_with_another_worker(studio: Studio, hub: Hub) -> None:
    studio.migrate_with_administrator()
    studio.python(
        f"""
        from django.contrib.auth.models import User
        from trainingapp.weights.published import request_fetch
        request_fetch({WEIGHTS.name!r}, by=User.objects.get())
        """
    )
    cache = studio.data_dir / "torch"
    file = cache / WEIGHTS.place
    worker = studio.start_worker()
    assert hub.halfway.wait(PATIENCE * 60)

    def parts() -> list[int]:
        return [one.stat().st_size for one in file.parent.glob(f".*{PART_SUFFIX}*")] if file.parent.exists() else []

    wait_for(lambda: any(parts()), 30, "a part of the file is written")
    worker.kill()
    worker.wait()
    (left,) = parts()
    assert 0 < left < len(CONTENT)
    assert not file.exists()

    hub.stalls = False
    hub.released.set()
    studio.start_worker()
    row = wait_for(lambda: _ended(studio), 90, "the job is done")
    assert row["state"] == "done", row["message"]
    assert row["tries"] == 2
    assert json.loads(row["result"]) == {"name": WEIGHTS.name, "size_bytes": len(CONTENT), "sha256": SHA256}
    assert file.read_bytes() == CONTENT
    assert stored_hash(file) == SHA256
    assert hub.sent == [0, left]
    assert not parts()


def _ended(studio: Studio) -> dict[str, Any] | None:
    """The row of the only job once it has ended."""
    rows = studio.rows("SELECT state, tries, message, result FROM trainingapp_job WHERE finished_at IS NOT NULL")
    return rows[0] if rows else None
