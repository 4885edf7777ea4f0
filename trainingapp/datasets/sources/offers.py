"""The open choices of a source: the value used, the reason, and the alternatives."""

from dataclasses import dataclass

from trainingapp.contract.messages import Message
from trainingapp.datasets.options import ReadingField


@dataclass(frozen=True, slots=True)
class Offer:
    """A field of `ReadingOptions` with several possible values for this source.

    `used` is the value in effect: the one chosen, or the result of "auto". `choices` are all sensible values including
    `used`: names for encodings and formats, texts such as "3,2,1" for `bands`. `reason` is a sentence that explains the
    result of "auto"; None if the user chose the value or no explanation is needed.
    """

    field: ReadingField
    used: str
    choices: tuple[str, ...]
    reason: Message | None = None
