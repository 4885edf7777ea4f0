"""The command line of `manage.py train`."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from trainingapp.contract.events import LEVELS
from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.management.base import Subcommands
from trainingapp.management.sharing import add_share
from trainingapp.models import TrainingRun
from trainingapp.runs.limits import STUDIO_LIMIT
from trainingapp.runs.verb_record import RunVerb
from trainingapp.runs.verb_registry import RUN_VERBS


def add_actions(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_making(actions)
    for command, verb in RUN_VERBS.commands().items():
        _add_verb(actions.add_parser(command, help=verb.help), verb)
    _add_changing(actions)
    _add_looking(actions)


def _add_verb(parser: ArgumentParser, verb: RunVerb) -> None:
    """The arguments of a run verb: several runs for a verb without parameters, one run for any other."""
    takes_many = not verb.parameters and not verb.makes_run
    parser.add_argument("run", nargs="+" if takes_many else None, type=int, help="Number of the run.")
    for parameter in verb.parameters:
        if parameter.kind == "configuration":
            _add_values(parser)
            continue
        name = parameter.name if parameter.is_required else f"--{parameter.name}"
        kind = int if parameter.kind == "number" else str
        about = parameter.help[:1].upper() + parameter.help[1:]
        parser.add_argument(name, type=kind, choices=parameter.choices or None, help=about)
    if verb.makes_run:
        parser.add_argument("--owner", metavar="USER", help="By default the first administrator.")
        parser.add_argument("--start", action="store_true", help="Start it immediately.")
    many = "Print the runs as a JSON array." if takes_many else "Print the run as a JSON object."
    parser.add_argument("--json", action="store_true", help=many)
    if verb.can_wait:
        _add_waiting(parser)


def _add_making(actions: Subcommands) -> None:
    create = actions.add_parser("create", help=RUN_VERBS["create"].help)
    create.add_argument("name")
    create.add_argument("--dataset", required=True, metavar="NAME|ID")
    _add_values(create)
    create.add_argument("--priority", type=int, default=0)
    create.add_argument("--owner", metavar="USER", help="By default the first administrator.")
    create.add_argument("--start", action="store_true", help="Start it immediately.")
    create.add_argument("--json", action="store_true", help="Print the run as a JSON object.")
    _add_waiting(create)
    _add_limits(create, "By default the studio's.", float, int)
    check = actions.add_parser("check", help=RUN_VERBS["check"].help)
    check.add_argument("--dataset", required=True, metavar="NAME|ID")
    _add_values(check)
    check.add_argument("--owner", metavar="USER", help="By default the first administrator.")
    check.add_argument("--json", action="store_true", help="Print the result as a JSON object.")
    config = actions.add_parser("config", help="Print a commented configuration to start from.")
    config.add_argument("--task", "--recipe", choices=list(TASKS), default=DEFAULT_TASK)
    config.add_argument("--model", help="Take the defaults that suit this network.")


def _add_config(parser: ArgumentParser) -> None:
    _add_values(parser)
    parser.add_argument("--priority", type=int, default=0)


def _add_values(parser: ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, metavar="RUN.YAML", help="Configuration as YAML or JSON.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="One value; may be repeated.")


def _add_limits(
    parser: ArgumentParser, about: str, hours: Callable[[str], object], count: Callable[[str], object]
) -> None:
    parser.add_argument("--soft-limit", type=hours, metavar="HOURS", help=f"Save and stop after this time. {about}")
    parser.add_argument("--hard-limit", type=hours, metavar="HOURS", help="Kill the trainer after this time.")
    parser.add_argument("--recoveries", type=count, metavar="N", help="Automatic restarts after a crash.")


def _add_waiting(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="Wait for the end. Exit code: 0 completed, 3 failed, 4 stopped, 5 paused."
    )
    parser.add_argument("--follow", "-f", action="store_true", help="As --wait, with a progress bar.")


def _add_changing(actions: Subcommands) -> None:
    update = actions.add_parser("update", help=RUN_VERBS["edit"].help)
    update.add_argument("run", type=int)
    update.add_argument("--name")
    update.add_argument("--priority", type=int)
    _add_limits(update, "studio: the studio's.", _or_studio(float), _or_studio(int))
    update.add_argument("--json", action="store_true", help="Print the run as a JSON object.")
    add_share(actions, "run", int, about=RUN_VERBS["share"].help)
    delete = actions.add_parser("delete", help=RUN_VERBS["delete"].help)
    delete.add_argument("run", nargs="+", type=int)
    delete.add_argument("--yes", action="store_true", help="Do not ask.")
    delete.add_argument("--dry-run", action="store_true", help="Only print what would be freed.")


def _or_studio(kind: type[float] | type[int]) -> Callable[[str], object]:
    """A converter of numbers that also accepts `studio`, which removes the run's own limit."""

    def number(text: str) -> object:
        return STUDIO_LIMIT if text == "studio" else kind(text)

    return number


def _add_looking(actions: Subcommands) -> None:
    listing = actions.add_parser("list", help="List runs, newest first.")
    listing.add_argument("--status", choices=TrainingRun.Status.values, help="Only runs with this status.")
    listing.add_argument("--task", "--recipe", choices=list(TASKS))
    listing.add_argument("--owner", metavar="USER")
    about = "In the names of runs and datasets, or conditions, such as 'lr<0.01 and best>0.9'."
    listing.add_argument("--search", default="", metavar="TEXT", help=about)
    listing.add_argument("--archived", action="store_true", help="Archived runs instead of the others.")
    listing.add_argument("--limit", type=int, default=0, help="The maximum number of runs.")
    show = actions.add_parser("show", help="Show one run.")
    script = actions.add_parser("script", help="Print train.py, which repeats the run without the studio.")
    metrics = actions.add_parser("metrics", help="Print the points of a run's charts.")
    metrics.add_argument("--split", choices=["train", "val"])
    metrics.add_argument("--name", action="append", default=[], help="Only this metric; may be repeated.")
    metrics.add_argument("--csv", action="store_true", help="Print all metrics as CSV, a row for each point.")
    metrics.add_argument("--parquet", type=Path, metavar="FILE", help="Write all metrics as Parquet (needs pyarrow).")
    metrics.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="Write all metrics as an event file there.")
    evaluation = actions.add_parser("evaluation", help="Print the results of a validation, with those of each class.")
    evaluation.add_argument("--epoch", type=int, help="By default the newest.")
    logs = actions.add_parser("logs", help="Print the log of a run.")
    logs.add_argument("--level", choices=LEVELS, default="info", help="Lowest level that is printed.")
    logs.add_argument("--follow", "-f", action="store_true", help="Continue while the run is queued or running.")
    watch = actions.add_parser("watch", help="Wait for runs with a progress bar; the exit code shows how they ended.")
    watch.add_argument("run", nargs="+", type=int)
    for parser in (show, script, metrics, evaluation, logs):
        parser.add_argument("run", type=int)
    for parser in (listing, show, metrics, evaluation):
        parser.add_argument("--json", action="store_true", help="Print JSON.")
