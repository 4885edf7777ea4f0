"""The options of an import."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainingapp.contract.limits import MAX_SEED, NAME_LENGTH

Band = Annotated[int, Field(ge=0, lt=4096)]
"""A channel of an image, counted from 0."""
ReadingField = Literal[
    "format",
    "name_encoding",
    "text_encoding",
    "splits",
    "class_from",
    "label_mode",
    "mask_values",
    "void_value",
    "first_pixel",
    "depth",
    "bands",
]
"""The names of the fields of `ReadingOptions`."""


class ClassChoice(BaseModel):
    """A class of the dataset: its name and the source classes that are merged into it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    sources: list[str] = Field(min_length=1)


class ReadingOptions(BaseModel):
    """How to read a source if its files are ambiguous. With "auto" the importer chooses; the review shows the value
    used and the reason (`sources/offers.py`).

    `format` is the NAME of a format. `name_encoding` decodes the names in an archive, `text_encoding` the annotation
    files. `splits` "none" ignores the splits of the source, "folders" takes them from folder names and "lists" from
    annotation files and image lists. `class_from` is the origin of an image's class. `mask_values` "threshold" treats
    every bright pixel as the single class of a mask, "values" each value as a class. `void_value` is the meaning of 255
    in masks. `first_pixel` is the coordinate of the first pixel in Pascal VOC. `depth` scales images of more than 8
    bits by the range of their values or of their type. `bands` are the channels, counted from 0, that become red, green
    and blue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = Field("auto", max_length=32)
    name_encoding: str = Field("auto", max_length=32)
    text_encoding: str = Field("auto", max_length=32)
    splits: Literal["auto", "lists", "folders", "none"] = "auto"
    class_from: Literal["auto", "folder", "file_name"] = "auto"
    label_mode: Literal["auto", "single", "multi"] = "auto"
    mask_values: Literal["auto", "threshold", "values"] = "auto"
    void_value: Literal["auto", "void", "class"] = "auto"
    first_pixel: Literal["auto", "zero", "one"] = "auto"
    depth: Literal["auto", "true_range", "type_range"] = "auto"
    bands: tuple[Band, Band, Band] | None = None


AUTO = ReadingOptions()


class ImportOptions(BaseModel):
    """Stored as JSON in `Dataset.options`.

    `classes` are in label order. A source class that no choice names is left out with its objects (and, for
    classification, its images). An empty list imports all classes unchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: list[ClassChoice] = []
    split: Literal["given", "stratified"] = "given"
    val_share: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    on_error: Literal["stop", "leave_out"] = "stop"
    reading: ReadingOptions = AUTO
