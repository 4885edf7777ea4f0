"""manage.py queue: what waits and why, and its order."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management import CommandError
from django.utils import timezone

from trainingapp.management.base import StudioCommand, table_lines
from trainingapp.models import Forecast, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling import forecast
from trainingapp.scheduling.placement import queued_runs
from trainingapp.scheduling.scheduler import reasons


class Command(StudioCommand):
    help = "Show the queue and change its order."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help="Queued runs in the order in which they start, with the reason of each.")
        move = actions.add_parser("move", help="Give a queued run another place.")
        move.add_argument("run", type=int)
        place = move.add_mutually_exclusive_group(required=True)
        place.add_argument("--before", type=int, metavar="RUN")
        place.add_argument("--after", type=int, metavar="RUN")
        place.add_argument("--first", action="store_const", const="first", dest="to")
        place.add_argument("--last", action="store_const", const="last", dest="to")
        priority = actions.add_parser("priority", help="Change the priority of a run.")
        priority.add_argument("run", type=int)
        priority.add_argument("priority", type=int)
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="Print the queue as a JSON array.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["action"] == "move":
                run_verbs.move_in_queue(_run(options["run"]), **_place(options))
            elif options["action"] == "priority":
                run_verbs.set_priority(_run(options["run"]), options["priority"])
        except VerbError as error:
            raise CommandError(str(error)) from None
        records = list(_records())
        if options["json"]:
            self.stdout.write(json.dumps(records))
            return
        heading = ("PLACE", "ID", "NAME", "PRIORITY", "OWNER", "STARTS", "ENDS", "WAITS BECAUSE")
        self.stdout.write("\n".join(table_lines(heading, map(_row, records))))


def _place(options: dict[str, Any]) -> dict[str, Any]:
    if options["to"]:
        return {"to": options["to"]}
    name = "after" if options["before"] is None else "before"
    return {name: _run(options[name])}


def _run(number: int) -> TrainingRun:
    run = TrainingRun.objects.filter(pk=number).first()
    if run is None:
        raise CommandError(f"There is no run {number}.")
    return run


def _records() -> Iterator[dict[str, Any]]:
    why, told = reasons(), forecast.newest_forecasts()
    for place, run in enumerate(queued_runs().select_related("owner"), start=1):
        found = told.get(run.pk)
        yield {
            "place": place,
            "id": run.pk,
            "name": run.name,
            "priority": run.priority,
            "owner": run.owner.get_username(),
            "reason": why.get(run.pk, ""),
            "forecast": _forecast(found) if found else None,
        }


def _forecast(found: Forecast) -> dict[str, Any]:
    names = ("start_earliest", "start_latest", "finish_earliest", "finish_latest")
    times = {name: value.isoformat() if (value := getattr(found, name)) else None for name in names}
    return {**times, "basis": found.basis}


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    found = record["forecast"] or {}
    start = _times(found.get("start_earliest"), found.get("start_latest"))
    finish = _times(found.get("finish_earliest"), found.get("finish_latest"))
    facts = (record["place"], record["id"], record["name"], record["priority"], record["owner"])
    return (*map(str, facts), start, finish, record["reason"])


def _times(first: str | None, last: str | None) -> str:
    if first is None or last is None:
        return "-"
    return " - ".join(f"{timezone.localtime(datetime.fromisoformat(each)):%m-%d %H:%M}" for each in (first, last))
