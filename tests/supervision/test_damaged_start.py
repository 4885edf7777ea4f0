"""A run is not trained from weights that differ from those that the studio has stored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import translation

from tests.helpers.library import make_entry
from tests.helpers.saved import flip_a_bit
from tests.helpers.studio import TINY
from tests.helpers.tiny import make_run
from trainingapp.contract.config import parse_config
from trainingapp.models import Dataset, TrainingRun
from trainingapp.presentation.event_text import failure_text
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, drop_spare, supervise, worker_id

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

SMALL = {**TINY, "epochs": 1}


@pytest.fixture(autouse=True)
def _calm(tmp_path: Path, settings: Any) -> Iterator[None]:
    settings.WEIGHTS_DIR = tmp_path / "weights"
    yield
    drop_spare()


def trained(run: TrainingRun) -> TrainingRun:
    """The queued run after a real trainer has worked on it."""
    claimed = claim_next(HOST, worker_id())
    assert claimed is not None
    assert claimed.pk == run.pk
    supervise(claimed)
    return TrainingRun.objects.get(pk=run.pk)


def assert_refused(run: TrainingRun, named: str) -> None:
    assert (run.status, run.error_class, run.step) == ("failed", "damaged_weights", 0)
    assert named in run.error_message
    assert "Nothing was trained" in run.error_message
    with translation.override("zh-hans"):
        assert "Nothing" not in failure_text(run)
        assert named not in failure_text(run), "the name of the file is translated too"
    states = [event.data.get("state") for event in run.events.filter(type="status")]
    assert "started" not in states
    assert not run.checkpoints.exists()


@pytest.mark.long
def test_a_model_file_with_a_flipped_byte_is_refused(user: User, tints: Dataset) -> None:
    weights = make_entry(user)
    whole = weights.path.read_bytes()
    flip_a_bit(weights.path, len(whole) - 1000)  # a number of a tensor: safetensors reads it without a word
    run = make_run(user, tints, "child", start=True, **{**SMALL, "start_from": weights.start_name})
    assert_refused(trained(run), f"weights “tints v1” (number {weights.pk})")
    weights.path.write_bytes(whole)
    run_verbs.resume_run(run)
    assert trained(run).status == "completed"


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("compact", "continue"),
        pytest.param("plain", "weights", marks=pytest.mark.long),
        pytest.param("compact", "weights", marks=pytest.mark.long),
        pytest.param("plain", "continue", marks=pytest.mark.long),
    ],
)
def test_a_checkpoint_with_a_flipped_byte_is_refused(user: User, tints: Dataset, form: str, mode: Any) -> None:
    source = trained(make_run(user, tints, "source", start=True, **{**SMALL, "checkpoint_format": form}))
    assert source.status == "completed", source.error_message
    checkpoint = source.checkpoints.get(is_last=True)
    config = parse_config({**source.config, "epochs": 2})
    run = run_verbs.fork_run(source, checkpoint, owner=user, config=config, mode=mode)
    whole = checkpoint.path.read_bytes()
    flip_a_bit(checkpoint.path, len(whole) // 2)
    run_verbs.start_run(run)
    assert_refused(trained(run), f"{checkpoint.file} of run {source.pk}")
    checkpoint.path.write_bytes(whole)
    run_verbs.resume_run(run)
    assert trained(run).status == "completed"


@pytest.mark.long
def test_a_corrupted_record_of_a_compact_checkpoint_is_refused(user: User, tints: Dataset) -> None:
    source = trained(make_run(user, tints, "source", start=True, **SMALL))
    checkpoint = source.checkpoints.get(is_last=True)
    for pack in checkpoint.path.parent.rglob("*.pack"):
        flip_a_bit(pack, pack.stat().st_size // 2)
    config = parse_config({**source.config, "epochs": 2})
    run = run_verbs.start_run(run_verbs.fork_run(source, checkpoint, owner=user, config=config, mode="weights"))
    assert_refused(trained(run), f"{checkpoint.file} of run {source.pk}")
