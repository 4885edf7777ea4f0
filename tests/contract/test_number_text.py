"""Numbers are formatted for people."""

import math
import random

import pytest

from trainingapp.contract.number_text import field_number, number_text, numbers_apart


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (0.001, "0.001"),
        (0.1 + 0.2, "0.3"),
        (0.123456, "0.1235"),
        (-2.5, "-2.5"),
        (99.999, "100"),
        (0.0001, "0.0001"),
        (0.00001, "10⁻⁵"),
        (-0.00001, "-10⁻⁵"),
        (8.157e-09, "8.157×10⁻⁹"),
        (8.2e-09, "8.2×10⁻⁹"),
        (9.99999e-06, "10⁻⁵"),
        (0.0000999999, "0.0001"),
        (1234.5, "1235"),
        (12345.6, "12350"),
        (999_999, "10⁶"),
        (1.25e12, "1.25×10¹²"),
        (math.inf, "Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_have_four_digits_and_no_trailing_zeros(value: float, text: str) -> None:
    assert number_text(value) == text


def test_without_superscripts_powers_are_written_in_e_notation() -> None:
    assert number_text(8.157e-09, ascii_only=True) == "8.157e-9"
    assert number_text(1e-10, ascii_only=True) == "1e-10"
    assert number_text(0.001, ascii_only=True) == "0.001"


def test_the_number_of_digits_can_be_set() -> None:
    assert number_text(0.123456, digits=2) == "0.12"
    assert number_text(3e-7, digits=2) == "3×10⁻⁷"


def test_neighbouring_axis_labels_differ() -> None:
    assert numbers_apart([2.07995, 2.08, 2.08005]) == ["2.07995", "2.08", "2.08005"]
    assert numbers_apart([0.0, 0.1, 0.2, 0.1 + 0.2]) == ["0", "0.1", "0.2", "0.3"]
    assert numbers_apart([]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-05, "0.00002"), (5.0, "5"), (1e-07, "1e-7"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (100.0, "100")],
)
def test_a_form_field_holds_the_exact_number(value: float, text: str) -> None:
    assert field_number(value) == text


def test_the_value_of_a_form_field_is_read_back_exactly() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        value = rng.uniform(-1, 1) * 10 ** rng.uniform(-12, 20)
        assert float(field_number(value)) == value
