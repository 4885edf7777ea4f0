"""A fourth task for tests: a grade for each image, on a scale. Torch-free, as the studio reads it.

The classes of a dataset are the grades in their order, such as folders named 1, 2, 3. A model gives a probability for
each grade, but it is trained and judged by how far it is from the true one.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainingapp.contract.architectures import Architecture
from trainingapp.contract.base_config import MULTIPLE_OF_32, BaseRunConfig
from trainingapp.contract.metric_names import LOSS, Metric
from trainingapp.contract.setting import Section, Setting, Unit
from trainingapp.contract.tasks.descriptor import TaskDescriptor

GRADERS = {
    "tiny_grader": Architecture(defaults={"batch_size": 8}),
    "small_grader": Architecture(defaults={"batch_size": 8, "learning_rate": 0.002}),
}


class GradingConfig(BaseRunConfig):
    """A grade for each image."""

    architectures = GRADERS

    task: Annotated[
        Literal["grading"], Setting("Task", "What the model learns to do.", Section.MODEL, changes_result=True)
    ] = "grading"
    model: Annotated[str, Setting("Model", "Network architecture.", Section.MODEL, changes_result=True)] = "tiny_grader"
    image_size: Annotated[
        int,
        Field(ge=32, le=256),
        MULTIPLE_OF_32,
        Setting(
            "Image size", "Images are scaled to this square.", Section.MODEL, changes_result=True, unit=Unit.PIXELS
        ),
    ] = 32
    focus: Annotated[
        float,
        Field(ge=1, le=4),
        Setting(
            "Focus on large errors",
            "The loss counts large errors more, by this exponent.",
            Section.TRAINING,
            changes_result=True,
        ),
    ] = 1.0
    best_metric: Annotated[
        Literal["mean_error", "within_one", "loss"],
        Setting("Model-selection metric", "Chooses the best checkpoint.", Section.SAVING, changes_result=False),
    ] = "mean_error"


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
