"""Template filters for what a pause costs and how long things take."""

from django import template

from trainingapp.presentation.times import about, length_text, wait

register = template.Library()
for read in (about, length_text, wait):
    register.filter(read)
