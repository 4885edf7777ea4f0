"""The command line of `manage.py train`."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainingapp.contract.tasks.registry import DEFAULT_TASK, TASKS
from trainingapp.management.sharing import add_share
from trainingapp.models import TrainingRun
from trainingapp.runs.verbs import STUDIO_LIMIT

LEVELS = ["debug", "info", "warning", "error"]
#: Verbs that take runs and nothing else, with what they do.
PLAIN_VERBS = {
    "start": "Queue new runs.",
    "pause": "Have runs save and leave their device.",
    "resume": "Let paused, stopped or failed runs go on from their newest sound checkpoint.",
    "stop": "End runs after a checkpoint.",
    "retry": "Queue failed runs again.",
    "checkpoint": "Have training runs save a checkpoint at their next step.",
    "evaluate": "Have training runs validate at their next step.",
    "force-stop": "End runs at once, without a checkpoint: for a trainer that does not answer.",
}
#: After these there is something to wait for.
WAITED_FOR = ("start", "resume", "retry")


def add_actions(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_making(actions)
    for verb, about in PLAIN_VERBS.items():
        control = actions.add_parser(verb, help=about)
        control.add_argument("run", nargs="+", type=int, help="Numbers of runs.")
        control.add_argument("--json", action="store_true", help="Print the runs as a JSON array.")
        if verb in WAITED_FOR:
            _add_waiting(control)
    _add_changing(actions)
    _add_looking(actions)


def _add_making(actions: Any) -> None:
    create = actions.add_parser("create", help="Create a run.")
    create.add_argument("name")
    create.add_argument("--dataset", required=True, metavar="NAME|ID")
    _add_config(create)
    create.add_argument("--start", action="store_true", help="Start it at once.")
    clone = actions.add_parser("clone", help="Create a run with the dataset and configuration of another.")
    fork = actions.add_parser("fork", help="Create a run that begins with a checkpoint of another.")
    for parser in (clone, fork):
        parser.add_argument("run", type=int)
        parser.add_argument("--name", default="", help="What it is called.")
        parser.add_argument("--start", action="store_true", help="Start it at once.")
    fork.add_argument("--checkpoint", default="", metavar="FILE", help="By default the best one.")
    fork.add_argument("--mode", choices=["continue", "weights"], default="continue", help="From its step, or anew.")
    _add_config(fork)
    clone.add_argument("--owner", metavar="USER", help="By default the first administrator.")
    for parser in (create, clone, fork):
        parser.add_argument("--json", action="store_true", help="Print the run as a JSON object.")
        _add_waiting(parser)
    _add_limits(create, "By default as the studio says.", float, int)
    check = actions.add_parser("check", help="Have a few steps made, to learn what such a run takes; nothing is kept.")
    check.add_argument("--dataset", required=True, metavar="NAME|ID")
    _add_values(check)
    check.add_argument("--json", action="store_true", help="Print what was found as a JSON object.")
    config = actions.add_parser("config", help="Print a commented configuration to start from.")
    config.add_argument("--task", "--recipe", choices=list(TASKS), default=DEFAULT_TASK)
    config.add_argument("--model", help="Take the defaults that suit this network.")


def _add_config(parser: ArgumentParser) -> None:
    _add_values(parser)
    parser.add_argument("--priority", type=int, default=0)


def _add_values(parser: ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, metavar="RUN.YAML", help="Configuration as YAML or JSON.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="One value; may be repeated.")
    parser.add_argument("--owner", metavar="USER", help="By default the first administrator.")


def _add_limits(parser: ArgumentParser, about: str, hours: Any, count: Any) -> None:
    parser.add_argument("--soft-limit", type=hours, metavar="HOURS", help=f"After them it saves and stops. {about}")
    parser.add_argument("--hard-limit", type=hours, metavar="HOURS", help="After them its trainer is killed.")
    parser.add_argument("--recoveries", type=count, metavar="N", help="Times that it goes on by itself after a crash.")


def _add_waiting(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="Wait for its end: 0 completed, 3 failed, 4 stopped, 5 paused."
    )
    parser.add_argument("--follow", "-f", action="store_true", help="As --wait, with a bar on the terminal.")


def _add_changing(actions: Any) -> None:
    epochs = actions.add_parser("epochs", help="Change how many epochs a run has; one that is done goes on.")
    epochs.add_argument("run", type=int)
    epochs.add_argument("epochs", type=int, help="Epochs in all.")
    _add_waiting(epochs)
    update = actions.add_parser("update", help="Change the name, the priority or the limits.")
    update.add_argument("run", type=int)
    update.add_argument("--name")
    update.add_argument("--priority", type=int)
    _add_limits(update, "studio: as the studio says.", _or_studio(float), _or_studio(int))
    add_share(actions, "run", int)
    for parser in (epochs, update):
        parser.add_argument("--json", action="store_true", help="Print the run as a JSON object.")
    delete = actions.add_parser("delete", help="Delete runs with their files.")
    delete.add_argument("run", nargs="+", type=int)
    delete.add_argument("--yes", action="store_true", help="Do not ask.")
    delete.add_argument("--dry-run", action="store_true", help="Only say what would be freed.")


def _or_studio(kind: type[float] | type[int]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        return STUDIO_LIMIT if text == "studio" else kind(text)

    return number


def _add_looking(actions: Any) -> None:
    listing = actions.add_parser("list", help="List runs, newest first.")
    listing.add_argument("--status", choices=TrainingRun.Status.values, help="Only runs with this status.")
    listing.add_argument("--task", "--recipe", choices=list(TASKS))
    listing.add_argument("--owner", metavar="USER")
    listing.add_argument("--search", default="", metavar="TEXT", help="In the names of runs and datasets.")
    listing.add_argument("--limit", type=int, default=0, help="At most so many.")
    show = actions.add_parser("show", help="Show one run.")
    script = actions.add_parser("script", help="Print train.py, which repeats the run without the studio.")
    metrics = actions.add_parser("metrics", help="Print the points of a run's charts.")
    metrics.add_argument("--split", choices=["train", "val"])
    metrics.add_argument("--name", action="append", default=[], help="Only this metric; may be repeated.")
    evaluation = actions.add_parser("evaluation", help="Print what a validation found out, class by class.")
    evaluation.add_argument("--epoch", type=int, help="By default the newest.")
    logs = actions.add_parser("logs", help="Print the log of a run.")
    logs.add_argument("--level", choices=LEVELS, default="info", help="Least level that is shown.")
    logs.add_argument("--follow", "-f", action="store_true", help="Go on until the run is no longer in work.")
    watch = actions.add_parser("watch", help="Wait for runs with a bar; the exit code says how they ended.")
    watch.add_argument("run", nargs="+", type=int)
    for parser in (show, script, metrics, evaluation, logs):
        parser.add_argument("run", type=int)
    for parser in (listing, show, metrics, evaluation):
        parser.add_argument("--json", action="store_true", help="As JSON.")
