"""The one Django app of the studio."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TrainingAppConfig(AppConfig):
    default = True
    name = "trainingapp"
    verbose_name = _("Training")

    def ready(self) -> None:
        from trainingapp.accounts import audit
        from trainingapp.accounts.notifications import outbox
        from trainingapp.models import sessions
        from trainingapp.operations import checks  # noqa: F401 - registers the system checks
        from trainingapp.runs.sweeps import following

        sessions.connect()
        audit.listen()
        outbox.listen()
        following.listen()
