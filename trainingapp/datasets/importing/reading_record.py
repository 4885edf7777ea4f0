"""The stored record of how a source was read, for the review and for the dataset page."""

from collections.abc import Iterable
from typing import NotRequired, TypedDict

from trainingapp.contract.deep_images import Conversion, ConversionData
from trainingapp.contract.messages import MessageData
from trainingapp.datasets.options import ReadingField
from trainingapp.datasets.sources.layout import Layout
from trainingapp.datasets.sources.offers import Offer


class StoredOffer(TypedDict):
    """An `Offer` of the source."""

    field: ReadingField
    used: str
    choices: list[str]
    reason: MessageData | None


class StoredUnread(TypedDict):
    """A group of files that were not read: their suffix, their number, the first paths and the reason."""

    suffix: str
    count: int
    first: list[str]
    reason: MessageData


class ReadingRecord(TypedDict):
    """The content of `Dataset.reading`. For a source that could not be read, it has only offers."""

    format: str
    split_origin: MessageData | None
    offers: list[StoredOffer]
    unread: list[StoredUnread]
    conversion: NotRequired[ConversionData]
    """Of a dataset with images of more than 8 bits per channel or of many bands."""


def record_of(layout: Layout, conversion: Conversion | None = None) -> ReadingRecord:
    record: ReadingRecord = {
        "format": layout.format,
        "split_origin": layout.split_origin.as_data() if layout.split_origin else None,
        "offers": stored_offers(layout.offers),
        "unread": [
            {"suffix": group.suffix, "count": group.count, "first": list(group.first), "reason": group.reason.as_data()}
            for group in layout.unread
        ],
    }
    if conversion:
        record["conversion"] = conversion.as_data()
    return record


def record_of_refused(offers: Iterable[Offer]) -> ReadingRecord:
    """The record of a source that could not be read; the offers list what can be tried."""
    return {"format": "", "split_origin": None, "offers": stored_offers(offers), "unread": []}


def stored_offers(offers: Iterable[Offer]) -> list[StoredOffer]:
    return [
        {
            "field": offer.field,
            "used": offer.used,
            "choices": list(offer.choices),
            "reason": offer.reason.as_data() if offer.reason else None,
        }
        for offer in offers
    ]
