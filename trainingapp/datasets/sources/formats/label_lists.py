"""Several labels of an image in one text, as in `cat|dog`, and what a source leaves open about that."""

from collections import Counter
from collections.abc import Collection, Iterable

from trainingapp.contract.dataset_index import LabelMode
from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_reading as reading_messages
from trainingapp.datasets.sources.files import Files, class_name
from trainingapp.datasets.sources.offers import Offer

SURE_SEPARATORS = ("|", ";")
"""No name of a class has these."""
LABEL_MODES: tuple[LabelMode, ...] = ("single", "multi")


def found_separator(texts: Collection[str], *, is_plural: bool) -> str | None:
    """What separates the labels in these texts; None where each is the name of one class.

    A comma or a space can also be part of a name. Commas separate where the column is named in the plural, such as
    `tags`, or each list shares a label with another text. Spaces separate only where the column is named in the plural
    and there are no more labels than texts: names of two words each give more.
    """
    for separator in SURE_SEPARATORS:
        if any(separator in text for text in texts):
            return separator
    if _lists(texts, ",") and (is_plural or _share_labels(texts, ",")):
        return ","
    labels = {label for text in texts for label in split_labels(text, " ")}
    return " " if is_plural and _lists(texts, " ") and len(labels) <= len(set(texts)) else None


def likely_separator(texts: Collection[str]) -> str | None:
    """What separates the labels where the user says that there are several; None where nothing could."""
    return next((separator for separator in (*SURE_SEPARATORS, ",", " ") if _lists(texts, separator)), None)


def looks_like_lists(texts: Collection[str]) -> list[str]:
    """The texts that are likely lists of labels although they are read as names: all their words are names too."""
    names = {text.strip() for text in texts}
    return sorted(text for text in names if " " in text and all(word in names for word in text.split()))


def split_labels(text: str, separator: str | None) -> list[str]:
    """The names of the classes in the text, each once; none for an empty text."""
    parts = [text] if separator is None else text.split(separator)
    return list(dict.fromkeys(filter(None, map(class_name, parts))))


def offer_label_mode(files: Files, used: LabelMode, reason: Message | None = None) -> None:
    """Let the user choose the other reading of the labels in the review."""
    chosen = files.reading.label_mode != "auto"
    files.offer(Offer("label_mode", used, LABEL_MODES, None if chosen else reason))


def separated(separator: str, texts: Collection[str]) -> Message:
    """Why texts are read as lists of labels."""
    lists = _lists(texts, separator)
    name = {" ": reading_messages.SEPARATED_BY_SPACE(), ",": reading_messages.SEPARATED_BY_COMMA()}
    return reading_messages.LABELS_SEPARATED(
        separator=name.get(separator, separator), example=min(lists, default="")[:60], count=len(lists)
    )


def _lists(texts: Iterable[str], separator: str) -> list[str]:
    return [text for text in texts if len(split_labels(text, separator)) > 1]


def _share_labels(texts: Collection[str], separator: str) -> bool:
    counts = Counter(label for text in set(texts) for label in split_labels(text, separator))
    return all(any(counts[label] > 1 for label in split_labels(text, separator)) for text in _lists(texts, separator))
