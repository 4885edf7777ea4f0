"""Pydantic's validation errors in the reader's language."""

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic_core import ErrorDetails

from trainingapp.contract.number_text import field_number
from trainingapp.presentation.text import Text

#: Texts by pydantic's type of error, filled in with its context.
TEXTS: dict[str, Text] = {
    "greater_than": _("Must be more than %(gt)s."),
    "greater_than_equal": _("Must be at least %(ge)s."),
    "less_than": _("Must be less than %(lt)s."),
    "less_than_equal": _("Must be at most %(le)s."),
    "multiple_of": _("Must be a multiple of %(multiple_of)s."),
    "choice_ruled_out": _("Must not be %(choice)s where %(other)s is %(value)s."),
    "literal_error": _("Choose one of %(expected)s."),
    "unknown_column": _("Choose a column of the list of runs, such as -best."),
    "string_pattern_mismatch": _("This is not one of the values listed in the help text."),
    "int_parsing": _("Enter a whole number."),
    "int_from_float": _("Enter a whole number."),
    "int_type": _("Enter a whole number."),
    "int_parsing_size": _("This number is too large."),
    "float_parsing": _("Enter a number."),
    "float_type": _("Enter a number."),
    "finite_number": _("Enter a finite number."),
    "bool_parsing": _("Choose yes or no."),
    "extra_forbidden": _("Unknown setting."),
    "missing": _("This field is required."),
    "string_too_short": _("Enter at least %(min_length)s characters."),
    "string_too_long": _("Enter at most %(max_length)s characters."),
    "string_type": _("Enter text."),
    "uuid_parsing": _("This is not a valid id."),
    "model_attributes_type": _("Send an object with fields."),
    "dict_type": _("Send an object with fields."),
    "list_type": _("Send a list."),
}


def error_text(error: ErrorDetails) -> str:
    """A sentence about one error that pydantic found."""
    context = error.get("ctx", {})
    if error["type"] in TEXTS:
        shown = {name: field_number(value) if isinstance(value, float) else value for name, value in context.items()}
        return str(TEXTS[error["type"]]) % shown
    text = gettext(str(context.get("error", error["msg"])))
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "。")) else ".")
