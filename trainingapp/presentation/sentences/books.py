"""Who says what: the books of forms, and how pages ask them."""

from functools import cache

from trainingapp.presentation.sentences import trainers, workers
from trainingapp.presentation.sentences.forms import Book
from trainingapp.presentation.sentences.reasons import REASONS


@cache
def _run_book() -> Book:
    return Book(
        [*trainers.SENTENCES, *workers.SENTENCES],
        [*trainers.PARTS, *workers.PARTS, *REASONS],
        {"fact": trainers.FACTS, "what": trainers.TRANSFERS},
    )


def in_readers_language(sentence: str) -> str:
    """What a trainer or a worker said of a run or a job, in the language of the page where its form is known."""
    return _run_book().said(sentence)


def words_in_readers_language(words: str) -> str:
    """The same for words that go on from the name of a file, or give a reason: no whole sentence."""
    return _run_book().part(words)
