"""The colours of classes, the same in pages and in images that the trainer draws (no torch)."""

import colorsys

COLOURS = (
    "#e6433c",
    "#2f9bff",
    "#35c759",
    "#ffb000",
    "#b25cff",
    "#00c2c7",
    "#ff6fb5",
    "#8bd000",
    "#ff7b1c",
    "#6f7dff",
    "#c9a227",
    "#00a878",
)
"""Of the first classes, distinguishable on dark and light images; more are made by `class_colour`."""

_GOLDEN_RATIO = 0.618034


def class_colour(label: int) -> str:
    """The colour of a class as "#rrggbb"; neighbouring labels differ clearly."""
    if label < len(COLOURS):
        return COLOURS[label]
    lightness = (0.5, 0.64, 0.4)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(label * _GOLDEN_RATIO % 1, lightness, 0.85)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def class_rgb(label: int) -> tuple[int, int, int]:
    """The same as three numbers from 0 to 255."""
    colour = class_colour(label)
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
