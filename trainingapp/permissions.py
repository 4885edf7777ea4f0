"""Who may do what. Everybody who is logged in sees everything; verbs are for a thing's owner and for staff."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from trainingapp.models import Dataset, TrainingRun, Weights


def can_control(user: AbstractBaseUser | AnonymousUser, item: TrainingRun | Dataset | Weights) -> bool:
    """Whether `user` may start, pause, resume, stop, edit and delete `item`."""
    return user.is_authenticated and (user.pk == item.owner_id or getattr(user, "is_staff", False))
