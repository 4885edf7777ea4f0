"""The type of an account as functions of the studio take it."""

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied

#: The user of a request: an account, or an anonymous user.
AnyUser = User | AnonymousUser


def signed_in(user: AnyUser) -> User:
    """The account of a signed-in user. Raises PermissionDenied for an anonymous one."""
    if isinstance(user, AnonymousUser):
        raise PermissionDenied
    return user


def lock_account(user: User) -> None:
    """Let one transaction at a time add to what is counted for this user, such as saved views, until it ends."""
    User.objects.select_for_update().get(pk=user.pk)
