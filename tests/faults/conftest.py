from tests.studio import studio  # noqa: F401
