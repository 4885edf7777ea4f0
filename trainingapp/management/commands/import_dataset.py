"""Import a dataset in the foreground."""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from pydantic import ValidationError

from trainingapp.datasets.importing.inspection import Proposal, propose
from trainingapp.datasets.options import ClassChoice, ImportOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.opening import UNPACKED_DIR
from trainingapp.management.base import Options, StudioCommand
from trainingapp.management.foreground import find_owner, import_now, print_report, show_outcome
from trainingapp.presentation.validation_errors import error_text


class Command(StudioCommand):
    help = (
        "Import an archive or a folder: class folders, COCO JSON, YOLO, Pascal VOC, images with masks, a CSV of files "
        "and labels, or drawn scenes. Shows the validation report; the exit code is 1 when the dataset is refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, help="A zip, a tar or a folder on this machine; it is not changed.")
        parser.add_argument("--name", default="", help="Name of the dataset.")
        parser.add_argument("--owner", default="", help="Owner of the dataset (default: the first administrator).")
        parser.add_argument("--inspect", action="store_true", help="Only show the content; nothing is stored.")
        parser.add_argument("--json", action="store_true", help="With --inspect: print the whole proposal as JSON.")
        parser.add_argument(
            "--split",
            choices=["given", "stratified"],
            default="given",
            help="Split of the source, or a new stratified one.",
        )
        parser.add_argument("--val-share", type=float, default=0.2, help="Validation share (%(default)s).")
        parser.add_argument("--seed", type=int, default=0, help="Seed of a stratified split (%(default)s).")
        parser.add_argument(
            "--on-error",
            choices=["stop", "leave_out"],
            default="stop",
            help="Refuse a source with errors, or skip invalid images and objects.",
        )
        parser.add_argument(
            "--rename",
            action="append",
            default=[],
            metavar="OLD=NEW",
            help="Rename a class; repeatable. The same NEW for several classes merges them.",
        )
        parser.add_argument(
            "--leave-out", action="append", default=[], metavar="NAME", help="Exclude a class; repeatable."
        )
        parser.add_argument("--order", default="", metavar="A,B,C", help="Classes that come first, by their new names.")

    def handle(self, *, source: Path, name: str, owner: str, **options: object) -> None:
        if not source.exists():
            raise CommandError(f"{source} does not exist.")
        if options["inspect"]:
            self._inspect(source, as_json=bool(options["json"]))
            return
        if not name:
            raise CommandError("--name is required.")
        user = find_owner(owner)
        show_outcome(import_now(user, name, source, _import_options(source, options)))

    def _inspect(self, source: Path, *, as_json: bool) -> None:
        proposal = _proposal(source)
        if as_json:
            self.stdout.write(json.dumps(proposal, ensure_ascii=False, indent=1))
            return
        counts = ", ".join(f"{count:,} {part}" for part, count in proposal["images"].items() if count)
        self.stdout.write(f"Format {proposal['format']}, for {', '.join(proposal['tasks'])}. Images: {counts}.")
        for row in proposal["classes"]:
            self.stdout.write(f"  {row['name']}: {row['images']:,} images, {row['objects']:,} objects")
        print_report(proposal["report"])


def _proposal(source: Path) -> Proposal:
    try:
        with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=".inspect-") as folder:
            # A person at a shell may read every folder of the server, so that links lead nowhere else.
            return propose(source, scratch=Path(folder) / UNPACKED_DIR, may_follow=lambda _target: True)
    except DatasetError as error:
        print_report(error.items)
        raise CommandError("The source cannot be imported.") from None


def _import_options(source: Path, options: Options) -> ImportOptions:
    classes: list[ClassChoice] = []
    if options["rename"] or options["leave_out"] or options["order"]:
        found = [row["name"] for row in _proposal(source)["classes"]]
        classes = _choices(found, options["rename"], options["leave_out"], options["order"])
    try:
        return ImportOptions(
            classes=classes,
            split=options["split"],
            val_share=options["val_share"],
            seed=options["seed"],
            on_error=options["on_error"],
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"--{str(first['loc'][0]).replace('_', '-')}: {error_text(first)}") from None


def _choices(found: list[str], rename: list[str], leave_out: list[str], order: str) -> list[ClassChoice]:
    """Classes by their new names. Raises CommandError for an unknown class."""
    names = {name: name for name in found}
    for pair in rename:
        old, equals, new = pair.rpartition("=")
        if not equals or not new.strip():
            raise CommandError(f"--rename takes OLD=NEW, not {pair}.")
        _check_known([old], found)
        names[old] = new.strip()
    _check_known(leave_out, found)
    sources: dict[str, list[str]] = {}
    for name in found:
        if name not in leave_out:
            sources.setdefault(names[name], []).append(name)
    first = [name.strip() for name in order.split(",") if name.strip()]
    _check_known(first, list(sources))
    ordered = list(dict.fromkeys([*first, *sources]))
    if not ordered:
        raise CommandError("No class is left.")
    return [ClassChoice(name=name, sources=sources[name]) for name in ordered]


def _check_known(names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise CommandError(f"There is no class {name}; there are {', '.join(known[:20])}.")
