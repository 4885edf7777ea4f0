"""What a user reads: the notifications on pages, how many are unread, and what the browser shows."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from trainingapp.accounts.users import AnyUser
from trainingapp.models import Notification

#: More unread notifications are shown as 99+.
MOST_COUNTED = 99
#: A browser shows what is not older than this when it connects.
BROWSER_SHOWS = timedelta(minutes=5)
BROWSER_MOST = 5


def notifications_of(user: AnyUser) -> QuerySet[Notification]:
    """Those on the pages of the user, newest first."""
    rows = Notification.objects.filter(user_id=user.pk or 0, in_page=True)
    return rows.select_related("occurrence").order_by("-pk")


def unread_count(user_id: int) -> int:
    """How many are unread, at most one more than MOST_COUNTED."""
    rows = Notification.objects.filter(user_id=user_id, in_page=True, read_at=None).order_by()
    return rows[: MOST_COUNTED + 1].count()


def mark_read(user: AnyUser, numbers: Collection[int] | None = None) -> int:
    """Mark those of the user with these numbers as read, or all of them. Returns how many were unread."""
    rows = Notification.objects.filter(user_id=user.pk or 0, read_at=None)
    return (rows if numbers is None else rows.filter(pk__in=numbers)).update(read_at=timezone.now())


def for_browser(user_id: int) -> Iterable[Notification]:
    """What the browser of the user shows: unread, and not older than some minutes."""
    since = timezone.now() - BROWSER_SHOWS
    rows = Notification.objects.filter(user_id=user_id, in_browser=True, read_at=None)
    return rows.filter(occurrence__created_at__gte=since).select_related("occurrence").order_by("-pk")[:BROWSER_MOST]
