"""The permission table, by role and relation."""

import itertools

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User

from trainingapp.accounts.permissions import (
    GENERAL,
    SCOPES,
    TABLE,
    Relation,
    Role,
    Verb,
    can,
    relation_to,
    role_of,
    scopes_allow,
    visible_to,
)
from trainingapp.models import ApiToken, Dataset, Job, Team

pytestmark = pytest.mark.django_db


def person(name: str, *groups: str, **flags: bool) -> User:
    made = User.objects.create_user(name, **flags)
    made.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)
    return made


@pytest.mark.parametrize(
    ("groups", "flags", "role"),
    [
        ((), {}, Role.OPERATOR),
        (("viewer",), {}, Role.VIEWER),
        (("operator",), {}, Role.OPERATOR),
        (("administrator",), {}, Role.ADMINISTRATOR),
        (("viewer", "operator"), {}, Role.OPERATOR),
        (("choir",), {}, Role.OPERATOR),
        (("viewer",), {"is_staff": True}, Role.ADMINISTRATOR),
        ((), {"is_superuser": True}, Role.ADMINISTRATOR),
        (("administrator",), {"is_active": False}, Role.NONE),
    ],
)
def test_the_role_comes_from_group_and_flags(groups: tuple[str, ...], flags: dict[str, bool], role: Role) -> None:
    assert role_of(person("p", *groups, **flags)) is role


def test_the_migration_creates_the_groups_of_the_roles() -> None:
    names = set(Group.objects.values_list("name", flat=True))
    assert {"viewer", "operator", "administrator"} <= names


def test_anonymous_users_have_no_permission() -> None:
    nobody = AnonymousUser()
    assert role_of(nobody) is Role.NONE
    assert not any(can(nobody, verb) for verb in GENERAL)
    assert not visible_to(nobody, Dataset.objects.all()).exists()


def test_the_table_has_a_line_for_every_verb_and_relation() -> None:
    assert {*TABLE, *GENERAL} == set(Verb)
    assert all(set(line) == set(Relation) for line in TABLE.values())
    for line in TABLE.values():
        assert line[Relation.OWNER] <= line[Relation.TEAM_MATE] <= line[Relation.OTHER]


CASES = list(itertools.product(Verb, ("viewer", "operator", "administrator"), ("owner", "mate", "other")))


@pytest.mark.parametrize("visibility", ["everybody", "team", "private"])
def test_verb_by_role_by_relation(visibility: str) -> None:
    """Written out by hand, so that a change of the table alone is noticed."""
    owner_role = {"viewer": {"see", "download"}, "operator": set(TABLE), "administrator": set(TABLE)}
    mate_role = {**owner_role, "operator": {"see", "download", "control", "change"}}
    other_role = {**owner_role, "operator": {"see", "download"}}
    allowed = {"owner": owner_role, "mate": mate_role, "other": other_role}
    people = {(role, how): person(f"{role}-{how}", role) for role, how in {case[1:] for case in CASES}}
    team = Team.objects.create(name="team")
    team.members.set([who for (_role, how), who in people.items() if how != "other"])
    for owner_of in ("viewer", "operator", "administrator"):
        owner = people[owner_of, "owner"]
        kept_team = team if visibility == "team" else None
        thing = Dataset.objects.create(name=owner_of, owner=owner, source="/x", visibility=visibility, team=kept_team)
        for verb, role, how in CASES:
            if verb in GENERAL or (how == "owner" and role != owner_of):
                continue
            sees = how == "owner" or visibility == "everybody" or role == "administrator"
            sees = sees or (visibility == "team" and how == "mate")
            relation = how if how != "mate" or visibility == "team" else "other"
            expected = sees and verb in allowed[relation][role]
            assert can(people[role, how], verb, thing) is expected, (verb, role, how, visibility)
            seen = visible_to(people[role, how], Dataset.objects.all()).filter(pk=thing.pk).exists()
            assert seen is sees, (role, how, visibility)


def test_general_verbs_by_role() -> None:
    people = {role: person(role, role) for role in ("viewer", "operator")}
    may = {role: {verb.value for verb in GENERAL if can(who, verb)} for role, who in people.items()}
    assert may == {"viewer": set(), "operator": {"create"}}
    assert can(person("boss", "administrator"), "administer")


def test_a_job_is_private_to_its_owner() -> None:
    owner, other, boss = person("a"), person("b"), person("c", "administrator")
    job = Job.objects.create(kind=Job.Kind.EXPORT, owner=owner)
    assert [can(who, "see", job) for who in (owner, other, boss)] == [True, False, True]
    assert [visible_to(who, Job.objects.all()).count() for who in (owner, other, boss)] == [1, 0, 1]


def test_membership_of_two_teams_lists_an_object_once() -> None:
    owner, mate = person("a"), person("b")
    for name in ("one", "two"):
        Team.objects.create(name=name).members.add(owner, mate)
    Dataset.objects.create(name="d", owner=owner, source="/x", visibility="team", team=Team.objects.get(name="one"))
    assert visible_to(mate, Dataset.objects.all()).count() == 1


def test_a_deleted_team_shares_nothing() -> None:
    owner, mate = person("a"), person("b")
    team = Team.objects.create(name="one")
    team.members.add(owner, mate)
    thing = Dataset.objects.create(name="d", owner=owner, source="/x", visibility="team", team=team)
    team.delete()
    thing.refresh_from_db()
    assert relation_to(mate, thing) is None
    assert relation_to(owner, thing) is Relation.OWNER


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.ADMINISTER])
def test_each_verb_has_one_scope(verb: Verb) -> None:
    assert sum(verb in verbs for verbs in SCOPES.values()) == 1
    assert not scopes_allow([], verb)
    assert scopes_allow(ApiToken.Scope.values, verb)


def test_no_scope_allows_administration() -> None:
    assert not scopes_allow(ApiToken.Scope.values, Verb.ADMINISTER)
