"""manage.py sweep: searches over the configuration of a run.

The search space is given by options, each as often as wanted:

    --range learning_rate=1e-4..1e-1,log   a number between two bounds
    --choice optimizer=SGD,AdamW           one of some values
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import yaml
from django.contrib.auth.models import User
from django.core.management import CommandError
from pydantic import ValidationError

from trainingapp.accounts.users import AnyUser
from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.management.finding import find_dataset
from trainingapp.management.training.values import read_config
from trainingapp.models import Sweep
from trainingapp.models.sweep import Pruner, Sampler
from trainingapp.models.verbs import FieldError, VerbError
from trainingapp.presentation.messages import rendered_data
from trainingapp.presentation.numbers import metric
from trainingapp.runs.sweeps import verbs as sweep_verbs
from trainingapp.runs.sweeps.page import SweepPage, best_trial, spread_of
from trainingapp.runs.sweeps.space import SearchSpace
from trainingapp.runs.sweeps.verb_registry import SWEEP_VERBS

HEADING = ("ID", "NAME", "STATUS", "SAMPLER", "TRIALS", "BEST", "OWNER")


class Command(StudioCommand):
    help = "Create, control and show sweeps."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="Create a sweep; its first trial is the base configuration.")
        create.add_argument("name")
        create.add_argument("--dataset", required=True, help="Name or number of the dataset.")
        create.add_argument("--owner", required=True, help="User name of the owner.")
        create.add_argument("--file", type=Path, help="YAML or JSON file with the base configuration.")
        create.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="A field of it.")
        create.add_argument("--range", action="append", default=[], metavar="FIELD=LOW..HIGH[,log]")
        create.add_argument("--choice", action="append", default=[], metavar="FIELD=A,B,...")
        create.add_argument("--sampler", choices=Sampler.values, default=Sampler.TPE)
        create.add_argument("--pruner", choices=Pruner.values, default=Pruner.NONE)
        create.add_argument("--seed", type=int, default=0, help="Seed of the sampler.")
        create.add_argument("--control-every", type=int, default=0, metavar="K", help="Each K-th trial is random.")
        create.add_argument("--concurrency", type=int, default=1)
        create.add_argument("--trials", type=int, default=20)
        create.add_argument("--folds", type=int, default=sweep_verbs.USUAL_FOLDS, help="Of --sampler folds: 2 to 20.")
        create.add_argument("--hours", type=float)
        create.add_argument("--device-hours", type=float)
        create.add_argument("--start", action="store_true", help="Start it at once.")
        actions.add_parser("list", help="List the sweeps, newest first.")
        show = actions.add_parser("show", help="Show a sweep and its trials.")
        show.add_argument("sweep", type=int)
        for verb in SWEEP_VERBS.values():
            actions.add_parser(verb.name, help=verb.help).add_argument("sweep", type=int, nargs="+")
        enqueue = actions.add_parser("enqueue", help="Add a trial with these values, which is tried next.")
        enqueue.add_argument("sweep", type=int)
        enqueue.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", required=True)
        delete = actions.add_parser("delete", help="Delete sweeps; their runs stay unless --runs is given.")
        delete.add_argument("sweep", type=int, nargs="+")
        delete.add_argument("--runs", action="store_true", help="Delete the runs of the trials too.")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *, action: str, **options: object) -> None:
        try:
            if action in SWEEP_VERBS:
                self._print([SWEEP_VERBS[action].function(_sweep(number)) for number in _numbers(options)], options)
            else:
                getattr(self, f"_{action}")(options)
        except FieldError as error:
            raise CommandError(f"{error.field}: {error}") from None
        except VerbError as error:
            raise CommandError(str(error)) from None

    def _create(self, options: Options) -> None:
        dataset = find_dataset(options["dataset"], "--dataset: ")
        config, _corrections = read_config(options["file"], options["set"], dataset.label_mode)
        sweep = sweep_verbs.create_sweep(
            owner=_owner(options["owner"]),
            name=options["name"],
            dataset=dataset,
            config=config,
            space=_space(options),
            sampler=options["sampler"],
            pruner=options["pruner"],
            seed=options["seed"],
            control_every=options["control_every"],
            concurrency=options["concurrency"],
            max_trials=options["trials"],
            folds=options["folds"],
            max_hours=options["hours"],
            max_device_hours=options["device_hours"],
        )
        if options["start"]:
            sweep_verbs.start_sweep(sweep)
        self._print([sweep], options)

    def _list(self, options: Options) -> None:
        self._print(list(Sweep.objects.select_related("owner")), options)

    def _show(self, options: Options) -> None:
        sweep = _sweep(options["sweep"])
        user: AnyUser = sweep.owner
        if options["json"]:
            trials = sweep.trials.values("number", "run", "origin", "state", "params", "value", "elapsed_s", "problem")
            self.stdout.write(json.dumps({**_record(sweep), "trials": list(trials)}))
            return
        self._print([sweep], options)
        page = SweepPage(sweep, user)
        heading = ("TRIAL", "RUN", "STATE", "ORIGIN", page.metric.upper(), *page.names)
        rows = [
            (
                str(row.trial.number),
                str(row.trial.run_id or "-"),
                row.trial.state,
                row.trial.origin,
                row.value,
                *(str(cell) for _label, cell, _is_number in row.cells),
            )
            for row in page.rows()
        ]
        self.stdout.write("\n".join(["", *table_lines(heading, rows)]))

    def _enqueue(self, options: Options) -> None:
        trial = sweep_verbs.enqueue_trial(_sweep(options["sweep"]), _assigned(options["set"]))  # type: ignore[arg-type]  # checked there
        if options["json"]:
            self.stdout.write(json.dumps({"number": trial.number, "params": trial.params}))
        else:
            self.stdout.write(f"Trial {trial.number} is tried next.")

    def _delete(self, options: Options) -> None:
        for number in _numbers(options):
            sweep_verbs.delete_sweep(_sweep(number), with_runs=options["runs"])

    def _print(self, sweeps: list[Sweep], options: Mapping[str, object]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps([_record(sweep) for sweep in sweeps]))
            return
        self.stdout.write("\n".join(table_lines(HEADING, (_row(sweep) for sweep in sweeps))))
        for sweep in sweeps:
            if reason := rendered_data(sweep.reason_data):
                self.stdout.write(f"{sweep.name}: {reason}")


def _numbers(options: Mapping[str, object]) -> list[int]:
    numbers = options["sweep"]
    assert isinstance(numbers, list)
    return numbers


def _sweep(number: int) -> Sweep:
    sweep = Sweep.objects.select_related("owner", "dataset").filter(pk=number).first()
    if sweep is None:
        raise CommandError(f"There is no sweep {number}.")
    return sweep


def _owner(name: str) -> User:
    user = User.objects.filter(username=name).first()
    if user is None:
        raise CommandError(f"--owner: there is no user {name}.")
    return user


def _space(options: Options) -> SearchSpace:
    """The search space of --range and --choice. Raises CommandError."""
    dimensions: list[dict[str, object]] = []
    for text in options["range"]:
        field, equals, rest = text.partition("=")
        bounds, _comma, scale = rest.partition(",")
        low, dots, high = bounds.partition("..")
        if not equals or not dots or scale not in ("", "log"):
            raise CommandError(f"--range {text}: must be FIELD=LOW..HIGH or FIELD=LOW..HIGH,log.")
        dimensions.append({"kind": "range", "field": field, "low": low, "high": high, "log": scale == "log"})
    for text in options["choice"]:
        field, equals, rest = text.partition("=")
        if not equals:
            raise CommandError(f"--choice {text}: must be FIELD=A,B,...")
        dimensions.append(
            {"kind": "choice", "field": field, "values": [yaml.safe_load(one) for one in rest.split(",")]}
        )
    try:
        return SearchSpace.model_validate({"dimensions": dimensions})
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"][1] if len(first["loc"]) > 1 else None
        name = dimensions[place]["field"] if isinstance(place, int) else "space"
        raise CommandError(f"{name}: {first['msg']}.") from None


def _assigned(texts: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--set {text}: must be KEY=VALUE.")
        found[key.strip()] = yaml.safe_load(value)
    return found


def _record(sweep: Sweep) -> dict[str, object]:
    best, spread = best_trial(sweep), spread_of(sweep)
    return {
        "id": sweep.pk,
        "name": sweep.name,
        "owner": sweep.owner.get_username(),
        "status": sweep.status,
        "reason": rendered_data(sweep.reason_data),
        "sampler": sweep.sampler,
        "pruner": sweep.pruner,
        "metric": sweep.metric,
        "trials": sweep.trials.count(),
        "finished": sweep.trials.exclude(finished_at=None).count(),
        "max_trials": sweep.max_trials,
        "best": best.value if best else None,
        "best_params": best.params if best else None,
        "best_run": best.run_id if best else None,
        "mean": spread.mean if spread else None,
        "deviation": spread.deviation if spread else None,
    }


def _row(sweep: Sweep) -> tuple[str, ...]:
    facts = _record(sweep)
    best = best_trial(sweep)
    trials = f"{facts['finished']}/{sweep.max_trials}"
    spread = spread_of(sweep)
    value = spread.text(sweep.metric) if spread else metric(best.value if best else None, sweep.metric)
    return (str(sweep.pk), sweep.name, sweep.status, sweep.sampler, trials, value, sweep.owner.get_username())
