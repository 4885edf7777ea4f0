from tests.helpers.studio import studio  # noqa: F401
