"""Write the generated parts of docs/permissions.md and docs/api.md: python docs/make_permissions_table.py."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def permission_tables() -> str:
    """The permissions by relation, those without an object, and the scopes of tokens."""
    from trainingapp.accounts.permissions import GENERAL, SCOPES, TABLE, Relation, Verb

    head = ["Permission", *(relation.value for relation in Relation)]
    objects = [[verb.value, *(line[relation].group for relation in Relation)] for verb, line in TABLE.items()]
    general = [[verb.value, role.group] for verb, role in GENERAL.items()]
    scopes = [[str(scope), ", ".join(verb for verb in Verb if verb in verbs)] for scope, verbs in SCOPES.items()]
    return "\n".join(
        [
            _table(head, objects),
            _table(["Permission", "from role"], general),
            _table(["Scope of a token", "allows"], scopes),
        ]
    )


def verb_table() -> str:
    """Every run verb with its permission, and where it is found."""
    from trainingapp.runs.verb_registry import RUN_VERBS

    head = ["Run verb", "permission", "what it does", "page", "API", "command", "admin action"]
    rows = [
        [
            verb.name,
            verb.permission.value,
            verb.help,
            verb.placement if verb.placement != "elsewhere" else "form",
            f"control: {verb.api_action}" if verb.api_action else verb.api_operation,
            f"train {verb.command}" if verb.command else verb.own_command,
            verb.admin_action,
        ]
        for verb in RUN_VERBS
    ]
    return _table(head, rows)


def action_table() -> str:
    """The actions of the control operation with their parameters."""
    from trainingapp.runs.verb_registry import RUN_VERBS

    actions = RUN_VERBS.api_actions()
    rows = [[f"`{name}`", verb.help, _named(verb.parameters)] for name, verb in actions.items()]
    return _table(["`action`", "what it does", "parameters"], rows)


def _named(parameters: Iterable[object]) -> str:
    return ", ".join(f"`{parameter.name}`" for parameter in parameters)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


#: File -> name of a generated part -> what writes it. A part stands between two comments.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "permissions.md": {"tables": permission_tables, "run verbs": verb_table},
    "api.md": {"actions": action_table},
}


def with_tables(name: str, document: str) -> str:
    """The text of the document with its generated parts replaced."""
    for part, write in PARTS[name].items():
        start = f"<!-- {part}: written by docs/make_permissions_table.py -->\n"
        end = f"<!-- end of {part} -->\n"
        before, found, rest = document.partition(start)
        assert found, f"docs/{name} has no part for {part}"
        document = before + start + write() + end + rest.partition(end)[2]
    return document


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
    import django

    django.setup()
    for name in PARTS:
        path = REPOSITORY / "docs" / name
        path.write_text(with_tables(name, path.read_text()))
