from tests.helpers.small_world import *  # noqa: F403
from tests.helpers.studio import studio  # noqa: F401
