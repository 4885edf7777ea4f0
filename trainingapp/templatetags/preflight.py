"""Template tag for the result of a preflight check."""

from django import template

from trainingapp.presentation.preflight import preflight_lines

register = template.Library()
register.simple_tag(preflight_lines)
