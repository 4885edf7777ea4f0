"""manage.py queue: the queued runs, why each waits, and their order."""

import json
from argparse import ArgumentParser
from dataclasses import dataclass
from datetime import datetime

from django.core.management import CommandError
from django.utils import timezone

from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.models import Forecast, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.queue import QueuePosition
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling import forecast
from trainingapp.scheduling.placement import queued_runs
from trainingapp.scheduling.scheduler import reasons


class Command(StudioCommand):
    help = "Show the queue and change its order."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser(
            "list", help="List the queued runs in the order in which they start, with the reason why each waits."
        )
        move = actions.add_parser("move", help=RUN_VERBS["move"].help)
        move.add_argument("run", type=int)
        place = move.add_mutually_exclusive_group(required=True)
        place.add_argument("--before", type=int, metavar="RUN")
        place.add_argument("--after", type=int, metavar="RUN")
        place.add_argument("--first", action="store_const", const="first", dest="to")
        place.add_argument("--last", action="store_const", const="last", dest="to")
        priority = actions.add_parser("priority", help=RUN_VERBS["priority"].help)
        priority.add_argument("run", type=int)
        priority.add_argument("priority", type=int)
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="Print the queue as a JSON array.")

    def handle(self, *, action: str, **options: object) -> None:
        parsed: Options = options
        try:
            if action == "move":
                run_verbs.move_in_queue(_run(parsed["run"]), **_place(parsed))
            elif action == "priority":
                run_verbs.set_priority(_run(parsed["run"]), parsed["priority"])
        except VerbError as error:
            raise CommandError(str(error)) from None
        why, forecasts = reasons(), forecast.newest_forecasts()
        runs = queued_runs().select_related("owner")
        queue = [
            _Queued(place, run, why.get(run.pk, ""), forecasts.get(run.pk)) for place, run in enumerate(runs, start=1)
        ]
        if options["json"]:
            self.stdout.write(json.dumps([queued.record() for queued in queue]))
            return
        heading = ("PLACE", "ID", "NAME", "PRIORITY", "OWNER", "STARTS", "ENDS", "WAITS BECAUSE")
        self.stdout.write("\n".join(table_lines(heading, (queued.row() for queued in queue))))


def _place(options: Options) -> QueuePosition:
    if options["to"]:
        return {"to": options["to"]}
    if options["before"] is not None:
        return {"before": _run(options["before"])}
    return {"after": _run(options["after"])}


def _run(number: int) -> TrainingRun:
    run = TrainingRun.objects.filter(pk=number).first()
    if run is None:
        raise CommandError(f"There is no run {number}.")
    return run


@dataclass(frozen=True)
class _Queued:
    """A queued run with its place, counted from 1, and the reason why it waits."""

    place: int
    run: TrainingRun
    reason: str
    forecast: Forecast | None

    def record(self) -> dict[str, object]:
        times: dict[str, object] | None = None
        if self.forecast:
            names = ("start_earliest", "start_latest", "finish_earliest", "finish_latest")
            values = {name: getattr(self.forecast, name) for name in names}
            times = {name: value.isoformat() if value else None for name, value in values.items()}
            times["basis"] = self.forecast.basis
        return {
            "place": self.place,
            "id": self.run.pk,
            "name": self.run.name,
            "priority": self.run.priority,
            "owner": self.run.owner.get_username(),
            "reason": self.reason,
            "forecast": times,
        }

    def row(self) -> tuple[str, ...]:
        known = self.forecast
        start = _span(known.start_earliest, known.start_latest) if known else "-"
        finish = _span(known.finish_earliest, known.finish_latest) if known else "-"
        facts = (self.place, self.run.pk, self.run.name, self.run.priority, self.run.owner.get_username())
        return (*map(str, facts), start, finish, self.reason)


def _span(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "-"
    return " - ".join(f"{timezone.localtime(each):%m-%d %H:%M}" for each in (first, last))
