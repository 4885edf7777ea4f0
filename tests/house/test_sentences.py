"""Whatever trainers and workers say has a form, by which a page says it in the reader's language."""

from collections.abc import Iterable
from pathlib import Path

import trainingapp
from tests.helpers.spoken import HOLE, Spoken, form_text, spoken, texts_in, translated
from trainingapp.contract.errors import OUT_OF_MEMORY_ADVICE, READ_ONLY_ADVICE
from trainingapp.contract.storage.manifest import ABOUT
from trainingapp.presentation.sentences import trainers, workers
from trainingapp.presentation.sentences.forms import Text

ROOT = Path(trainingapp.__file__).parent
TRAINERS = [*trainers.SENTENCES, *trainers.PARTS, *trainers.FACTS, *trainers.TRANSFERS]
#: Files of trainingapp/engine that say nothing in a run or a job.
NOT_OF_RUNS = (
    "__main__.py",  # the command line
    "class_colours.py",
    "base_config.py",  # names and helps of settings, collected where they stand
    "environment.py",  # names of versions
    "export_readme.py",  # goes along with an export
    "metric_names.py",
    "tasks/",  # their messages are coded; titles of curves are collected by the pages
    "messages/",
    "prediction.py",  # goes along with an export
    "script.py",
)
#: Texts of trainingapp/engine that stand in no log and no failure.
UNLOGGED = {
    "out of memory": "looked for",
    "can't allocate memory": "looked for",
    "could not create a primitive": "looked for",
    "could not create a memory": "looked for",
    "cuda error": "looked for",
    "launch failure": "looked for",
    "ecc error": "looked for",
    "nccl error": "looked for",
    "device-side assert": "looked for",
    "Expected more than 1 value per channel": "looked for",
    r"GLOBAL (\S+)": "looked for",
    "idle team": "the name of a thread",
    "best of all": "a reason of the retention, with a label of its own",
    READ_ONLY_ADVICE: "within other sentences",
    OUT_OF_MEMORY_ADVICE: "within other sentences",
    ABOUT: "in the file of a checkpoint",
    "No space left on device": "what the system would say",
    f"{HOLE} GB": "the same in every language",
    f"{HOLE} MB": "the same in every language",
}


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def without_form(found: Iterable[Spoken], forms: Iterable[str], exempt: Iterable[str]) -> list[str]:
    known = {form_text(form) for form in forms} | set(exempt)
    return [str(text) for text in found if not text.texts & known]


def said_in_the_engine() -> list[Spoken]:
    files = [*files_of("engine"), *files_of("contract"), ROOT / "supervision/starting_points.py"]
    return [text for text in spoken(files, ROOT) if not text.place.partition("/")[2].startswith(NOT_OF_RUNS)]


def test_every_sentence_of_the_engine_has_a_form() -> None:
    found = said_in_the_engine()
    assert len(found) > 150
    missing = without_form(found, TRAINERS, UNLOGGED)
    assert not missing, "\n".join(["add them to trainingapp/presentation/sentences/trainers.py", *missing])


def test_every_sentence_of_a_worker_has_a_form() -> None:
    files = [*files_of("supervision"), *files_of("jobs")]
    known = {text for form in (*workers.SENTENCES, *workers.PARTS) for text in texts_of(form)}
    assert translated(files) - known == {"Cancelled."}, "add them to trainingapp/presentation/sentences/workers.py"


def test_no_form_is_left_of_a_sentence_that_is_gone() -> None:
    """Else a sentence was reworded, and its translation lies unused."""
    files = [file for file in files_of(".") if "sentences" not in file.parts]
    said = {text for one in texts_in(files, ROOT) for text in one.texts} | set(map(form_text, translated(files)))
    forms = [*TRAINERS, *workers.SENTENCES, *workers.PARTS]
    gone = [text for form in forms for text in texts_of(form) if form_text(text) not in said]
    assert not gone, "\n".join(gone)


def texts_of(form: Text) -> tuple[str, ...]:
    return (form,) if isinstance(form, str) else form
