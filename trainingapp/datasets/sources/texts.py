"""Decodes annotation files in UTF-8, UTF-16 or a Windows code page."""

import codecs
import re
from collections.abc import Iterable

from trainingapp.contract.messages import Message
from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages.library_reasons import library_reason
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.encodings import MOST_TEXT_BYTES, TEXT_LEGACY, best_encoding
from trainingapp.datasets.sources.position import Position

_BOMS = (  # UTF-32 first, since its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 4096
_XML_DECLARATION = re.compile(r"""\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([\w.:-]+)["']""")
#: Encodings whose declaration usually means a superset.
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "big5": "cp950",
    "ascii": "utf-8",
}
#: Python codecs that are not file encodings; two of them take quadratic time.
_NOT_FOR_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"}
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


class NotTextError(ValueError):
    """The bytes are not text in any of the supported encodings; `reason` completes "is not a text file"."""


def decode(content: bytes, chosen: str = "auto", likely: Iterable[str] = ()) -> tuple[str, str]:
    """(text, name of the encoding) of a file's content.

    The encoding is determined by a byte order mark; then by `chosen`, unless it is "auto"; then by UTF-16's zero bytes,
    UTF-8, and the Windows code page with the most plausible text, those in `likely` first. Raises UnicodeDecodeError if
    the determined encoding fails, LookupError if `chosen` is unknown, and NotTextError for binary content.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding), encoding.removesuffix("-sig")
    if chosen != "auto":
        return content.decode(_checked(chosen)), chosen
    if wide := _without_mark(content):
        return content.decode(wide), wide
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        # Text has no control characters; a few indicate a damaged file, many a file that is not text.
        if len(_CONTROLS.findall(content, 0, MOST_TEXT_BYTES)) > len(content) // 256:
            raise NotTextError(error.reason) from None
    for encoding in (*likely, best_encoding(_lines(content), TEXT_LEGACY)):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    # Content that no code page decodes completely is read as Latin-1 with a few damaged characters.
    return content.decode("latin-1"), "latin-1"


def _lines(content: bytes) -> list[bytes]:
    """Whole lines from the beginning of the file."""
    lines = content[:MOST_TEXT_BYTES].splitlines()
    return lines if len(content) <= MOST_TEXT_BYTES or len(lines) < 2 else lines[:-1]


def _checked(encoding: str) -> str:
    """The name of the codec. Raises LookupError if it is unknown or not a file encoding."""
    name = codecs.lookup(encoding).name
    if name in _NOT_FOR_FILES:
        raise LookupError(encoding)
    return name


def _without_mark(content: bytes) -> str | None:
    """Detect UTF-16 without a mark: every ASCII character has a zero byte, always on the same side.

    At least a third of the characters have to be ASCII, so that a few zero bytes in other text are ignored.
    """
    sample = content[:_SAMPLE_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if len(content) % 2 or max(even, odd) * 6 < max(len(sample), 12):
        return None
    if not even:
        return "utf-16-le"
    return None if odd else "utf-16-be"


def decode_file(content: bytes, path: str, chosen: str = "auto", likely: Iterable[str] = ()) -> tuple[str, str]:
    """Like `decode`, for an annotation file of any format. An XML declaration is used if there is no mark.

    Raises DatasetError with the file and, for a wrong declaration, the line.
    """
    declared = _declared(content)
    if chosen == "auto" and declared and declared not in ("utf-8", "utf-16"):
        chosen = declared
    try:
        if declared == "utf-8" and chosen == "auto" and _without_mark(content) is None:
            return content.decode("utf-8-sig"), "utf-8"
        return decode(content, chosen, likely)
    except LookupError:
        raise DatasetError.one("not_text", messages.UNKNOWN_ENCODING(path=path, encoding=chosen), path) from None
    except NotTextError as error:
        message: Message = messages.NOT_TEXT(path=path, reason=library_reason(str(error)))
    except UnicodeDecodeError as error:
        where = Position(path, content.count(b"\n", 0, error.start) + 1).param()
        if declared:
            probable = best_encoding(_lines(content), TEXT_LEGACY)
            message = messages.DECLARED_ENCODING_WRONG(where=where, declared=declared, probable=probable)
        else:
            message = messages.WRONG_ENCODING(where=where, encoding=chosen if chosen != "auto" else error.encoding)
    raise DatasetError.one("not_text", message, path)


def sample_as_utf8(sample: bytes, chosen: str = "auto") -> bytes:
    """Parts of a file, cut at any byte, as UTF-8; formats search them for ASCII keywords and column names."""
    try:
        sample[:_SAMPLE_BYTES].decode("utf-8")
        is_plain = not sample.startswith(tuple(mark for mark, _encoding in _BOMS)) and b"\0" not in sample
    except UnicodeDecodeError as error:
        is_plain = error.end >= len(sample[:_SAMPLE_BYTES]) - 3  # a truncated character
    if is_plain:
        return sample
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            return sample.decode(encoding, errors="ignore").encode()
    try:
        _text, encoding = decode(sample[:_SAMPLE_BYTES], chosen)
    except (LookupError, ValueError):
        return sample
    return sample.decode(encoding, errors="ignore").encode()


def _declared(content: bytes) -> str | None:
    """The encoding declared in XML, as the superset used for decoding; None if no known encoding is declared."""
    match = _XML_DECLARATION.match(content[:256].removeprefix(codecs.BOM_UTF8).decode("latin-1"))
    if not match:
        return None
    try:
        name = _checked(match[1])
    except LookupError:
        return None
    return _SUPERSETS.get(name, name)
