"""manage.py weights published: the weights that new runs can start from."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.contrib.auth.models import User
from django.core.management import CommandError

from trainingapp.contract.messages import from_data
from trainingapp.management.base import Options, Subcommands, table_lines
from trainingapp.management.following import follow_job
from trainingapp.models import Job
from trainingapp.weights import published
from trainingapp.weights.published import Entry

HEADING = ("NAME", "STATE", "MB", "LICENSE", "SHA-256", "NETWORKS")
HASH_SHOWN = 12
NETWORKS_SHOWN = 3


def add_published(actions: Subcommands) -> None:
    """The subcommands of `manage.py weights published`."""
    parser = actions.add_parser("published", help="List, fetch, import and delete published weights.")
    steps = parser.add_subparsers(dest="step", required=True, metavar="ACTION")
    listing = steps.add_parser("list", help="List the published weights, and which are in the cache.")
    listing.add_argument("--cached", action="store_true", help="Only those in the cache.")
    listing.add_argument("--json", action="store_true", help="Print JSON.")
    fetch = steps.add_parser("fetch", help="Download weights into the cache, by their name or that of a network.")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    importing = steps.add_parser("import", help="Import a zip, a folder or files, for a machine without network.")
    importing.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    delete = steps.add_parser("delete", help="Delete weights from the cache.")
    delete.add_argument("names", nargs="+", metavar="NAME")


def run_published(options: Options) -> Iterator[str]:
    """Carry out a subcommand; yields the lines to print. Raises CommandError, VerbError."""
    match options["step"]:
        case "list":
            yield from _list(as_json=options["json"], cached=options["cached"])
        case "fetch":
            for name in options["names"]:
                yield from _fetch(name)
        case "import":
            yield from _import(options["paths"])
        case _:
            for name in options["names"]:
                freed = published.delete_published(name, by=_administrator(), from_shell=True)
                yield f"{name} was deleted: {freed:,} bytes."


def _list(*, as_json: bool, cached: bool) -> Iterator[str]:
    found = [one for one in published.entries() if one.is_cached or not cached]
    if as_json:
        yield json.dumps([_record(one) for one in found])
    else:
        yield from table_lines(HEADING, map(_row, found))


def _record(one: Entry) -> dict[str, object]:
    about = one.published
    return {
        "name": one.name,
        "url": about.url,
        "data": about.data,
        "licence": about.licence,
        "used_by": one.used_by,
        "is_cached": one.is_cached,
        "path": str(one.path) if one.path else "",
        "size_bytes": one.size_bytes or one.expected_bytes,
        "sha256": one.sha256,
    }


def _row(one: Entry) -> tuple[str, ...]:
    size_bytes = one.size_bytes or one.expected_bytes
    more = len(one.networks) - NETWORKS_SHOWN
    networks = ", ".join(one.networks[:NETWORKS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    size = f"{size_bytes / published.MB:.1f}" if size_bytes else "–"
    state = "cached" if one.is_cached else "missing"
    return (one.name, state, size, one.published.licence or "–", one.sha256[:HASH_SHOWN] or "–", networks or "–")


def _fetch(name: str) -> Iterator[str]:
    for one in published.named(name):
        if one.is_cached:
            yield f"{one.name} is in the cache."
            continue
        job = follow_job(published.request_fetch(one.name, by=_administrator()), f"Downloading {one.name}")
        yield f"{one.name} is in the cache now: {job.result['size_bytes']:,} bytes, SHA-256 {job.result['sha256']}."


def _import(paths: list[Path]) -> Iterator[str]:
    if missing := next((path for path in paths if not path.exists()), None):
        raise CommandError(f"{missing}: no such file.")
    if len(paths) == 1 and (paths[0].is_dir() or paths[0].suffix == ".zip"):
        asked = published.request_import(folder=paths[0], by=_administrator(), from_shell=True)
        yield from _followed(asked)
        return
    with tempfile.TemporaryDirectory() as folder:  # the job moves what it gets
        copies = [(path.name, Path(shutil.copy(path, Path(folder) / f"{number}"))) for number, path in enumerate(paths)]
        asked = published.request_import(copies, by=_administrator(), from_shell=True)
    yield from _followed(asked)


def _followed(asked: Job) -> Iterator[str]:
    job = follow_job(asked, "Importing")
    for name in job.result["imported"]:
        yield f"{name} is in the cache now."
    for problem in job.result["refused"]:
        yield f"Not imported: {from_data(problem) or problem['message']}"


def _administrator() -> User:
    found = User.objects.filter(is_superuser=True).order_by("pk").first()
    if found is None:
        raise CommandError("There is no administrator yet.")
    return found
