"""Limits of what people enter are the same in models, forms, the API and pages."""

import re
from pathlib import Path

import pytest
from django.forms import Form

from trainingapp.api.model_schemas import WeightsUpdate
from trainingapp.api.schemas import TrainingRunCreate, TrainingRunUpdate
from trainingapp.contract import limits
from trainingapp.datasets.forms import ImportForm
from trainingapp.models import Dataset, Team, TrainingRun, Weights
from trainingapp.runs.change_forms import EditForm
from trainingapp.runs.forms import RunForm
from trainingapp.templatetags.limits import limit
from trainingapp.weights.forms import SaveForm

#: The length of a text or the bounds of the priority as a number in a template.
WRITTEN = re.compile(r"maxlength=\"\d+\"|name=\"priority\"[^>]*max=\"\d+\"")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("model", [TrainingRun, Dataset, Weights, Team])
def test_columns_hold_names_of_the_allowed_length(model: type[TrainingRun]) -> None:
    assert model._meta.get_field("name").max_length == limits.NAME_LENGTH


@pytest.mark.parametrize("form", [RunForm, EditForm, ImportForm, SaveForm])
def test_forms_allow_names_of_that_length(form: type[Form]) -> None:
    assert form.base_fields["name"].max_length == limits.NAME_LENGTH


@pytest.mark.parametrize("form", [RunForm, EditForm])
def test_forms_allow_the_priorities_of_the_studio(form: type[Form]) -> None:
    priority = form.base_fields["priority"]
    assert (priority.min_value, priority.max_value) == (-limits.MAX_PRIORITY, limits.MAX_PRIORITY)


def test_the_api_names_the_same_limits() -> None:
    for schema in (TrainingRunCreate, TrainingRunUpdate, WeightsUpdate):
        name = schema.model_json_schema()["properties"]["name"]
        assert (name.get("anyOf") or [name])[0]["maxLength"] == limits.NAME_LENGTH
    priority = TrainingRunCreate.model_json_schema()["properties"]["priority"]
    assert (priority["minimum"], priority["maximum"]) == (-limits.MAX_PRIORITY, limits.MAX_PRIORITY)
    note = WeightsUpdate.model_json_schema()["properties"]["note"]
    assert note["anyOf"][0]["maxLength"] == limits.NOTE_LENGTH == SaveForm.base_fields["note"].max_length


def test_templates_take_limits_from_the_contract() -> None:
    assert limit("MAX_PRIORITY") == "1000"
    written = {
        file.name: found
        for file in (REPOSITORY / "templates").rglob("*.html")
        if (found := WRITTEN.findall(file.read_text(encoding="utf-8")))
    }
    assert written == {}
