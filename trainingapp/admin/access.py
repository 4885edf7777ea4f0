"""Users, roles, teams, tokens, and the audit trail."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Model
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import GROUPS, role_of
from trainingapp.admin.base import (
    ActionEntry,
    ReadOnlyAdmin,
    RecordedAdmin,
    StudioAdmin,
    admin_link,
    list_link,
    verb_action,
)
from trainingapp.admin.filters import known_values
from trainingapp.models import ApiToken, AuditEntry, IdempotencyKey, Team, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.audit_text import ROLES, audit_verb

if TYPE_CHECKING:
    UserModelAdmin = UserAdmin[User]
    Form: TypeAlias = ModelForm[User]
    Formset: TypeAlias = BaseModelFormSet[Model, ModelForm[Model]]
else:
    UserModelAdmin = UserAdmin
    Form, Formset = ModelForm, BaseModelFormSet

admin.site.unregister([User, Group])
#: Fields that superusers alone may set: they grant more than the role of an administrator.
SUPER = ("is_superuser", "user_permissions")


@admin.register(User)
class AccountAdmin(UserModelAdmin):
    """Accounts. The role comes from the groups; every change of it is in the audit trail."""

    list_display = ("username", "role", "email", "is_active", "team_names", "runs_link", "last_login", "date_joined")
    list_filter = ("groups", "is_active", "is_staff", "is_superuser", "teams")
    search_fields = ("username", "email", "first_name", "last_name")
    date_hierarchy = "date_joined"

    def has_module_permission(self, request: HttpRequest) -> bool:
        return admin.site.has_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.site.has_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.site.has_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Superusers are changed by superusers only: who could set a password could sign in as one."""
        may = admin.site.has_permission(request)
        return may and (obj is None or not obj.is_superuser or bool(getattr(request.user, "is_superuser", False)))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return self.has_change_permission(request, obj) and (obj is None or obj.pk != request.user.pk)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        names = ["last_login", "date_joined"]
        return names if getattr(request.user, "is_superuser", False) else [*names, *SUPER]

    @admin.display(description=_("role"))
    def role(self, user: User) -> str:
        return str(ROLES[role_of(user)])

    @admin.display(description=_("teams"))
    def team_names(self, user: User) -> str:
        return ", ".join(Team.objects.filter(members=user).values_list("name", flat=True)) or "–"

    @admin.display(description=_("runs"))
    def runs_link(self, user: User) -> SafeString:
        return list_link(TrainingRun, TrainingRun.objects.filter(owner=user).count(), owner__id__exact=user.pk)

    def save_model(self, request: HttpRequest, obj: User, form: Form, change: bool) -> None:
        before = role_of(User.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)
        changed = [name for name in form.changed_data if "password" not in name]
        if not change or changed:
            audit.record("change" if change else "create", obj, details={"fields": changed})
        request.role_before = before  # type: ignore[attr-defined]

    def save_related(self, request: HttpRequest, form: Form, formsets: Iterable[Formset], change: bool) -> None:
        """Groups are stored after the account, so the new role is known only here."""
        with transaction.atomic():
            super().save_related(request, form, formsets, change)
            before = getattr(request, "role_before", None)
            after = role_of(User.objects.get(pk=form.instance.pk))
            if before is not None and before is not after:
                audit.record("role", form.instance, details={"from": before.name.lower(), "to": after.name.lower()})

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        with transaction.atomic():
            audit.record("delete", obj)
            super().delete_model(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, ActionEntry]:
        """Users are deleted one at a time: the page of each lists what refers to them."""
        actions: dict[str, ActionEntry] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            audit.record("password", User.objects.get(pk=id))
        return response


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """The groups. Those of the roles cannot be renamed or deleted."""

    list_display = ("name", "is_role", "users_link")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return admin.site.has_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.site.has_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(getattr(request.user, "is_superuser", False))

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return self.has_add_permission(request) and (obj is None or obj.name not in GROUPS)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return obj is not None and self.has_change_permission(request, obj)

    @admin.display(description=_("role of the studio"), boolean=True)
    def is_role(self, group: Group) -> bool:
        return group.name in GROUPS

    @admin.display(description=_("people"))
    def users_link(self, group: Group) -> SafeString:
        return list_link(User, User.objects.filter(groups=group).count(), groups__id__exact=group.pk)


@admin.register(Team)
class TeamAdmin(RecordedAdmin):
    list_display = ("name", "member_count")
    search_fields = ("name", "members__username")
    list_filter = ("members",)
    filter_horizontal = ("members",)

    @admin.display(description=_("members"))
    def member_count(self, team: Team) -> int:
        return team.members.count()


def _revoke(token: ApiToken, *, user: User) -> None:
    with transaction.atomic():
        if not ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            raise VerbError(_now("“%(name)s” is already revoked.") % {"name": token})
        audit.record("token_revoke", token)


@admin.register(ApiToken)
class ApiTokenAdmin(StudioAdmin):
    list_display = ("name", "prefix", "user_link", "shown_scopes", "usable", "expires_at", "last_used_at", "created_at")
    list_filter = ("user", "revoked_at", "expires_at")
    search_fields = ("name", "prefix", "user__username")
    list_select_related = ("user",)
    date_hierarchy = "created_at"
    exclude = ("digest",)
    actions = (
        verb_action(
            "revoke",
            _("Revoke"),
            _("These tokens are revoked. Programs that use them are refused."),
            _("“%(name)s” was revoked."),
            _revoke,
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [name for name in super().get_readonly_fields(request, obj) if name != "digest"]

    @admin.display(description=_("user"), ordering="user__username")
    def user_link(self, token: ApiToken) -> SafeString | str:
        return admin_link(token.user)

    @admin.display(description=_("scopes"))
    def shown_scopes(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(description=_("usable"), boolean=True)
    def usable(self, token: ApiToken) -> bool:
        return token.is_usable


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("time", "username", "what", "kind", "object_name", "object_id", "source", "address")
    list_filter = ("source", known_values("verb", _("what"), audit.VERBS), "kind")
    search_fields = ("username", "object_name", "object_id", "address")
    date_hierarchy = "time"

    @admin.display(description=_("what"), ordering="verb")
    def what(self, entry: AuditEntry) -> str:
        return str(audit_verb(entry.verb))


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "user", "method", "path", "status_code", "created_at")
    list_filter = ("method", "status_code")
    search_fields = ("key", "path", "user__username")
    list_select_related = ("user",)


def _unlock(attempt: AccessAttempt, *, user: User) -> None:
    with transaction.atomic():
        audit.record("unlock", details={"username": attempt.username, "address": attempt.ip_address})
        attempt.delete()


@admin.register(AccessAttempt)
class AccessAttemptAdmin(StudioAdmin):
    """Failed sign-ins that count towards a lock, without the passwords."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    list_filter = ("attempt_time",)
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"
    actions = (
        verb_action(
            "unlock",
            _("Unlock the sign-in"),
            _("The failed attempts are deleted. These users can sign in from these addresses immediately."),
            _("“%(name)s” was unlocked."),
            _unlock,
        ),
    )
