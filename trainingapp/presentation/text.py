"""The type of a text that is shown to users."""

from typing import TYPE_CHECKING

from django.utils.functional import Promise

if TYPE_CHECKING:
    # The class that django-stubs gives to lazy translations; it does not exist at run time.
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise
else:
    #: A text, translated already, or lazily when it is shown.
    Text = str | Promise
