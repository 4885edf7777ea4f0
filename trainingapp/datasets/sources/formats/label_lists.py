"""Several labels of an image in one text, as in `cat|dog`, and the choice between readings of such texts."""

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
    """The separator of the labels in these texts; None if each text is the name of one class.

    A comma or a space can also be part of a name. Commas separate labels if the column has a plural name, such as
    `tags`, or each list shares a label with another text. Spaces separate labels only if the column has a plural name
    and there are no more labels than texts, since two-word names would give more.
    """
    for separator in SURE_SEPARATORS:
        if any(separator in text for text in texts):
            return separator
    if _lists(texts, ",") and (is_plural or _share_labels(texts, ",")):
        return ","
    labels = {label for text in texts for label in split_labels(text, " ")}
    return " " if is_plural and _lists(texts, " ") and len(labels) <= len(set(texts)) else None


def likely_separator(texts: Collection[str]) -> str | None:
    """The separator if the user chose several labels; None if no separator occurs."""
    return next((separator for separator in (*SURE_SEPARATORS, ",", " ") if _lists(texts, separator)), None)


def looks_like_lists(texts: Collection[str]) -> list[str]:
    """Texts read as names that are probably label lists, because all their words are also names."""
    names = {text.strip() for text in texts}
    return sorted(text for text in names if " " in text and all(word in names for word in text.split()))


def split_labels(text: str, separator: str | None) -> list[str]:
    """The class names in the text without duplicates; empty for an empty text."""
    parts = [text] if separator is None else text.split(separator)
    return list(dict.fromkeys(filter(None, map(class_name, parts))))


def offer_label_mode(files: Files, used: LabelMode, reason: Message | None = None) -> None:
    """Offer the other reading of the labels in the review."""
    chosen = files.reading.label_mode != "auto"
    files.offer(Offer("label_mode", used, LABEL_MODES, None if chosen else reason))


def separated(separator: str, texts: Collection[str]) -> Message:
    """The reason why texts are read as label lists."""
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
