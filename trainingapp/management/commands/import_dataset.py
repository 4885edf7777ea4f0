"""Import a dataset in the foreground."""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import get_args

from django.conf import settings
from django.core.management.base import CommandError
from pydantic import ValidationError

from trainingapp.datasets.importing.inspection import Proposal, propose
from trainingapp.datasets.importing.reading_record import record_of_refused
from trainingapp.datasets.options import ClassChoice, ImportOptions, ReadingOptions
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.opening import UNPACKED_DIR
from trainingapp.management.base import Options, StudioCommand
from trainingapp.management.foreground import (
    find_owner,
    import_now,
    print_reading,
    print_report,
    show_outcome,
)
from trainingapp.presentation.validation_errors import error_text

#: Option -> metavar and help; without a metavar, the help lists the values of the field.
_READING: dict[str, tuple[str | None, str]] = {
    "format": ("NAME", "Format of the source, such as coco or class_folders."),
    "name_encoding": ("ENCODING", "Encoding of the names in an archive, such as shift_jis."),
    "text_encoding": ("ENCODING", "Encoding of the annotation files, such as gb18030."),
    "splits": (None, "Where the splits come from."),
    "class_from": (None, "Where the class of an image comes from."),
    "label_mode": (None, "One or several labels per image."),
    "mask_values": (None, "Masks of one class with soft edges, or of a class for each value."),
    "void_value": (None, "Meaning of the value 255 in masks."),
    "first_pixel": (None, "Coordinate of the first pixel in Pascal VOC."),
    "depth": (None, "Scaling of images of more than 8 bits per channel."),
    "bands": ("R,G,B", "Channels that become red, green and blue, counted from 0."),
}


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
        group = parser.add_argument_group("how to read the source", "--inspect shows what each of them is for.")
        for name, (metavar, text) in _READING.items():
            # Literal fields list their values; of the others argparse gets None, which allows any text.
            choices = get_args(ReadingOptions.model_fields[name].annotation) if metavar is None else None
            group.add_argument(
                f"--{name.replace('_', '-')}", default="auto", choices=choices, metavar=metavar, help=text
            )

    def handle(self, *, source: Path, name: str, owner: str, **options: object) -> None:
        if not source.exists():
            raise CommandError(f"{source} does not exist.")
        reading = _reading_options(options)
        if options["inspect"]:
            self._inspect(source, reading, as_json=bool(options["json"]))
            return
        if not name:
            raise CommandError("--name is required.")
        user = find_owner(owner)
        show_outcome(import_now(user, name, source, _import_options(source, options, reading)))

    def _inspect(self, source: Path, reading: ReadingOptions, *, as_json: bool) -> None:
        proposal = _proposal(source, reading)
        if as_json:
            self.stdout.write(json.dumps(proposal, ensure_ascii=False, indent=1))
            return
        counts = ", ".join(f"{count:,} {part}" for part, count in proposal["images"].items() if count)
        self.stdout.write(f"Format {proposal['format']}, for {', '.join(proposal['tasks'])}. Images: {counts}.")
        for row in proposal["classes"]:
            self.stdout.write(f"  {row['name']}: {row['images']:,} images, {row['objects']:,} objects")
        print_reading(proposal["reading"])
        print_report(proposal["report"])


def _proposal(source: Path, reading: ReadingOptions) -> Proposal:
    try:
        with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=".inspect-") as folder:
            # A user of the shell may read every folder of the server, so links grant no further access.
            return propose(
                source, reading=reading, scratch=Path(folder) / UNPACKED_DIR, may_follow=lambda _target: True
            )
    except DatasetError as error:
        print_report(error.items)
        print_reading(record_of_refused(error.offers))
        raise CommandError("The source cannot be imported.") from None


def _reading_options(options: Options) -> ReadingOptions:
    values: dict[str, object] = {name: options[name] for name in _READING}
    bands = str(values.pop("bands"))
    if bands != "auto":
        values["bands"] = bands.split(",")
    try:
        return ReadingOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"--{str(first['loc'][0]).replace('_', '-')}: {error_text(first)}") from None


def _import_options(source: Path, options: Options, reading: ReadingOptions) -> ImportOptions:
    classes: list[ClassChoice] = []
    if options["rename"] or options["leave_out"] or options["order"]:
        found = [row["name"] for row in _proposal(source, reading)["classes"]]
        classes = _choices(found, options["rename"], options["leave_out"], options["order"])
    try:
        return ImportOptions(
            classes=classes,
            split=options["split"],
            val_share=options["val_share"],
            seed=options["seed"],
            on_error=options["on_error"],
            reading=reading,
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
