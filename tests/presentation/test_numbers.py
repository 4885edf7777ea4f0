"""Numbers on the pages are formatted for people."""

import pytest

from trainingapp.presentation.numbers import metric, setting_value


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.5, "top1", "50.0 %"),
        (8.157e-09, "lr", "8.157×10⁻⁹"),
        (0.001, "lr", "0.001"),
        (12345.6, "loss", "12350"),
        (None, "loss", "–"),
    ],
)
def test_metrics_are_formatted(value: float | None, name: str, text: str) -> None:
    assert metric(value, name) == text


def test_settings_are_shown_exactly() -> None:
    assert [setting_value(value) for value in (1e-05, 0.12345, 5.0, 2**31 - 1, True)] == [
        "10⁻⁵",
        "0.12345",
        "5",
        2**31 - 1,
        "yes",
    ]
