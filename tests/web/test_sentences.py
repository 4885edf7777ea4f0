"""What trainers and workers wrote in English stands in the reader's language on the pages."""

import re
from pathlib import Path

import pytest
from django.test import Client
from django.utils import translation

import trainingapp
from tests.web.world import line, tell
from trainingapp.engine.config import correct_config
from trainingapp.models import TrainingRun
from trainingapp.sentences import FORMS, in_readers_language


def test_every_form_is_one_that_somebody_says() -> None:
    """Else a sentence was reworded, and its translation lies unused."""
    folder = Path(trainingapp.__file__).parent
    files = [*(folder / "engine").rglob("*.py"), folder / "scheduler.py"]
    said = "".join(file.read_text(encoding="utf-8") for file in files)
    for form in FORMS:
        words = re.split(r"%\(\w+\)s|[,:.]", form)
        assert max(words, key=len).strip() in said, form


def test_a_correction_is_said_with_its_values() -> None:
    _config, corrections = correct_config({"model": "resnet18", "image_size": 60, "epochs": 2, "warmup_epochs": 3})
    assert len(corrections) == 2
    with translation.override("zh-hans"):
        said = [in_readers_language(correction) for correction in corrections]
    assert "60" in said[0]
    assert "64" in said[0]
    assert "0.2" in said[1]
    assert "became" not in "".join(said)


@pytest.mark.parametrize("sentence", ["", "The disk hums.", "Saved as epoch_1.pt. And more."])
def test_what_is_not_known_stays_as_it_was_written(sentence: str) -> None:
    with translation.override("zh-hans"):
        assert in_readers_language(sentence) == sentence


def test_the_log_of_a_page_is_in_its_language(user_client: Client, run: TrainingRun) -> None:
    checkpoint = {"file": "epoch_1.pt", "size_bytes": 1024, "is_best": True}
    tell(
        run,
        line("First step of this attempt done: step 7."),
        {"type": "checkpoint", "step": 8, "data": checkpoint},
        {"type": "status", "step": 9, "data": {"state": "order", "result": "Saved as step_9.pt."}},
    )
    html = user_client.get(f"/runs/{run.pk}/log/", headers={"accept-language": "zh-hans"}).content.decode()
    assert "First step" not in html
    assert "best so far" not in html
    assert "Saved as" not in html
    assert "step_9.pt" in html


def test_a_status_is_not_said_twice(user_client: Client, run: TrainingRun) -> None:
    tell(run, {"type": "status", "data": {"to": "completed", "message": "Completed."}})
    tell(run, {"type": "status", "data": {"to": "queued", "message": "It hung."}})
    html = user_client.get(f"/runs/{run.pk}/log/").content.decode()
    assert "The run is now completed.<" in html
    assert "The run is now queued. It hung.<" in html
