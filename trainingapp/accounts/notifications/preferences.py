"""By which channels each user is told of which events."""

from collections.abc import Iterable, Mapping

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from trainingapp.accounts.notifications.events import EVENTS, Channel, Event
from trainingapp.models import NotificationSettings


def settings_of(users: Iterable[User]) -> dict[int, NotificationSettings]:
    """The stored settings by the id of the user; users who have changed nothing have none."""
    return {row.user_id: row for row in NotificationSettings.objects.filter(user__in=list(users))}


def channels_of(stored: NotificationSettings | None, event: Event) -> frozenset[Channel]:
    """The channels of a user for an event."""
    if stored is None or event.name not in stored.channels:
        return event.channels
    return frozenset(channel for channel in Channel if channel in stored.channels[event.name])


def language_of(stored: NotificationSettings | None) -> str:
    """The language in which a user is told."""
    return stored.language if stored is not None else str(settings.LANGUAGE_CODE)


def save_settings(
    user: User, channels: Mapping[str, Iterable[str]], *, language: str, email: str
) -> NotificationSettings:
    """Store what the user has chosen. Events that are not named keep what they had."""
    with transaction.atomic():
        stored, _is_new = NotificationSettings.objects.select_for_update().get_or_create(
            user=user, defaults={"language": language}
        )
        chosen = {name: [c.value for c in Channel if c in set(named)] for name, named in channels.items()}
        stored.channels = {**stored.channels, **{name: row for name, row in chosen.items() if name in EVENTS}}
        stored.language = language
        stored.save(update_fields=["channels", "language"])
        if user.email != email:
            user.email = email
            user.save(update_fields=["email"])
    return stored
