"""The web application, for uvicorn: `manage.py web` runs it."""

import os
import warnings

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
django.setup(set_prefix=False)

from cvstudio.event_streams import StudioHandler  # noqa: E402 - its modules need the settings

# WhiteNoise hands out static files in blocks that are read synchronously. They are small; downloads are not sent so.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

application = StudioHandler()
