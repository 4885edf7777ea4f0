"""The permissions: one table, and the functions that read it. Pages, streams, API, admin and verbs ask here.

A user has one role, by group, and one relation to an object: its owner, a member of the team that it is shared with, or
any other user who sees it. `TABLE` names the role that each verb requires for each relation. docs/permissions.md is
generated from it.
"""

from collections.abc import Collection
from enum import IntEnum, StrEnum
from typing import TypeVar

from django.contrib.auth.models import User
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from trainingapp.accounts.users import AnyUser
from trainingapp.models import ApiToken, Checkpoint, Dataset, Job, RunEvent, Sweep, Team, TrainingRun, Weights
from trainingapp.models.sharing import Visibility

M = TypeVar("M", bound=Model)


class Role(IntEnum):
    """The role of a user. A higher role may do all that a lower one may. NONE is not signed in."""

    NONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMINISTRATOR = 3

    @property
    def group(self) -> str:
        """Name of the Django group whose members have the role."""
        return self.name.lower()


class Verb(StrEnum):
    """The permissions. All but CREATE and ADMINISTER are about an object."""

    SEE = "see"
    DOWNLOAD = "download"
    CONTROL = "control"
    CHANGE = "change"
    SHARE = "share"
    DELETE = "delete"
    CREATE = "create"
    ADMINISTER = "administer"


class Relation(StrEnum):
    """The relation of a user to an object that they see."""

    OWNER = "owner"
    TEAM_MATE = "team mate"
    OTHER = "anybody who sees it"


#: The groups that a migration creates. A user in none of them is an operator, as all users were before roles existed.
GROUPS = {role.group: role for role in Role if role is not Role.NONE}
DEFAULT_ROLE = Role.OPERATOR

#: verb -> relation -> the lowest role that may. In each line: the owner, their team mates, others who see it.
TABLE: dict[Verb, dict[Relation, Role]] = {
    verb: dict(zip(Relation, least, strict=True))
    for verb, least in {
        Verb.SEE: (Role.VIEWER, Role.VIEWER, Role.VIEWER),
        Verb.DOWNLOAD: (Role.VIEWER, Role.VIEWER, Role.VIEWER),
        Verb.CONTROL: (Role.OPERATOR, Role.OPERATOR, Role.ADMINISTRATOR),
        Verb.CHANGE: (Role.OPERATOR, Role.OPERATOR, Role.ADMINISTRATOR),
        Verb.SHARE: (Role.OPERATOR, Role.ADMINISTRATOR, Role.ADMINISTRATOR),
        Verb.DELETE: (Role.OPERATOR, Role.ADMINISTRATOR, Role.ADMINISTRATOR),
    }.items()
}
#: Verbs without an object -> the lowest role that may.
GENERAL: dict[Verb, Role] = {Verb.CREATE: Role.OPERATOR, Verb.ADMINISTER: Role.ADMINISTRATOR}

#: Scope of an API token -> the verbs that it allows, among those that its user may do.
SCOPES: dict[str, frozenset[Verb]] = {
    ApiToken.Scope.READ: frozenset({Verb.SEE, Verb.DOWNLOAD}),
    ApiToken.Scope.CONTROL: frozenset({Verb.CREATE, Verb.CONTROL, Verb.CHANGE, Verb.SHARE}),
    ApiToken.Scope.DELETE: frozenset({Verb.DELETE}),
}
#: Parts of a run: who sees the run sees them.
_Part = Checkpoint | RunEvent
_Shared = TrainingRun | Dataset | Weights | Sweep
#: The objects that permissions are about.
Object = _Part | _Shared | Job


def role_of(user: AnyUser) -> Role:
    """The role of a user. It is kept with the object, because a request asks often and loads its user again."""
    if not isinstance(user, User) or not user.is_active:
        return Role.NONE
    known: Role | None = getattr(user, "_studio_role", None)
    if known is None:
        if user.is_superuser or user.is_staff:
            known = Role.ADMINISTRATOR
        else:
            names = user.groups.filter(name__in=GROUPS).values_list("name", flat=True)
            known = max((GROUPS[name] for name in names), default=DEFAULT_ROLE)
        user._studio_role = known  # type: ignore[attr-defined]  # a cache; the model declares no such field
    return known


def is_administrator(user: AnyUser) -> bool:
    return role_of(user) is Role.ADMINISTRATOR


def relation_to(user: AnyUser, item: Object) -> Relation | None:
    """The relation of the user to an object; None for an object that they may not see."""
    shared = item.run if isinstance(item, _Part) else item
    if not isinstance(user, User) or role_of(user) is Role.NONE:
        return None
    if shared.owner_id == user.pk:
        return Relation.OWNER
    if isinstance(shared, Job):  # jobs are never shared
        return Relation.OTHER if is_administrator(user) else None
    if shared.visibility == Visibility.TEAM and shared.team_id is not None:
        is_mate = Team.objects.filter(pk=shared.team_id, members=user).exists()
    else:
        is_mate = False
    if is_mate:
        return Relation.TEAM_MATE
    seen = shared.visibility == Visibility.EVERYBODY or is_administrator(user)
    return Relation.OTHER if seen else None


def can(user: AnyUser, verb: Verb | str, item: Object | None = None) -> bool:
    """Whether the user may do this, to `item` where the verb is about an object."""
    verb = Verb(verb)
    if item is None:
        return role_of(user) >= GENERAL[verb]
    relation = relation_to(user, item)
    return relation is not None and role_of(user) >= TABLE[verb][relation]


def can_control(user: AnyUser, item: Object) -> bool:
    """Whether the user may start, pause, resume, stop and so on."""
    return can(user, Verb.CONTROL, item)


def visible_to(user: AnyUser, rows: QuerySet[M]) -> QuerySet[M]:
    """The rows (runs, datasets, weights, jobs, checkpoints, events) that the user may see."""
    role = role_of(user)
    if not isinstance(user, User) or role is Role.NONE:
        return rows.none()
    if role is Role.ADMINISTRATOR:
        return rows
    if rows.model is Job:
        return rows.filter(owner_id=user.pk)
    assert issubclass(rows.model, _Part | _Shared), rows.model
    way = "run__" if issubclass(rows.model, _Part) else ""
    teams = Team.objects.filter(members=user).values("pk")
    return rows.filter(
        Q(**{f"{way}owner_id": user.pk})
        | Q(**{f"{way}visibility": Visibility.EVERYBODY})
        | Q(**{f"{way}visibility": Visibility.TEAM, f"{way}team__in": teams})
    )


def sees(user: AnyUser, model: type[Model], column: str) -> Exists:
    """For `annotate`: whether the user may see the row of `model` whose key `column` of the annotated rows holds."""
    return Exists(visible_to(user, model._default_manager.filter(pk=OuterRef(column))))


def scopes_allow(scopes: Collection[str], verb: Verb | str) -> bool:
    """Whether a token with these scopes may be used for the verb. The permissions of its user still apply."""
    return any(Verb(verb) in SCOPES.get(scope, frozenset()) for scope in scopes)


def refusal(verb: Verb | str) -> str:
    """The message for a user who sees an object but may not do this to it."""
    return {
        Verb.CONTROL: _("Only the owner, team members and administrators can control this."),
        Verb.CHANGE: _("Only the owner, team members and administrators can change this."),
        Verb.SHARE: _("Only its owner and administrators may share this."),
        Verb.DELETE: _("Only the owner and administrators can delete this."),
        Verb.CREATE: _("Viewers cannot create or import anything. An administrator can change your role."),
        Verb.ADMINISTER: _("Only administrators may do this."),
    }.get(Verb(verb), _("You do not have permission to do this."))
