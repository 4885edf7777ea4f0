"""The options of an import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trainingapp.contract.limits import MAX_SEED, NAME_LENGTH


class ClassChoice(BaseModel):
    """A class of the dataset: its name and the classes of the source that are merged into it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    sources: list[str] = Field(min_length=1)


class ImportOptions(BaseModel):
    """Stored as JSON in `Dataset.options`.

    `classes` are in the order of their labels. A class of the source that no choice names is left out with its objects
    (and, for classification, its images). An empty list imports all classes unchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: list[ClassChoice] = []
    split: Literal["given", "stratified"] = "given"
    val_share: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    on_error: Literal["stop", "leave_out"] = "stop"
