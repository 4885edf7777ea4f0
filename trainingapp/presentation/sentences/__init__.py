"""What workers and trainers wrote in English, said anew in the reader's language."""

from trainingapp.presentation.sentences.books import (
    finding_in_readers_language,
    in_readers_language,
    words_in_readers_language,
)

__all__ = ["finding_in_readers_language", "in_readers_language", "words_in_readers_language"]
