"""A fourth task for tests: a grade for each image, on a scale. Torch-free, as the studio reads it.

The classes of a dataset are the grades in their order, such as folders named 1, 2, 3. A model gives a probability for
each grade, but it is trained and judged by how far it is from the true one.
"""

from typing import Literal

from pydantic import Field

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import BaseRunConfig, ImageSize, meta, model_name
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.tasks.descriptor import TaskDescriptor

GRADERS = {
    "tiny_grader": Architecture(defaults={"batch_size": 8}),
    "small_grader": Architecture(defaults={"batch_size": 8, "learning_rate": 0.002}),
}


class GradingConfig(BaseRunConfig):
    """A grade for each image."""

    architectures = GRADERS

    task: Literal["grading"] = Field(
        "grading", description="What the model learns.", json_schema_extra=meta("Task", "model")
    )
    model: model_name(GRADERS) = Field(  # type: ignore[valid-type]
        "tiny_grader", description="Network.", json_schema_extra=meta("Model", "model")
    )
    image_size: ImageSize = Field(
        32,
        ge=32,
        le=256,
        description="Images are scaled to this square.",
        json_schema_extra=meta("Image size", "model", "pixels"),
    )
    focus: float = Field(
        1.0,
        ge=1,
        le=4,
        description="The loss counts large errors more, by this exponent.",
        json_schema_extra=meta("Focus on large errors", "training"),
    )
    best_metric: Literal["mean_error", "within_one", "loss"] = Field(
        "mean_error", description="Decides which checkpoint is best.", json_schema_extra=meta("Best by", "saving")
    )


TASK = TaskDescriptor(
    name="grading",
    label="Grading",
    about="A grade for each image",
    icon="bi-star-half",
    config=GradingConfig,
    implementation="tests.tasks.grading_engine:GradingTask",
    metrics={
        "loss": LOSS,
        "mean_error": Metric("Mean error in grades", higher_is_better=False, is_share=False),
        "within_one": Metric("Within one grade"),
    },
    quality_chart=(("mean_error", "train"), ("mean_error", "val"), ("within_one", "val")),
    annotation="labels",
    least_classes=3,
    prediction="classes",
    image_fit="stretch",
    output_names=("grades",),
    outputs_help="`grades` [1, classes], a probability for each grade.",
)
