"""The web application, for uvicorn: `uvicorn cvstudio.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")

application = get_asgi_application()
