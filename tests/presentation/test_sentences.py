"""What trainers and workers wrote in English stands in the reader's language on the pages."""

import re

import pytest
from django.test import Client
from django.utils import translation

from tests.helpers.world import line, tell
from trainingapp.models import TrainingRun
from trainingapp.presentation.sentences import (
    in_readers_language,
    trainers,
    workers,
)
from trainingapp.presentation.sentences.forms import Text

#: What stands in the places of values. Names have spaces and words of other forms in them.
SAMPLES = {
    **dict.fromkeys(("path", "other", "image"), "my holiday/cat, no. 1.jpg"),
    **dict.fromkeys(("where", "elsewhere"), "my labels/all of it.json line 1,204"),
    **dict.fromkeys(("source",), "holiday images.zip"),
    **dict.fromkeys(("class", "new_name", "text", "id", "folders"), "a red one"),
    **dict.fromkeys(("size", "free", "reserve", "short", "limit", "packed"), "12.5 GB"),
    "advice": "Connect this machine to huggingface.co, or turn pretrained off.",
    "beginning": "file of the weights “Birds v2” (number 12)",
    "box": "(1.0, 2.5, 30.0, 41.2)",
    "changes": "the device was cpu, now cuda:0; torch was 2.8, now 2.9",
    "dataset": "Birds and bees",
    "pair": "val and valid",
    "ending": "ending in .txt",
    "error": "something that nobody foresaw",
    "fact": "The weights conv1.weight are not finite any more",
    "fault": "bbox is too large",
    "files": "1,204 files",
    "given": "One Cycle",
    "message": "There is no image for my holiday/cat 1.txt.",
    "names": "one of them, another and 3 more",
    "note": "with several frames, of which the first is used",
    "order_file": "/data/runs/12/config.json",
    "images": "1,204 images",
    "pixel_size": "12,000 x 9,000 pixels",
    "pixel_values": "value 7, colour 1,2,3",
    "values": "loss 0.1, top1 0.9",
    "what": "are not in the source and start anew",
    "wrong": "is missing",
    "damage": "is missing",
}
ENGLISH = re.compile(r"[A-Za-z]{2,}(?:[ ,]+[A-Za-z]{2,}){2,}")


def filled(form: str, samples: dict[str, str] = SAMPLES) -> str:
    return re.sub(r"%\((\w+)\)[a-z]", lambda value: samples.get(value[1], "7"), form)


def texts_of(form: Text) -> tuple[str, ...]:
    return (form,) if isinstance(form, str) else form


#: In the log of a run, names have no spaces.
OF_RUNS = {
    **dict.fromkeys(("path", "source"), "images/cat.jpg"),
    **dict.fromkeys(("where", "elsewhere"), "samples.jsonl line 1204"),
    **dict.fromkeys(("text", "type"), "'cat'"),
    "message": "60 of 62 tensors were taken over.",
    "names": "conv1.weight, conv2.weight and 3 more",
}


@pytest.mark.parametrize(
    "form", [text for book in (trainers, workers) for form in book.SENTENCES for text in texts_of(form)]
)
def test_every_sentence_of_a_run_is_known_whatever_it_names(form: str) -> None:
    with translation.override("zh-hans"):
        said = in_readers_language(filled(form, SAMPLES | OF_RUNS))
    assert not ENGLISH.search(said.replace(SAMPLES["error"], ""))


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_sentence_of_many_words_that_nobody_knows_stays(language: str) -> None:
    sentence = "a and b. " * 400
    with translation.override(language):
        assert in_readers_language(sentence) == sentence


def test_sentences_one_after_the_other_are_said_anew_and_keep_their_numbers() -> None:
    known = "Resumed, it goes on from its checkpoint of step 1204; 1 step is made again. It can be resumed."
    with translation.override("zh-hans"):
        said = in_readers_language(f"The hard time limit of 2.5 h was reached: the trainer was ended at once. {known}")
    assert "2.5" in said
    assert "1204" in said
    assert not ENGLISH.search(said)
    assert " " not in said.replace(" 2.5 ", "").replace(" 1204 ", "").replace(" 1 ", "")


def test_words_that_nobody_foresaw_stay_before_what_the_studio_adds() -> None:
    added = "It went on by itself 2 times already."
    with translation.override("zh-hans"):
        said = in_readers_language(f"KeyError: 'blue cat'. {added}")
    assert said.startswith("KeyError: 'blue cat'. ")
    assert not ENGLISH.search(said)


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
