"""The one Django app of the studio."""

from django.apps import AppConfig


class TrainingAppConfig(AppConfig):
    default = True
    name = "trainingapp"
    verbose_name = "Training"

    def ready(self) -> None:
        from trainingapp import audit, checks  # noqa: F401  registers the system checks

        audit.listen()
