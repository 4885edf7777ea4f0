"""What trainers and workers say, in the reader's language.

The engine knows no Django and writes plain English into its events; a worker writes in the language of its process.
The sentences that come most often are known here by their form and are said anew with the values that they hold.
Any other stays as it was written.
"""

import re
from functools import cache

from django.utils.translation import gettext, gettext_noop

#: Each with its values; `gettext_noop` has them collected for translation.
FORMS = [
    gettext_noop("Attempt %(attempt)s starts on %(host)s."),
    gettext_noop("First step of this attempt done: step %(step)s."),
    gettext_noop("Going on from %(file)s, after step %(step)s."),
    gettext_noop("The step after %(file)s, made again, is the same bit by bit."),
    gettext_noop("Stopped early: no better result since epoch %(epoch)s."),
    gettext_noop("Saved as %(file)s."),
    gettext_noop("Validated at step %(step)s: %(values)s."),
    gettext_noop("The validation of this step was just made: %(values)s."),
    gettext_noop("The run has %(epochs)s epochs."),
    gettext_noop("The run has %(epochs)s epochs now."),
    gettext_noop(
        "The run has %(epochs)s epochs now, not %(then)s: "
        "from step %(step)s on the learning rate is that of a run of %(length)s."
    ),
    gettext_noop("image_size %(given)s became %(taken)s, a multiple of %(factor)s."),
    gettext_noop("warmup_epochs %(given)s became %(taken)s: it was longer than the run."),
    gettext_noop("%(name)s %(given)s became %(taken)s."),
]
_VALUE = re.compile(r"%\\?\((\w+)\\?\)s")


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(_VALUE.sub(_group, re.escape(form))), form) for form in FORMS]


def _group(value: re.Match[str]) -> str:
    """One word, but for the list of metrics."""
    return f"(?P<{value[1]}>.+)" if value[1] == "values" else rf"(?P<{value[1]}>\S+)"


def in_readers_language(sentence: str) -> str:
    """The sentence in the language of the page where its form is known, else as it is."""
    for pattern, form in _patterns():
        if found := pattern.fullmatch(sentence):
            return gettext(form) % found.groupdict()
    return gettext(sentence) if sentence else ""
