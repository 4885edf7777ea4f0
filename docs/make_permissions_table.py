"""Write the tables of docs/permissions.md from the permissions code: python docs/make_permissions_table.py."""

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
START, END = "<!-- tables: written by docs/make_permissions_table.py -->\n", "<!-- end of tables -->\n"


def tables() -> str:
    """The verbs of things, the verbs that are about none, and the scopes of tokens, as Markdown."""
    from trainingapp.accounts.permissions import GENERAL, SCOPES, TABLE, Relation, Verb

    head = ["Verb", *(relation.value for relation in Relation)]
    things = [[verb.value, *(line[relation].group for relation in Relation)] for verb, line in TABLE.items()]
    general = [[verb.value, role.group] for verb, role in GENERAL.items()]
    scopes = [[str(scope), ", ".join(verb for verb in Verb if verb in verbs)] for scope, verbs in SCOPES.items()]
    return "\n".join(
        [_table(head, things), _table(["Verb", "from role"], general), _table(["Scope of a token", "allows"], scopes)]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def with_tables(document: str) -> str:
    """The text of the document with its tables replaced."""
    before, _, rest = document.partition(START)
    return before + START + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
    import django

    django.setup()
    path = REPOSITORY / "docs" / "permissions.md"
    path.write_text(with_tables(path.read_text()))
