"""Names in an archive: one encoding for all of them, and checks of their paths."""

import unicodedata
from collections.abc import Sequence

from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.sources.encodings import LEGACY, best_encoding, decoded_or_none
from trainingapp.datasets.sources.offers import Offer

MOST_NAMES_SHOWN = 3


class EncodedNames:
    """Decodes the names in an archive that do not declare their encoding. `chosen` is an encoding, or "auto".

    `offer` is the choice to show in the review, None if all names are ASCII.
    """

    def __init__(self, chosen: str = "auto") -> None:
        self._chosen = chosen
        self._encoding = "utf-8"
        self.offer: Offer | None = None

    def settle(self, names: Sequence[bytes]) -> None:
        """Choose one encoding for all `names`."""
        telling = list(dict.fromkeys(name for name in names if not name.isascii()))
        if not telling:
            return
        automatic = best_encoding(telling)
        known = ("utf-8", *LEGACY)
        choices = [
            encoding for encoding in known if all(decoded_or_none(name, encoding) is not None for name in telling)
        ]
        self._encoding = self._chosen if self._chosen in known else automatic
        shown = [tidy_name(self.decoded(name)) for name in telling[:MOST_NAMES_SHOWN]]
        reason = messages.NAMES_DECODED(encoding=self._encoding, names=shown)
        self.offer = Offer("name_encoding", self._encoding, tuple(dict.fromkeys([self._encoding, *choices])), reason)

    def decoded(self, name: bytes) -> str:
        return name.decode(self._encoding, errors="replace")


def tidy_name(name: str) -> str:
    """The name with forward slashes (Windows writes backslashes), in Unicode's composed form and without `./`."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def is_outside(name: str) -> bool:
    """Whether the name refers to a path outside the folder that the archive is unpacked to."""
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")
