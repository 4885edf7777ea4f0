"""manage.py train: the run verbs, and the output of stored data about runs.

Exit codes: 0 done; 1 refused or invalid values; 2 unknown option; after waiting: 3 failed, 4 stopped, 5 paused.
"""

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import yaml
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import CommandError

from trainingapp.accounts.users import AnyUser
from trainingapp.contract.events import LEVELS
from trainingapp.contract.number_text import number_text
from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.management.finding import find_dataset
from trainingapp.management.following import follow_job
from trainingapp.management.sharing import share_item
from trainingapp.management.training.parsers import add_actions
from trainingapp.management.training.records import (
    HEADING,
    full_record,
    log_line,
    metric_record,
    record,
    summary,
)
from trainingapp.management.training.values import Source, read_config, read_values, readable_errors, template
from trainingapp.management.training.watching import wait_for_runs
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.presentation.messages import rendered, rendered_list
from trainingapp.runs import evaluations
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.conditions import ConditionError, conditions
from trainingapp.runs.downloads import event_file_name, run_script
from trainingapp.runs.limits import Limits
from trainingapp.runs.series import all_points
from trainingapp.runs.series_export import metrics_csv
from trainingapp.runs.series_files import metrics_parquet, metrics_tensorboard
from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS

FOLLOW_S = 0.5


class Command(StudioCommand):
    help = "Create, control and show runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_actions(parser)

    def handle(self, *, action: str, **options: object) -> None:
        try:
            if verb := RUN_VERBS.commands().get(action):
                self._perform(verb, options)
            else:
                getattr(self, f"_{action}")(options)
        except (VerbError, evaluations.EvaluationError) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            self.stderr.write("")
        except BrokenPipeError:  # a reader such as `head` has ended: discard the buffered rest, without a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _create(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"], "--dataset: ")
        config, corrections = read_config(options["file"], options["set"], dataset.label_mode)
        run = run_verbs.create_run(
            owner=_owner(options["owner"]),
            name=options["name"],
            dataset=dataset,
            config=config,
            corrections=corrections,
            priority=options["priority"],
            **_limits(options),
        )
        self._print_new(run, options)

    def _check(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"], "--dataset: ")
        config, corrections = read_config(options["file"], options["set"], dataset.label_mode)
        for correction in corrections:
            self.stderr.write(rendered(correction))
        job = follow_job(run_verbs.check_first(dataset, config, owner=_owner(options["owner"])), "Checking")
        text = json.dumps(job.result) if options["json"] else yaml.safe_dump(job.result, sort_keys=False).rstrip()
        self.stdout.write(text)

    def _print_new(self, run: TrainingRun, options: Options) -> None:
        if options["start"]:
            run_verbs.start_run(run)
        for correction in rendered_list(run.corrections):
            self.stderr.write(correction)
        self._print(run, options)
        self._wait([run], options)

    def _config(self, options: Options) -> None:
        self.stdout.write(template(options["task"], options["model"]), ending="")

    def _perform(self, verb: RunVerb, options: Options) -> None:
        """Perform a run verb with the parameters of its record."""
        values: dict[str, object] = {}
        source = Source(None)
        for parameter in verb.parameters:
            if parameter.kind == "configuration":
                values[parameter.name], source = read_values(options["file"], options["set"])
            elif options[parameter.name] is not None:
                values[parameter.name] = options[parameter.name]
        if isinstance(options["run"], list):
            self._perform_each(verb, options)
            return
        user: AnyUser = _owner(options["owner"]) if verb.makes_run else AnonymousUser()
        try:
            with readable_errors(source):
                done = verb.perform(_run(options["run"]), user=user, **values)
        except FieldError as error:
            raise CommandError(f"--{error.field}: {error}") from None
        assert isinstance(done, TrainingRun)
        if verb.makes_run:
            self._print_new(done, options)
        else:
            self._print(done, options)
            self._wait([done], options)

    def _perform_each(self, verb: RunVerb, options: Options) -> None:
        runs: list[TrainingRun] = []
        refused = []
        for number in options["run"]:  # a refusal for one run must not prevent the others
            try:
                done = verb.perform(_run(number), user=AnonymousUser())
            except (VerbError, CommandError) as error:
                refused.append(str(error))
            else:
                assert isinstance(done, TrainingRun)
                runs.append(done)
        if options["json"]:
            self.stdout.write(json.dumps([record(run) for run in runs]))
        else:
            for run in runs:
                self._print(run, options)
        if refused:
            raise CommandError("\n".join(refused))
        self._wait(runs, options)

    def _update(self, options: Options) -> None:
        changes = {"name": options["name"], "priority": options["priority"], **_limits(options)}
        if all(change is None for change in changes.values()):
            raise CommandError("Give --name, --priority or a limit.")
        run = run_verbs.update_run(_run(options["run"]), **changes)
        self._print(run, options)

    def _share(self, options: Options) -> None:
        self.stdout.write(share_item(_run(options["item"]), options))

    def _delete(self, options: Options) -> None:
        for number in options["run"]:
            run = _run(number)
            size = run_verbs.deletion_size(run)
            freed = f"{size.bytes:,} bytes in {size.files:,} files"
            if options["dry_run"]:
                self.stdout.write(f"Run {number} “{run.name}” would be deleted: {freed}.")
            elif options["yes"] or input(f"Delete run {number} “{run.name}” with {freed}? [y/N] ").lower() == "y":
                run_verbs.delete_run(run)
                self.stdout.write(f"Run {number} “{run.name}” was deleted: {freed}.")

    def _list(self, options: Options) -> None:
        fields = {"status": options["status"], "task": options["task"], "owner__username": options["owner"]}
        runs = TrainingRun.objects.filter(archived_at__isnull=not options["archived"])
        runs = runs.filter(**{name: value for name, value in fields.items() if value})
        try:
            runs = runs.filter(conditions(options["search"]))
        except ConditionError as error:
            raise CommandError(f"--search, character {error.start + 1}: {error}") from None
        runs = runs.select_related("dataset", "owner")
        runs = runs[: options["limit"]] if options["limit"] else runs
        if options["json"]:
            self.stdout.write(json.dumps([record(run) for run in runs]))
            return
        self.stdout.write("\n".join(table_lines(HEADING, map(summary, runs))))

    def _show(self, options: Options) -> None:
        shown = full_record(_run(options["run"]))
        if options["json"]:
            self.stdout.write(json.dumps(shown))
            return
        for line in yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).splitlines():
            self.stdout.write(line)

    def _script(self, options: Options) -> None:
        self.stdout.write(run_script(_run(options["run"])), ending="")

    def _metrics(self, options: Options) -> None:
        if options["csv"]:
            if options["split"] or options["name"] or options["json"]:
                raise CommandError("--csv prints all metrics; it cannot be combined with --split, --name or --json.")
            for piece in metrics_csv(_run(options["run"])):
                self.stdout.write(piece, ending="")
            return
        if options["parquet"] or options["tensorboard"]:
            self._write_metrics(_run(options["run"]), options)
            return
        rows = all_points(_run(options["run"]))
        points = [
            metric_record(row, options["name"]) for row in rows if options["split"] in (None, row.data.get("split"))
        ]
        points = [point for point in points if point["values"]]
        if options["json"]:
            self.stdout.write(json.dumps(points))
            return
        for point in points:
            values = "  ".join(f"{name} {_cell(value, digits=6)}" for name, value in point["values"].items())
            self.stdout.write(f"epoch {point['epoch']}  step {point['step']}  {point['split']}  {values}")

    def _write_metrics(self, run: TrainingRun, options: Options) -> None:
        files: list[tuple[Path, Iterator[bytes]]] = []
        if options["parquet"]:
            files.append((options["parquet"], metrics_parquet(run)))
        if options["tensorboard"]:
            options["tensorboard"].mkdir(parents=True, exist_ok=True)
            files.append((options["tensorboard"] / event_file_name(run), metrics_tensorboard(run)))
        for path, pieces in files:
            with path.open("wb") as file:
                file.writelines(pieces)
            self.stdout.write(f"{path}: {path.stat().st_size:,} bytes.")

    def _evaluation(self, options: Options) -> None:
        run = _run(options["run"])
        found = evaluations.of_epoch(run, options["epoch"]) if options["epoch"] else evaluations.newest(run)
        if found is None:
            raise CommandError("This run has no such evaluation.")
        content = evaluations.read(run, found.epoch)
        if options["json"]:
            self.stdout.write(
                json.dumps({"epoch": content.epoch, "values": content.values, "per_class": content.per_class})
            )
            return
        for name, value in content.values.items():
            self.stdout.write(f"{name} {number_text(value, ascii_only=True)}")
        names = ["class", *(column.name for column in content.columns)]
        rows = ([_cell(row.get(name)) for name in names] for row in content.per_class)
        self.stdout.write("\n".join(table_lines([name.upper() for name in names], rows)))

    def _logs(self, options: Options) -> None:
        number, seq = _run(options["run"]).pk, 0
        levels = LEVELS[LEVELS.index(options["level"]) :]
        while True:
            run = _run(number)  # before its events are read, so that the last ones are not missed
            rows = run.events.filter(seq__gt=seq, seq__lte=run.event_seq).order_by("seq")
            for row in rows.exclude(type=RunEvent.Type.METRICS).filter(level__in=levels).iterator():
                self.stdout.write(log_line(row))
            seq = run.event_seq
            if not options["follow"] or run.status not in (TrainingRun.Status.QUEUED, TrainingRun.Status.RUNNING):
                return
            self.stdout.flush()
            time.sleep(FOLLOW_S)

    def _watch(self, options: Options) -> None:
        self._end(wait_for_runs([_run(number).pk for number in options["run"]], show_bar=True))

    def _print(self, run: TrainingRun, options: Options) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(record(run)))
        else:
            self.stdout.write(f"Run {run.pk} “{run.name}” is {run.shown_status}.")

    def _wait(self, runs: list[TrainingRun], options: Options) -> None:
        if options.get("wait") or options.get("follow"):
            self.stdout.flush()
            self._end(wait_for_runs([run.pk for run in runs], show_bar=options["follow"]))

    def _end(self, exit_code: int) -> None:
        if exit_code:
            raise CommandError("Not all runs were completed.", returncode=exit_code)


def _limits(options: Options) -> Limits:
    return {
        "soft_limit_h": options["soft_limit"],
        "hard_limit_h": options["hard_limit"],
        "max_recoveries": options["recoveries"],
    }


def _cell(value: object, digits: int = 4) -> str:
    if isinstance(value, float):
        return number_text(value, digits=digits, ascii_only=True)
    return "" if value is None else str(value)


def _owner(name: str | None) -> User:
    users = User.objects
    owner = users.filter(username=name).first() if name else users.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise CommandError(f"--owner: there is no user {name}." if name else "There is no administrator yet.")
    return owner


def _run(number: int) -> TrainingRun:
    run = TrainingRun.objects.select_related("dataset", "owner").filter(pk=number).first()
    if run is None:
        raise CommandError(f"There is no run {number}.")
    return run
