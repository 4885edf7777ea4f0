"""The base class of the commands, and the table that they print."""

import getpass
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any, TypeAlias

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from trainingapp.accounts import audit

#: The group of subcommands of argparse; its class has no public name.
Subcommands: TypeAlias = "_SubParsersAction[ArgumentParser]"
#: The parsed arguments of a command; argparse does not type them.
Options = Mapping[str, Any]
#: Wider than any row: a line is never wrapped, so that `grep` and `cut` find whole rows.
MOST_COLUMNS = 10_000


class StudioCommand(BaseCommand):
    """A command whose changes are in the audit trail with the user name of the shell."""

    def execute(self, *args: object, **options: object) -> str | None:
        try:
            username = getpass.getuser()
        except (KeyError, OSError):  # in a container, the user may be a number without a name
            username = ""
        with audit.acting(source=audit.Source.COMMAND, username=username):
            return super().execute(*args, **options)


def table_lines(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The heading and the rows in aligned columns. rich knows the width of each character on a terminal."""
    table = Table(box=None, pad_edge=False, show_header=True, padding=(0, 2, 0, 0), header_style="")
    for name in heading:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=MOST_COLUMNS, color_system=None, markup=False, emoji=False, highlight=False).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]
