"""Settings of hypothesis: the same cases each time by default, new ones with TEST_SEARCH=new (`make test-all`)."""

import os
from typing import Any

from hypothesis import settings

#: Whether to generate new cases at each call, and to shrink failing ones.
IS_NEW = os.environ.get("TEST_SEARCH") == "new"


def search(max_examples: int, **options: Any) -> settings:
    """Settings of a search: a fixed seed without a database, so that CI is reproducible, or a new search.

    A new search prints how to repeat a failure and tries `TEST_SEARCH_FACTOR` (3) times as many cases.
    """
    if IS_NEW:
        factor = int(os.environ.get("TEST_SEARCH_FACTOR", "3"))
        return settings(max_examples=max_examples * factor, deadline=None, print_blob=True, **options)
    return settings(max_examples=max_examples, deadline=None, database=None, derandomize=True, **options)
