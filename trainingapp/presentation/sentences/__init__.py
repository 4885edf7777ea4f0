"""What workers and trainers wrote in English, said anew in the reader's language."""

from trainingapp.presentation.sentences.books import (
    in_readers_language,
    words_in_readers_language,
)

__all__ = ["in_readers_language", "words_in_readers_language"]
