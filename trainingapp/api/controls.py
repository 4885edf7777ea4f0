"""The actions of the control operation, derived from the run verbs."""

from typing import Annotated, Any, Literal

from django.utils.translation import gettext as _
from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from trainingapp.accounts.users import AnyUser
from trainingapp.api.problems import wrong_config, wrong_field
from trainingapp.models import TrainingRun
from trainingapp.models.verbs import FieldError
from trainingapp.runs.verb_record import Parameter
from trainingapp.runs.verb_registry import RUN_VERBS


def _known_action(name: str) -> str:
    actions = RUN_VERBS.api_actions()
    if name not in actions:
        raise PydanticCustomError("literal_error", "Choose one of {expected}", {"expected": ", ".join(actions)})
    return name


class _ActionNames:
    """Describes the field by the verbs that are registered when the document is made."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        actions = RUN_VERBS.api_actions()
        about = "\n".join(f"- `{action}`: {verb.help}" for action, verb in actions.items())
        return {"type": "string", "enum": list(actions), "title": "Action", "description": f"What to do.\n\n{about}"}


ActionName = Annotated[str, AfterValidator(_known_action), _ActionNames()]


def _add_examples(schema: dict[str, Any]) -> None:
    """One request for each action, with the parameters that it requires."""
    schema["examples"] = [
        {"action": action, **{each.name: each.example for each in verb.parameters if each.is_required}}
        for action, verb in RUN_VERBS.api_actions().items()
    ]


class ControlRequest(Schema):
    """What to do with a run, and the parameters of the action."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_add_examples)

    action: ActionName

    def values(self) -> dict[str, object]:
        """The parameters that were sent."""
        sent = self.model_dump(exclude={"action"}, exclude_unset=True)
        return {name: value for name, value in sent.items() if value is not None}


def perform(run: TrainingRun, action: str, values: dict[str, object], user: AnyUser) -> TrainingRun:
    """Perform the action; returns the run, or the new one. Raises VerbError, and Problem for a wrong parameter."""
    verb = RUN_VERBS.api_actions()[action]
    for parameter in verb.parameters:
        if parameter.is_required and parameter.name not in values:
            raise wrong_field(f"#/{parameter.name}", _("This field is required."))
    # A parameter of another action is ignored, as it always was.
    taken = {each.name: values[each.name] for each in verb.parameters if each.name in values}
    try:
        done = verb.perform(run, user=user, **taken)
    except ValidationError as error:
        raise wrong_config(error) from None
    except FieldError as error:
        raise wrong_field(f"#/{error.field}", str(error)) from None
    assert isinstance(done, TrainingRun), f"The verb {verb.name} returned no run"
    return done


def request_fields() -> dict[str, tuple[object, object]]:
    """The parameters of all actions, as fields of the request: name -> (type, field)."""
    users: dict[str, list[str]] = {}
    parameters: dict[str, Parameter] = {}
    for action, verb in RUN_VERBS.api_actions().items():
        for parameter in verb.parameters:
            parameters[parameter.name] = parameter
            users.setdefault(parameter.name, []).append(action)
    return {name: _field(each, f"{', '.join(users[name])}: {each.help}") for name, each in parameters.items()}


def _field(parameter: Parameter, about: str) -> tuple[object, object]:
    if parameter.kind == "number":
        return int | None, Field(None, ge=parameter.least, le=parameter.most, description=about)
    if parameter.kind == "text":
        return str | None, Field(None, min_length=parameter.least, max_length=parameter.most, description=about)
    if parameter.kind == "choice":
        return Literal[parameter.choices] | None, Field(None, description=about)
    return dict[str, object] | None, Field(None, description=about)


def request_model() -> type[ControlRequest]:
    """The model of the request with the parameters of every action."""
    return create_model("TrainingControlRequest", __base__=ControlRequest, **request_fields())  # type: ignore[call-overload, no-any-return]  # the names are known at run time only
