from tests.helpers.small_world import *  # noqa: F403
