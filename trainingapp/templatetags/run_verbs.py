"""Template tag for the record of a run verb: `{% run_verb "edit" as verb %}`, for its label and icon."""

from django import template

from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS

register = template.Library()


@register.simple_tag
def run_verb(name: str) -> RunVerb:
    return RUN_VERBS[name]
