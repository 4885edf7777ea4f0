"""How numbers are written for people (no torch). static/js/numbers.js does the same in the browser."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

DIGITS, MOST_DIGITS = 4, 15
#: Powers of ten between which numbers are written out.
LEAST_POWER, MOST_POWER = -4, 5
#: The same for the fields of forms, which take no other way to write a power; as browsers write their numbers.
LEAST_POWER_IN_FIELD, MOST_POWER_IN_FIELD = -6, 15
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number_text(value: float, *, digits: int = DIGITS, ascii_only: bool = False) -> str:
    """A number formatted for people, with a maximum of significant digits.

    0.001 -> 0.001, 0.123456 -> 0.1235, 8.157e-09 -> 8.157×10⁻⁹, or 8.157e-9 with `ascii_only`.
    """
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).normalize(Decimal(value))
    if LEAST_POWER <= rounded.adjusted() <= MOST_POWER:
        return _written_out(rounded)
    mantissa, power = _parts(rounded)
    if ascii_only:
        return f"{mantissa}e{power}"
    ten = f"10{str(power).translate(_SUPERSCRIPTS)}"
    return {"1": ten, "-1": f"-{ten}"}.get(mantissa, f"{mantissa}×{ten}")


def numbers_apart(values: Sequence[float]) -> list[str]:
    """The numbers beside an axis: with more digits than usual where those would be equal."""
    texts: list[str] = []
    for digits in range(DIGITS, MOST_DIGITS + 1):
        texts = [number_text(value, digits=digits) for value in values]
        if len(set(texts)) == len(values):
            break
    return texts


def size_text(size_bytes: int) -> str:
    """A size with one decimal: 512 -> 512 B, 1536 -> 1.5 KB; the units are the same in every language."""
    size, units = float(size_bytes), ["B", "KB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size_bytes} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def field_number(value: float) -> str:
    """A number exactly, for a field that is edited: 2e-05 -> 0.00002, 5.0 -> 5, 1e-07 -> 1e-7."""
    exact = Decimal(repr(value)).normalize()
    if LEAST_POWER_IN_FIELD <= exact.adjusted() <= MOST_POWER_IN_FIELD:
        return _written_out(exact)
    mantissa, power = _parts(exact)
    return f"{mantissa}e{power}"


def _parts(number: Decimal) -> tuple[str, int]:
    """The number as a mantissa from 1 to 10 and a power of ten."""
    power = number.adjusted()
    return _written_out(number.scaleb(-power)), power


def _written_out(number: Decimal) -> str:
    return f"{number:f}" if number else "0"
