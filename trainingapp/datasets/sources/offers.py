"""The choices that a source leaves open: what the reader used, why, and what else could be meant."""

from dataclasses import dataclass

from trainingapp.contract.messages import Message
from trainingapp.datasets.options import ReadingField


@dataclass(frozen=True, slots=True)
class Offer:
    """A field of `ReadingOptions` that makes a difference for this source.

    `used` is the value in force: the one chosen, or the one that "auto" came to. `choices` are all values that make
    sense, `used` among them; of encodings and formats their names, of `bands` texts such as "3,2,1". `reason` says what
    "auto" relied on, as a sentence; None where the value was chosen by the user or needs no explanation.
    """

    field: ReadingField
    used: str
    choices: tuple[str, ...]
    reason: Message | None = None
