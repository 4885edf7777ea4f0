"""Texts from corrupted files, in a form that every database can store."""

import pytest

from trainingapp.models import Dataset, TrainingRun
from trainingapp.models.text import storable


def test_characters_that_no_database_stores_are_replaced_visibly() -> None:
    given = {"a\0": ["\ud800b", "𝄞 鸟", 1, None], "c": {"d": "\udcff"}}
    assert storable(given) == {"a\ufffd": ["\ufffdb", "𝄞 鸟", 1, None], "c": {"d": "\ufffd"}}


@pytest.mark.parametrize("text", ["a\0b", "\ud83d", "caf\udce9.png"])
def test_it_is_stored(text: str, run: TrainingRun) -> None:
    Dataset.objects.filter(pk=run.dataset_id).update(report=storable([{"message": text}]))
    [item] = Dataset.objects.get(pk=run.dataset_id).report
    assert "\ufffd" in item["message"]
