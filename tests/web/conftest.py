"""What the tests of pages and streams share."""

from tests.small_world import *  # noqa: F403
