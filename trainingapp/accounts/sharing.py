"""The verb that shares runs, datasets, models and sweeps."""

from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.users import AnyUser
from trainingapp.models import Dataset, Sweep, Team, TrainingRun, Weights
from trainingapp.models.bell import ring
from trainingapp.models.sharing import Visibility
from trainingapp.models.verbs import VerbError, refresh_locked

Shareable = TrainingRun | Dataset | Weights | Sweep


def share(item: Shareable, visibility: str, team: Team | None = None, *, by: AnyUser | str = "") -> Shareable:
    """Share an object with every user, the members of a team, or no other user.

    Raises VerbError for an unknown visibility, a missing team, and a team that the owner is not a member of.
    """
    if visibility not in Visibility.values:
        raise VerbError(
            _("Objects can be shared with everyone, with a team or with no one, not with “%s”.") % visibility
        )
    team = team if visibility == Visibility.TEAM else None
    if visibility == Visibility.TEAM and team is None:
        raise VerbError(_("Choose the team to share this with."))
    with transaction.atomic():
        refresh_locked(item)
        if (item.visibility, item.team_id) == (visibility, team.pk if team else None):
            return item
        if team is not None and not team.members.filter(pk=item.owner_id).exists():
            raise VerbError(_("The owner is not a member of the team “%(team)s”.") % {"team": team.name})
        item.visibility, item.team = visibility, team
        item.save(update_fields=["visibility", "team", *(["updated_at"] if isinstance(item, TrainingRun) else [])])
        audit.record("share", item, by=by, details={"with": team.name if team else visibility})
        if isinstance(item, TrainingRun):
            run_id = item.pk
            transaction.on_commit(lambda: ring(run_id))
    return item
