from tests.small_world import *  # noqa: F403
