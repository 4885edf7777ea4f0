"""manage.py weights: the stored models."""

import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TypedDict

import yaml
from django.contrib.auth.models import User
from django.core.management import CommandError

from trainingapp.contract.export_options import AXES, ExportOptions
from trainingapp.contract.job_request import read_json
from trainingapp.contract.model_card import EXPORT_FILES, NORMALISATIONS
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.management.base import Options, StudioCommand, Subcommands, table_lines
from trainingapp.management.finding import find_dataset
from trainingapp.management.following import follow_job
from trainingapp.management.published import add_published, run_published
from trainingapp.management.sharing import add_share, share_item
from trainingapp.models import Job, TrainingRun, Weights
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.event_text import damage_text
from trainingapp.weights import verbs as weights_verbs
from trainingapp.weights.aliases import by_alias, remove_alias, set_alias

#: Fields of a model in the JSON output.
FIELDS = (  # noqa: SIM905
    "id name version state problem source task architecture classes image_size normalisation conversion metrics "
    "run_id run_name checkpoint_file epoch dataset_id dataset_name dataset_fingerprint parent_id licence note "
    "size_bytes sha256 report"
).split()
HEADING = ("ID", "NAME", "ALIASES", "STATE", "TASK", "ARCHITECTURE", "BYTES", "FROM", "OWNER")


class RunName(TypedDict):
    """A run by number and name."""

    id: int
    name: str


class CorruptedWeights(TypedDict):
    """A model whose file does not match its hash, with the runs that start from it."""

    id: int
    name: str
    damage: str
    runs: list[RunName]


class Command(StudioCommand):
    help = "Save, list, verify, export and delete models, and predict with them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="List the models.")
        listing.add_argument("--task", "--recipe", choices=list(TASKS), help="Only models of this task.")
        _add_json(listing)
        show = actions.add_parser("show", help="Show one model.")
        show.add_argument("weights", metavar="ID|NAME[:VERSION|@ALIAS]")
        _add_json(show)
        verify = actions.add_parser("verify", help="Compare the files of some models, or of all, with their hashes.")
        verify.add_argument("weights", nargs="*", metavar="ID|NAME[:VERSION|@ALIAS]")
        verify.add_argument("--json", action="store_true", help="Print the damaged ones as a JSON array.")
        _add_making(actions)
        update = actions.add_parser("update", help="Change name, note or licence.")
        update.add_argument("weights", metavar="ID|NAME[:VERSION|@ALIAS]")
        update.add_argument("--name", help="The model becomes the next version of that name.")
        update.add_argument("--note")
        update.add_argument("--licence")
        _add_json(update)
        alias = actions.add_parser("alias", help="Set an alias of a model, such as production, or remove it.")
        alias.add_argument("weights", metavar="ID|NAME[:VERSION|@ALIAS]")
        alias.add_argument("alias")
        alias.add_argument("--remove", action="store_true", help="Take the alias from this version.")
        _add_json(alias)
        add_share(actions, "ID|NAME[:VERSION|@ALIAS]")
        export = actions.add_parser("export", help="Export a model as a zip.")
        export.add_argument("weights", metavar="ID|NAME[:VERSION|@ALIAS]")
        export.add_argument("--format", action="append", choices=list(EXPORT_FILES), help="Repeatable; all by default.")
        _add_export_options(export)
        export.add_argument("--out", type=Path, metavar="FILE.zip", help="./NAME-vVERSION.zip by default.")
        _add_json(export)
        delete = actions.add_parser("delete", help="Delete models with their files.")
        delete.add_argument("weights", nargs="+", metavar="ID|NAME[:VERSION|@ALIAS]")
        delete.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
        delete.add_argument("--dry-run", action="store_true", help="Only print what would be freed, and what uses it.")
        _add_predict(actions)
        add_published(actions)

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except VerbError as error:
            raise CommandError(str(error)) from None

    def _list(self, options: Options) -> None:
        rows = Weights.objects.select_related("owner", "parent").prefetch_related("aliases")
        if options["task"]:
            rows = rows.filter(task=options["task"])
        if options["json"]:
            self.stdout.write(json.dumps([_record(row) for row in rows]))
            return
        for line in table_lines(HEADING, map(_summary, rows)):
            self.stdout.write(line)

    def _show(self, options: Options) -> None:
        self._print(_record(_weights(options["weights"])), options["json"])

    def _verify(self, options: Options) -> None:
        named = [_weights(name) for name in options["weights"]]
        rows = named or list(Weights.objects.filter(state=Weights.State.READY))
        damaged = [row for row in rows if weights_verbs.verify_weights(row)]
        if options["json"]:
            self.stdout.write(json.dumps([_corrupted(row) for row in damaged]))
        for row in [] if options["json"] else damaged:
            runs = "".join(f" Run {run['id']} “{run['name']}” starts from it." for run in _corrupted(row)["runs"])
            self.stdout.write(f"{row} {damage_text(row)}.{runs}")
        if not options["json"]:
            self.stdout.write(f"{len(rows)} compared, {len(damaged)} damaged.")
        if damaged:
            sys.exit(1)

    def _save(self, options: Options) -> None:
        run = TrainingRun.objects.filter(pk=options["run"]).select_related("dataset", "owner").first()
        if run is None:
            raise CommandError(f"There is no run {options['run']}.")
        owner = _owner(options["owner"]) if options["owner"] else run.owner
        about = {"name": options["name"] or run.name, "note": options["note"], "licence": options["licence"]}
        self._finish(weights_verbs.save_weights(run, file=options["file"], by=owner, **about), options)

    def _upload(self, options: Options) -> None:
        source: Path = options["file"]
        if not source.is_file():
            raise CommandError(f"{source}: no such file.")
        names = ("name", "task", "architecture", "image_size", "normalisation", "label_mode", "note", "licence")
        values = {name: options[name] for name in names}
        text: str = options["classes"]
        # Longer texts are lists: to look for a file of such a name would fail.
        is_file = len(text) < 1000 and Path(text).is_file()
        classes = Path(text).read_text(encoding="utf-8").splitlines() if is_file else text.split(",")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(source, folder))
            weights = weights_verbs.upload_weights(
                owner=_owner(options["owner"]),
                path=copy,
                file_name=source.name,
                classes=classes,
                **values,
            )
        self._finish(weights, options)

    def _update(self, options: Options) -> None:
        weights = _weights(options["weights"])
        changes = {name: options[name] for name in ("name", "note", "licence")}
        if not any(change is not None for change in changes.values()):
            raise CommandError("Give --name, --note or --licence.")
        weights_verbs.update_weights(weights, **changes)
        self._print(_record(weights), options["json"], f"It is now “{weights}”.")

    def _alias(self, options: Options) -> None:
        weights = _weights(options["weights"])
        if options["remove"]:
            remove_alias(weights, options["alias"])
        else:
            set_alias(weights, options["alias"])
        names = ", ".join(_aliases(weights)) or "none"
        self._print(_record(weights), options["json"], f"Aliases of {weights}: {names}.")

    def _share(self, options: Options) -> None:
        self.stdout.write(share_item(_weights(options["item"]), options))

    def _finish(self, weights: Weights, options: Options) -> None:
        """Wait until the file is written, then print the model."""
        if weights.job is not None and not weights.is_ready:
            follow_job(weights.job, "Writing")
        weights.refresh_from_db()
        part = "" if weights.is_whole else " It is not a complete network: it can only be the start of a run."
        self._print(_record(weights), options["json"], f"{weights} is number {weights.pk}.{part}")

    def _export(self, options: Options) -> None:
        weights = _weights(options["weights"])
        formats = options["format"] or list(EXPORT_FILES)
        choices = {field.name: options[field.name] for field in fields(ExportOptions)}
        asked = weights_verbs.export_weights(
            weights, formats=formats, options=ExportOptions(**choices), by=weights.owner
        )
        job = follow_job(asked, "Exporting")
        target = options["out"] or Path(f"{weights.name}-v{weights.version}.zip".replace("/", "-"))
        shutil.copy(job.folder / job.result["file"], target)
        record = {"file": str(target), **{name: job.result[name] for name in ("size_bytes", "sha256", "formats")}}
        self._print(record, options["json"])

    def _delete(self, options: Options) -> None:
        for name in options["weights"]:
            weights = _weights(name)
            size, uses = weights_verbs.weights_deletion_size(weights), weights_verbs.weights_uses(weights)
            made = [*map(str, uses.children), *(f"run {run.pk} “{run.name}”" for run in uses.runs)]
            freed = f"{size.bytes:,} bytes in {size.files:,} files"
            used = f" Made from it: {', '.join(made)}." if made else " Nothing was made from it."
            if options["dry_run"]:
                self.stdout.write(f"“{weights}” would be deleted: {freed}.{used}")
            elif options["yes"] or input(f"Delete “{weights}” with {freed}?{used} [y/N] ").lower() == "y":
                title = str(weights)
                weights_verbs.delete_weights(weights)
                self.stdout.write(f"“{title}” was deleted: {freed}.")

    def _predict(self, options: Options) -> None:
        weights = _weights(options["weights"])
        if options["dataset"]:
            dataset = find_dataset(options["dataset"], "--dataset: ")
            asked = weights_verbs.predict_dataset(weights, dataset, split=options["split"], by=weights.owner)
        elif len(options["images"]) == 1 and options["images"][0].is_dir():
            asked = weights_verbs.predict_folder(weights, options["images"][0], by=weights.owner, from_shell=True)
        else:
            asked = _prediction_of(weights, options["images"])
        job = follow_job(asked, "Predicting")
        if job.kind == Job.Kind.PREDICT:
            found = read_json(job.folder / "predictions.json") or {"images": []}
            for one in found["images"]:
                self.stdout.write(json.dumps(one, ensure_ascii=False))
            return
        if options["out"]:
            shutil.copy(job.folder / job.result["file"], options["out"])
        self._print(job.result, options["json"])

    def _published(self, options: Options) -> None:
        for line in run_published(options):
            self.stdout.write(line)

    def _print(self, record: dict[str, object], as_json: bool, line: str = "") -> None:
        if as_json:
            self.stdout.write(json.dumps(record, ensure_ascii=False))
        elif line:
            self.stdout.write(line)
        else:
            self.stdout.write(yaml.safe_dump(record, sort_keys=False, allow_unicode=True).rstrip())


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def _add_about(parser: ArgumentParser) -> None:
    parser.add_argument("--note", default="")
    parser.add_argument("--licence", default="")
    parser.add_argument("--owner", metavar="USER")
    _add_json(parser)


def _add_making(actions: Subcommands) -> None:
    """The subcommands that create a model."""
    save = actions.add_parser("save", help="Save a checkpoint of a run.")
    save.add_argument("run", type=int)
    save.add_argument("--file", metavar="EPOCH_N.PT", help="The best one by default.")
    save.add_argument("--name", help="The name of the run by default.")
    _add_about(save)
    upload = actions.add_parser("upload", help="Upload a .safetensors, .pt, .pth, .ckpt, .pth.tar or .bin file.")
    upload.add_argument("file", type=Path)
    upload.add_argument("--name", required=True)
    upload.add_argument("--task", "--recipe", required=True, choices=list(TASKS))
    upload.add_argument("--architecture", required=True)
    upload.add_argument("--image-size", type=int, required=True)
    upload.add_argument("--classes", required=True, metavar="A,B,...|FILE", help="In order; or a file, one per line.")
    upload.add_argument("--normalisation", choices=list(NORMALISATIONS), default="imagenet")
    upload.add_argument("--label-mode", choices=["single", "multi"], default="single", help="Labels per image.")
    _add_about(upload)


def _add_predict(actions: Subcommands) -> None:
    predict = actions.add_parser("predict", help="Predict images, a folder or a dataset.")
    predict.add_argument("weights", metavar="ID|NAME[:VERSION|@ALIAS]")
    predict.add_argument("images", nargs="*", type=Path, metavar="IMAGE|FOLDER")
    predict.add_argument("--dataset", metavar="NAME")
    predict.add_argument("--split", choices=["train", "val", "all"], default="val")
    predict.add_argument("--out", type=Path, metavar="FILE.jsonl", help="File for predictions of a folder or dataset.")
    _add_json(predict)


def _add_export_options(export: ArgumentParser) -> None:
    """Choices for ONNX and OpenVINO."""
    export.add_argument("--batch", choices=AXES, default="fixed", help="One image, or a dynamic batch size.")
    export.add_argument("--size", choices=AXES, default="fixed", help="The model's image size, or dynamic.")
    export.add_argument("--opset", type=int, metavar="N", help="Version of the ONNX operators.")
    export.add_argument("--half", action="store_true", help="Store the weights as float16.")
    export.add_argument("--nms", action="store_true", help="Non-maximum suppression inside the model.")


def _prediction_of(weights: Weights, paths: list[Path]) -> Job:
    with ExitStack() as stack:
        try:
            files = [(path.name, stack.enter_context(path.open("rb"))) for path in paths]
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        return weights_verbs.predict(weights, images=files, by=weights.owner)


def _weights(wanted: str) -> Weights:
    """Find a model by name (its newest version), name and version, name and alias, or number. Raises CommandError."""
    name, colon, version = wanted.rpartition(":")
    rows = Weights.objects.select_related("owner")
    found = rows.filter(name=wanted).order_by("-version").first()
    if found is None and colon and version.isdecimal():
        found = rows.filter(name=name, version=int(version)).first()
    if found is None and "@" in wanted:
        aliased, _at, alias = wanted.rpartition("@")
        found = by_alias(rows, aliased, alias)
    if found is None and wanted.isdecimal():
        found = rows.filter(pk=int(wanted)).first()
    if found is None:
        raise CommandError(f"There are no weights {wanted}.")
    return found


def _owner(name: str | None) -> User:
    users = User.objects
    owner = users.filter(username=name).first() if name else users.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise CommandError(f"--owner: there is no user {name}." if name else "There is no administrator yet.")
    return owner


def _corrupted(weights: Weights) -> CorruptedWeights:
    runs: list[RunName] = [{"id": run.pk, "name": run.name} for run in weights_verbs.weights_uses(weights).runs]
    return {"id": weights.pk, "name": str(weights), "damage": damage_text(weights), "runs": runs}


def _record(weights: Weights) -> dict[str, object]:
    values = {name: getattr(weights, name) for name in FIELDS}
    made = {
        "is_whole": weights.is_whole,
        "aliases": _aliases(weights),
        "owner": weights.owner.get_username(),
        "path": str(weights.path),
    }
    return {**values, **made, "created_at": weights.created_at.isoformat()}


def _aliases(weights: Weights) -> list[str]:
    return [each.alias for each in weights.aliases.all()]


def _summary(row: Weights) -> tuple[str, ...]:
    origin = str(row.parent or row.run_name or row.source)
    aliases = ",".join(_aliases(row)) or "–"
    about = (aliases, row.state, row.task, row.architecture, f"{row.size_bytes:,}", origin, row.owner.get_username())
    return (str(row.pk), str(row), *about)
