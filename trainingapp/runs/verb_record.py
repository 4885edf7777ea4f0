"""The record of a run verb, and the registry that holds one for each.

Buttons and menu of the run page, its POST route, the `control` action of the API, the subcommand of `manage.py train`,
the action of the admin, the label in the audit trail, the tables in docs/ and the role tests are derived from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import GENERAL, Verb, can
from trainingapp.accounts.users import AnyUser
from trainingapp.models import TrainingRun
from trainingapp.presentation.text import Text

ASK_EACH = _("The action is applied to each of these runs. Runs for which it is not possible are listed.")
#: Where the run page offers a verb: among its buttons, in its menu, or elsewhere (on another page or form).
Placement = Literal["button", "menu", "elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A value that a verb takes besides the run: field of the API and of the admin's form, option of the command."""

    name: str
    kind: Literal["number", "text", "choice", "configuration"]
    help: str
    label: Text
    is_required: bool = False
    #: The range of a number, or of the length of a text.
    least: int = 1
    most: int
    choices: tuple[str, ...] = ()
    example: int | str = ""


@dataclass(frozen=True, kw_only=True)
class RunVerb:
    """One verb. `name` is part of addresses, element ids and test ids, and stays."""

    name: str
    #: Called as function(run, *, by=user name, **parameters); with `owner=user` instead of `by` where `makes_run`.
    #: Returns the run (the new one where `makes_run`), or another result, such as the number of bytes freed.
    function: Callable[..., object]
    label: Text
    #: One sentence for the command line, the API document and docs/.
    help: str
    permission: Verb = Verb.CONTROL
    #: Whether the verb is possible for a run as it is stored. The function checks it again with the row locked.
    is_possible: Callable[[TrainingRun], bool] = lambda run: True
    #: Listed by `possible_verbs` and in `verbs` of the API: start, resume, pause, stop, force_stop and delete.
    is_lifecycle: bool = False
    #: Does not change the run and returns a new one, which belongs to the caller.
    makes_run: bool = False
    parameters: tuple[Parameter, ...] = ()

    placement: Placement = "menu"
    icon: str = ""
    #: Bootstrap class of the button.
    style: str = "btn-outline-secondary"
    #: Address of the page that asks first, for a given run; without one the verb is posted at once.
    page: Callable[[TrainingRun], str] | None = None
    is_destructive: bool = False
    #: Whether a separator is above it in the menu.
    starts_section: bool = False
    #: What a similar verb does not do: beside the button for screen readers, and when it is pointed at.
    hint: Text = ""
    #: Shown after a request that changed nothing, because it had been made before.
    already: Text = ""
    #: Shown after a request whose effect is not visible at once.
    accepted: Text = ""

    #: Name of the action of POST /training/{id}/control and of the admin; "" where there is none.
    api_action: str = ""
    admin_action: str = ""
    admin_label: Text = ""
    #: The admin asks this before it acts, and shows `done` for each run, with %(name)s.
    confirmation: Text = ASK_EACH
    done: Text = ""
    #: Whether the list of runs offers it for the selected runs.
    in_selection: bool = False
    #: Subcommand of `manage.py train` that is derived from this record; "" where there is none.
    command: str = ""
    #: Whether the subcommand can wait for the end of the run (--wait, --follow).
    can_wait: bool = False
    #: Operation of the API, and command, that is not derived but does the same; for the documentation.
    api_operation: str = ""
    own_command: str = ""

    #: What the audit trail stores ("" for a verb that is not recorded), and how it is shown; without a label, as
    #: `audit.VERBS` names it, because other objects have the same verb.
    audit_verb: str
    audit_label: Text = ""

    @property
    def posts(self) -> bool:
        """Whether POST /runs/{id}/{name}/ performs it directly; other verbs have separate forms."""
        return bool(self.api_action) and not self.parameters and not self.makes_run

    @property
    def opens_page(self) -> bool:
        """Whether its button leads to a page that asks first. Templates use it: they would call `page` itself."""
        return self.page is not None

    def url(self, run: TrainingRun) -> str:
        """Where its button leads: to its page, or to the route that does it."""
        return self.page(run) if self.page else reverse("run_control", args=[run.pk, self.name])

    def is_permitted(self, user: AnyUser, run: TrainingRun) -> bool:
        """Whether the user, who sees the run, has the permission."""
        return can(user, self.permission, None if self.permission in GENERAL else run)

    def perform(self, run: TrainingRun, *, user: AnyUser, **values: object) -> object:
        """Do it as `user`. Raises VerbError, and ValidationError for a configuration that is wrong."""
        if self.makes_run:
            return self.function(run, owner=user, **values)
        return self.function(run, by=user.get_username(), **values)


class VerbRegistry:
    """The verbs by name, in the order in which pages and commands list them."""

    def __init__(self, *verbs: RunVerb) -> None:
        self._verbs: dict[str, RunVerb] = {}
        for verb in verbs:
            self.add(verb)

    def __iter__(self) -> Iterator[RunVerb]:
        return iter(list(self._verbs.values()))

    def __getitem__(self, name: str) -> RunVerb:
        return self._verbs[name]

    def add(self, verb: RunVerb) -> None:
        """Raises ValueError for a name that is taken."""
        if verb.name in self._verbs:
            raise ValueError(f"There is a run verb {verb.name} already.")
        self._verbs[verb.name] = verb
        if verb.audit_label:
            audit.VERBS.setdefault(verb.audit_verb, verb.audit_label)

    def remove(self, name: str) -> None:
        """Its label in the audit trail goes with it, unless another verb has the same."""
        verb = self._verbs.pop(name)
        if verb.audit_label and not any(other.audit_verb == verb.audit_verb for other in self):
            del audit.VERBS[verb.audit_verb]

    def posted(self) -> dict[str, RunVerb]:
        """The verbs that a POST performs directly, by name."""
        return {verb.name: verb for verb in self if verb.posts}

    def for_selection(self) -> dict[str, RunVerb]:
        """The verbs that the list of runs offers for the selected runs, by name."""
        return {verb.name: verb for verb in self if verb.in_selection}

    def api_actions(self) -> dict[str, RunVerb]:
        """The actions of the control operation of the API."""
        return {verb.api_action: verb for verb in self if verb.api_action}

    def commands(self) -> dict[str, RunVerb]:
        """The subcommands of `manage.py train` that are derived."""
        return {verb.command: verb for verb in self if verb.command}

    def admin_actions(self) -> dict[str, RunVerb]:
        """The actions of the admin's list of runs."""
        return {verb.admin_action: verb for verb in self if verb.admin_action}
