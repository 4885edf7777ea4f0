"""Who may do what: one table, and the functions that read it. Pages, streams, API, admin and verbs ask here.

A person has one role, by group, and stands in one relation to a thing: it is theirs, it is shared with a team of
theirs, or they merely see it. `TABLE` says for each verb and relation which role it takes. docs/permissions.md is
written from it.
"""

from collections.abc import Collection
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from trainingapp.models import ApiToken, Checkpoint, Dataset, Job, RunEvent, Team, TrainingRun, Weights
from trainingapp.models.sharing import Visibility

M = TypeVar("M", bound=Model)


class Role(IntEnum):
    """What a person is in the studio; a higher role may all that a lower one may. NOBODY is not signed in."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMINISTRATOR = 3

    @property
    def group(self) -> str:
        """Name of the Django group whose members have the role."""
        return self.name.lower()


class Verb(StrEnum):
    """What may be done. All but CREATE and ADMINISTER are done to a thing."""

    SEE = "see"
    DOWNLOAD = "download"
    CONTROL = "control"
    CHANGE = "change"
    SHARE = "share"
    DELETE = "delete"
    CREATE = "create"
    ADMINISTER = "administer"


class Relation(StrEnum):
    """How a person stands to a thing that they see."""

    OWNER = "owner"
    TEAM_MATE = "team mate"
    OTHER = "anybody who sees it"


#: The groups that a migration makes. Who is in none is an operator, as everybody was before there were roles.
GROUPS = {role.group: role for role in Role if role is not Role.NOBODY}
DEFAULT_ROLE = Role.OPERATOR

#: verb -> relation -> the least role that may.
#: In each line: for its owner, for their team mates, for anybody else who sees it.
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
#: Verbs that are about no thing -> the least role that may.
GENERAL: dict[Verb, Role] = {Verb.CREATE: Role.OPERATOR, Verb.ADMINISTER: Role.ADMINISTRATOR}

#: Scope of an API token -> the verbs that it lets its user do, of those that the user may do anyway.
SCOPES: dict[str, frozenset[Verb]] = {
    ApiToken.Scope.READ: frozenset({Verb.SEE, Verb.DOWNLOAD}),
    ApiToken.Scope.CONTROL: frozenset({Verb.CREATE, Verb.CONTROL, Verb.CHANGE, Verb.SHARE}),
    ApiToken.Scope.DELETE: frozenset({Verb.DELETE}),
}
#: What belongs to a run is seen by who sees the run.
_OF_A_RUN: tuple[type[Model], ...] = (Checkpoint, RunEvent)
_SHARED: tuple[type[Model], ...] = (TrainingRun, Dataset, Weights)


def role_of(user: Any) -> Role:
    """The role of a user, kept with the object: a request asks often, and a new request has a new object."""
    if not user.is_authenticated or not user.is_active:
        return Role.NOBODY
    known: Role | None = getattr(user, "_studio_role", None)
    if known is None:
        known = user._studio_role = _role_of(user)
    return known


def _role_of(user: Any) -> Role:
    if user.is_superuser or user.is_staff:
        return Role.ADMINISTRATOR
    names = user.groups.filter(name__in=GROUPS).values_list("name", flat=True)
    return max((GROUPS[name] for name in names), default=DEFAULT_ROLE)


def is_administrator(user: Any) -> bool:
    return role_of(user) is Role.ADMINISTRATOR


def relation_to(user: Any, item: Any) -> Relation | None:
    """How the user stands to a run, dataset, weights or what belongs to one of them; None for who may not see it."""
    is_part = isinstance(item, _OF_A_RUN)
    shared = item.run if is_part else item
    if role_of(user) is Role.NOBODY:
        return None
    if shared.owner_id == user.pk:
        return Relation.OWNER
    if isinstance(shared, Job):  # what a person asked for is their own affair
        return Relation.OTHER if is_administrator(user) else None
    is_of_team = shared.visibility == Visibility.TEAM and shared.team_id is not None
    if is_of_team and Team.objects.filter(pk=shared.team_id, members=user).exists():
        return Relation.TEAM_MATE
    seen = shared.visibility == Visibility.EVERYBODY or is_administrator(user)
    return Relation.OTHER if seen else None


def can(user: Any, verb: Verb | str, item: Any = None) -> bool:
    """Whether the user may do this, to `item` where the verb is about a thing."""
    verb = Verb(verb)
    if item is None:
        return role_of(user) >= GENERAL[verb]
    relation = relation_to(user, item)
    return relation is not None and role_of(user) >= TABLE[verb][relation]


def can_control(user: Any, item: Any) -> bool:
    """Whether the user may start, pause, resume, stop and so on."""
    return can(user, Verb.CONTROL, item)


def visible_to(user: Any, rows: QuerySet[M]) -> QuerySet[M]:
    """Those of the rows (runs, datasets, weights, jobs, checkpoints, events) that the user may see."""
    role = role_of(user)
    if role is Role.NOBODY:
        return rows.none()
    if role is Role.ADMINISTRATOR:
        return rows
    if rows.model is Job:
        return rows.filter(owner_id=user.pk)
    assert rows.model in (*_OF_A_RUN, *_SHARED), rows.model
    way = "run__" if rows.model in _OF_A_RUN else ""
    teams = Team.objects.filter(members=user).values("pk")
    return rows.filter(
        Q(**{f"{way}owner_id": user.pk})
        | Q(**{f"{way}visibility": Visibility.EVERYBODY})
        | Q(**{f"{way}visibility": Visibility.TEAM, f"{way}team__in": teams})
    )


def sees(user: Any, model: type[Model], column: str) -> Exists:
    """For `annotate`: whether the user may see the row of `model` that `column` of the annotated rows names."""
    return Exists(visible_to(user, model._default_manager.filter(pk=OuterRef(column))))


def scopes_allow(scopes: Collection[str], verb: Verb | str) -> bool:
    """Whether a token with these scopes may be used for the verb; what its user may not do stays forbidden."""
    return any(Verb(verb) in SCOPES.get(scope, frozenset()) for scope in scopes)


def refusal(verb: Verb | str) -> str:
    """The sentence for who sees a thing but may not do this to it."""
    return {
        Verb.CONTROL: _("Only its owner, their team mates and administrators may control this."),
        Verb.CHANGE: _("Only its owner, their team mates and administrators may change this."),
        Verb.SHARE: _("Only its owner and administrators may say who sees this."),
        Verb.DELETE: _("Only its owner and administrators may delete this."),
        Verb.CREATE: _("Your role is to look on: a viewer starts and imports nothing. An administrator can change it."),
        Verb.ADMINISTER: _("This is for administrators."),
    }.get(Verb(verb), _("You may not do this."))
