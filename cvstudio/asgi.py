"""The web application, for uvicorn: `manage.py web` runs it."""

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")

# WhiteNoise hands out static files in blocks that are read synchronously. They are small; downloads are not sent so.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

application = get_asgi_application()
