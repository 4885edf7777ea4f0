"""manage.py train: the verbs of lifecycle, and what is stored about runs, for the shell."""

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from django.contrib.auth import get_user_model
from django.core.management import CommandError
from django.core.management.base import BaseCommand
from pydantic import ValidationError

from trainingapp import lifecycle
from trainingapp.engine.config import correct_config
from trainingapp.models import Dataset, RunEvent, TrainingRun

FOLLOW_S = 0.5
LEVELS = ["debug", "info", "warning", "error"]
VERBS: dict[str, Callable[..., TrainingRun]] = {
    "start": lifecycle.start_run,
    "pause": lifecycle.pause_run,
    "resume": lifecycle.resume_run,
    "stop": lifecycle.stop_run,
    "force_stop": lifecycle.force_stop_run,
}
RECORD_FIELDS = (  # noqa: SIM905
    "id name recipe status wanted priority attempt recoveries epoch total_epochs step total_steps phase device host "
    "elapsed_s eta_s metrics best_metric_name best_metric best_epoch error_class error_message"
).split()


class Command(BaseCommand):
    help = "Create, control and look at runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        _add_create(actions)
        for verb in VERBS:
            control = actions.add_parser(verb, help=f"{verb.capitalize().replace('_', ' ')} runs.")
            control.add_argument("run", nargs="+", type=int, help="Numbers of runs.")
        listing = actions.add_parser("list", help="List runs, newest first.")
        listing.add_argument("--status", choices=TrainingRun.Status.values, help="Only runs with this status.")
        listing.add_argument("--json", action="store_true", help="As a JSON array.")
        show = actions.add_parser("show", help="Show one run.")
        show.add_argument("run", type=int)
        show.add_argument("--json", action="store_true", help="As a JSON object.")
        logs = actions.add_parser("logs", help="Print the log of a run.")
        logs.add_argument("run", type=int)
        logs.add_argument("--level", choices=LEVELS, default="info", help="Least level that is shown.")
        logs.add_argument("--follow", "-f", action="store_true", help="Go on until the run is no longer in work.")
        delete = actions.add_parser("delete", help="Delete runs with their files.")
        delete.add_argument("run", nargs="+", type=int)
        delete.add_argument("--yes", action="store_true", help="Do not ask.")
        delete.add_argument("--dry-run", action="store_true", help="Only say what would be freed.")

    def handle(self, *args: Any, **options: Any) -> None:
        action: str = options["action"]
        try:
            if action in VERBS:
                self._control(action, options["run"])
            else:
                getattr(self, f"_{action}")(options)
        except lifecycle.VerbError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            self.stderr.write("")
        except BrokenPipeError:  # `| head` has seen enough; what is still buffered must go nowhere, without a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _create(self, options: dict[str, Any]) -> None:
        source = options["file"] or "--set"
        values = {**_read_values(options["file"]), **dict(map(_assignment, options["set"]))}
        try:
            config, corrections = correct_config(values)
        except ValidationError as error:
            raise CommandError("\n".join(_sentences(error, source))) from None
        run = lifecycle.create_run(
            owner=_owner(options["owner"]),
            name=options["name"],
            dataset=_dataset(options["dataset"]),
            config=config,
            corrections=corrections,
            priority=options["priority"],
        )
        if options["start"]:
            lifecycle.start_run(run)
        for correction in corrections:
            self.stderr.write(correction)
        if options["json"]:
            self.stdout.write(json.dumps(_record(run)))
        else:
            self.stdout.write(f"Run {run.pk} “{run.name}” is {run.status}.")

    def _control(self, verb: str, numbers: list[int]) -> None:
        for number in numbers:
            run = VERBS[verb](_run(number))
            self.stdout.write(f"Run {run.pk} “{run.name}” is {run.shown_status}.")

    def _list(self, options: dict[str, Any]) -> None:
        runs = TrainingRun.objects.select_related("dataset", "owner")
        if options["status"]:
            runs = runs.filter(status=options["status"])
        if options["json"]:
            self.stdout.write(json.dumps([_record(run) for run in runs]))
            return
        heading = ("ID", "NAME", "STATUS", "EPOCH", "DONE", "BEST", "DATASET", "OWNER")
        for line in _columns([heading, *(_summary(run) for run in runs)]):
            self.stdout.write(line)

    def _show(self, options: dict[str, Any]) -> None:
        run = _run(options["run"])
        record = {**_record(run), "config": run.config, "corrections": run.corrections}
        record |= {"folder": str(run.folder), "error_lines": run.error_lines, "checkpoints": _checkpoints(run)}
        if options["json"]:
            self.stdout.write(json.dumps(record))
            return
        for line in yaml.safe_dump(record, sort_keys=False, allow_unicode=True).splitlines():
            self.stdout.write(line)

    def _logs(self, options: dict[str, Any]) -> None:
        number, seq = _run(options["run"]).pk, 0
        levels = LEVELS[LEVELS.index(options["level"]) :]
        while True:
            run = _run(number)  # before its events are read, so that the last ones are not missed
            rows = run.events.filter(seq__gt=seq, seq__lte=run.event_seq).order_by("seq")
            for row in rows.exclude(type=RunEvent.Type.METRICS).filter(level__in=levels).iterator():
                self.stdout.write(_log_line(row))
            seq = run.event_seq
            if not options["follow"] or run.status not in (TrainingRun.Status.QUEUED, TrainingRun.Status.RUNNING):
                return
            self.stdout.flush()
            time.sleep(FOLLOW_S)

    def _delete(self, options: dict[str, Any]) -> None:
        for number in options["run"]:
            run = _run(number)
            size = lifecycle.deletion_size(run)
            freed = f"{size.bytes:,} bytes in {size.files:,} files"
            if options["dry_run"]:
                self.stdout.write(f"Run {number} “{run.name}” would be deleted: {freed}.")
            elif options["yes"] or input(f"Delete run {number} “{run.name}” with {freed}? [y/N] ").lower() == "y":
                lifecycle.delete_run(run)
                self.stdout.write(f"Run {number} “{run.name}” was deleted: {freed}.")


def _add_create(actions: Any) -> None:
    create = actions.add_parser("create", help="Create a run.")
    create.add_argument("name")
    create.add_argument("--dataset", required=True, metavar="NAME|ID")
    create.add_argument("--file", type=Path, metavar="RUN.YAML", help="Configuration as YAML or JSON.")
    create.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="One value; may be repeated.")
    create.add_argument("--priority", type=int, default=0)
    create.add_argument("--owner", metavar="USER", help="By default the first administrator.")
    create.add_argument("--start", action="store_true", help="Start it at once.")
    create.add_argument("--json", action="store_true", help="Print the run as a JSON object.")


def _read_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise CommandError(f"{path}: must hold keys with values, such as “epochs: 20”.")
    return values


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text}: must be KEY=VALUE.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return key.strip(), value


def _sentences(error: ValidationError, source: object) -> Iterable[str]:
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        got = f" (got {item['input']!r})" if name else ""
        yield ": ".join(filter(None, [str(source), name, item["msg"]])) + got


def _owner(name: str | None) -> Any:
    users = get_user_model()._default_manager
    owner = users.filter(username=name).first() if name else users.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise CommandError(f"--owner: there is no user {name}." if name else "There is no administrator yet.")
    return owner


def _dataset(wanted: str) -> Dataset:
    found = Dataset.objects.filter(name=wanted).first()
    if found is None and wanted.isdigit():
        found = Dataset.objects.filter(pk=int(wanted)).first()
    if found is None:
        raise CommandError(f"--dataset: there is no dataset {wanted}.")
    return found


def _run(number: int) -> TrainingRun:
    run = TrainingRun.objects.select_related("dataset", "owner").filter(pk=number).first()
    if run is None:
        raise CommandError(f"There is no run {number}.")
    return run


def _record(run: TrainingRun) -> dict[str, Any]:
    times = ("heartbeat_at", "created_at", "queued_at", "started_at", "finished_at")
    return {
        **{name: getattr(run, name) for name in RECORD_FIELDS},
        "shown_status": run.shown_status,
        "progress": round(run.progress, 4),
        "dataset": run.dataset.name,
        "owner": run.owner.get_username(),
        **{name: value.isoformat() if (value := getattr(run, name)) else None for name in times},
    }


def _checkpoints(run: TrainingRun) -> list[dict[str, Any]]:
    names = ("file", "epoch", "step", "reason", "size_bytes", "sha256", "is_best", "is_last", "metrics")
    return [{name: getattr(saved, name) for name in names} for saved in run.checkpoints.all()]


def _summary(run: TrainingRun) -> tuple[str, ...]:
    best = "" if run.best_metric is None else f"{run.best_metric_name} {run.best_metric:.3f}"
    epoch = f"{run.epoch}/{run.total_epochs}"
    who = (run.dataset.name, run.owner.get_username())
    return (str(run.pk), run.name, run.shown_status, epoch, f"{run.progress:.0%}", best, *who)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _log_line(row: RunEvent) -> str:
    data = row.data
    text = data.get("message") or data.get("file") or data.get("state") or data.get("to") or ""
    if wanted := data.get("wanted"):
        text = f"{wanted} was asked for"
    return f"{row.time:%Y-%m-%d %H:%M:%S} {row.level:<7} {row.type}: {text}"
