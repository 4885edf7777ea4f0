"""manage.py checkpoints: the checkpoints of runs, for the shell."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from django.core.management import CommandError
from rich.console import Console
from rich.progress import track

from trainingapp.contract.retention import Policy
from trainingapp.contract.storage.exporting import EXPORT_FORMS
from trainingapp.contract.storage.reading import is_plain
from trainingapp.contract.storage.sizes import Removal
from trainingapp.management.base import Options, StudioCommand, Subcommands
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.event_text import damage_text
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.checkpoint_files import Known

FIELDS = (  # noqa: SIM905
    "file attempt epoch step reason size_bytes stored_bytes sha256 metrics is_best is_last is_pinned damage"
).split()
POLICY = {
    "last": (int, "Number of newest checkpoints to keep."),
    "best": (int, "Number of best checkpoints to keep."),
    "every_epochs": (int, "Keep the checkpoint of every Nth epoch."),
    "days": (float, "Delete checkpoints older than this number of days."),
    "gb": (float, "Delete the oldest checkpoints until all take at most this size."),
}


class Command(StudioCommand):
    help = "List, compare, export and delete checkpoints."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        _add(actions, "list", "List the checkpoints of a run, newest first.")
        _add(actions, "best", "Show the best checkpoint of a run.")
        _add(actions, "info", "Show one checkpoint.", files="one")
        verify = actions.add_parser("verify", help="Compare checkpoints with their hashes: of one run, or of all.")
        verify.add_argument("run", nargs="?", type=int)
        verify.add_argument("file", nargs="*")
        verify.add_argument("--json", action="store_true", help="Print the damaged ones as a JSON array.")
        pin = _add(actions, "pin", "Pin checkpoints, so that no retention policy deletes them.", files="many")
        pin.add_argument("--off", action="store_true", help="Unpin them.")
        _add_asking(_add(actions, "delete", "Delete checkpoints.", files="many"))
        clean = _add(actions, "clean", "Apply a retention policy; by default that of the run.")
        for name, (kind, about) in POLICY.items():
            clean.add_argument(f"--{name.replace('_', '-')}", type=kind, help=about)
        _add_asking(clean)
        export = _add(actions, "export", "Write a checkpoint as .pt, or its weights as .safetensors.", files="one")
        export.add_argument("target", type=Path, metavar="OUT", help="File name that ends with .pt or .safetensors.")

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except VerbError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            self.stderr.write("")

    def _list(self, options: Options) -> None:
        rows = list(_run(options["run"]).checkpoints.all())
        if options["json"]:
            self._print(options, [_record(row) for row in rows])
            return
        for row in rows:
            marks = " ".join(name for name in ("best", "last", "pinned") if getattr(row, f"is_{name}"))
            line = f"{row.file:<18} epoch {row.epoch:<5} step {row.step:<8} {row.size_bytes:>14,} bytes  {marks}"
            self.stdout.write(f"{line} {damage_text(row)}".rstrip())

    def _best(self, options: Options) -> None:
        best = _run(options["run"]).checkpoints.filter(is_best=True).first()
        if best is None:
            raise CommandError(f"Run {options['run']} has no best checkpoint yet.")
        self._show(options, best)

    def _info(self, options: Options) -> None:
        self._show(options, _checkpoint(_run(options["run"]), options["file"]))

    def _show(self, options: Options, checkpoint: Checkpoint) -> None:
        there = checkpoint.path.is_file()
        form = ("plain" if is_plain(checkpoint.path) else "compact") if there else "missing"
        record = {**_record(checkpoint), "path": str(checkpoint.path), "format": form}
        self._print(options, record, (f"{name}: {value}" for name, value in record.items()))

    def _verify(self, options: Options) -> None:
        # Ordered by step, so that data shared by consecutive checkpoints is read once (`Known`).
        chosen = Checkpoint.objects.select_related("run").order_by("run", "step")
        if options["run"] is not None:
            run = _run(options["run"])
            files = [_checkpoint(run, file).file for file in options["file"]]
            chosen = chosen.filter(run=run, **({"file__in": files} if files else {}))
        rows = list(chosen)
        known, damaged = Known(), []
        console = Console(stderr=True)
        for row in track(rows, "Comparing", console=console, disable=not console.is_terminal):
            if wrong := run_verbs.verify_checkpoint(row, known):
                damaged.append({"run": row.run_id, "file": row.file, "damage": wrong})
        lines = [f"Run {item['run']}: {item['file']} {item['damage']}." for item in damaged]
        self._print(options, damaged, [*lines, f"{len(rows)} compared, {len(damaged)} damaged."])
        if damaged:
            raise SystemExit(1)

    def _pin(self, options: Options) -> None:
        run = _run(options["run"])
        rows = [_checkpoint(run, file) for file in options["file"]]
        for row in rows:
            run_verbs.pin_checkpoint(row, is_pinned=not options["off"])
        how = "is not pinned any longer" if options["off"] else "is pinned"
        self._print(options, [_record(row) for row in rows], [f"{row.file} {how}." for row in rows])

    def _delete(self, options: Options) -> None:
        run = _run(options["run"])
        files = [_checkpoint(run, file).file for file in options["file"]]
        self._remove(options, run, files, run_verbs.checkpoints_deletion(run, files))

    def _clean(self, options: Options) -> None:
        run = _run(options["run"])
        given = {name: options[name] for name in POLICY if options[name] is not None}
        plan = run_verbs.plan_clean_up(run, Policy(**{**vars(run_verbs.checkpoint_policy(run)), **given}))
        self._remove(options, run, plan.choice.removed, plan.removal)

    def _remove(self, options: Options, run: TrainingRun, files: list[str], plan: Removal) -> None:
        what = f"{len(files)} checkpoints of run {run.pk} “{run.name}” with {plan.freed_bytes:,} bytes"
        record = {"run": run.pk, "files": files, "freed_bytes": plan.freed_bytes, "paths": plan.removed}
        details = [*files, *(f"  {name}: {size:,} bytes" for name, size in plan.removed.items())]
        if options["dry_run"] or not files:
            self._print(options, {**record, "deleted": False}, [*details, f"{what} would be deleted."])
        elif options["yes"] or input(f"Delete {what}? [y/N] ").lower() == "y":
            run_verbs.delete_checkpoints(run, files)
            self._print(options, {**record, "deleted": True}, [*details, f"{what} were deleted."])

    def _export(self, options: Options) -> None:
        target: Path = options["target"]
        form = next((form for form in EXPORT_FORMS if target.suffix == f".{form}"), None)
        if form is None:
            raise CommandError(f"{target}: must end with .pt or .safetensors.")
        checkpoint = _checkpoint(_run(options["run"]), options["file"])
        size = run_verbs.copy_checkpoint(checkpoint, target, form)
        self._print(options, {"path": str(target), "size_bytes": size}, [f"{target}: {size:,} bytes."])

    def _print(self, options: Options, record: object, lines: Iterable[str] = ()) -> None:
        for line in [json.dumps(record)] if options["json"] else lines:
            self.stdout.write(line)


def _add(actions: Subcommands, name: str, about: str, files: str = "") -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(name, help=about)
    parser.add_argument("run", type=int, help="Number of the run.")
    if files:
        parser.add_argument("file", nargs="+" if files == "many" else None, help="Such as epoch_3.pt.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser


def _add_asking(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="Do not ask.")
    parser.add_argument("--dry-run", action="store_true", help="Only print what would be freed.")


def _run(number: int) -> TrainingRun:
    run = TrainingRun.objects.filter(pk=number).first()
    if run is None:
        raise CommandError(f"There is no run {number}.")
    return run


def _checkpoint(run: TrainingRun, file: str) -> Checkpoint:
    found = run.checkpoints.select_related("run").filter(file=file).first()
    if found is None:
        raise CommandError(f"Run {run.pk} has no checkpoint {file}.")
    return found


def _record(checkpoint: Checkpoint) -> dict[str, object]:
    checked_at = checkpoint.checked_at.isoformat() if checkpoint.checked_at else None
    record = {"run": checkpoint.run_id, **{name: getattr(checkpoint, name) for name in FIELDS}}
    return {**record, "created_at": checkpoint.created_at.isoformat(), "checked_at": checked_at}
