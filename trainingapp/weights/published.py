"""Published weights in the cache of the studio: list, fetch, import, delete.

Anyone may look at them, and who may create something may fetch a file: it comes from the address in our tables, and
its hash is verified. Importing and deleting is for administrators: an imported file may have no hash to be compared
with, and later runs of every user start from it.
"""

import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.permissions import Verb, can, refusal
from trainingapp.contract.fine_tuning import rate_advice, usual_rate
from trainingapp.contract.messages import VERBATIM, Message, MessageError, from_data, sentences
from trainingapp.contract.messages.published import (
    AMBIGUOUS,
    FETCH_OFF,
    FETCHING,
    IMPORT_REFUSED,
    IMPORTING,
    MATCHES_NOTHING,
    NAME_UNKNOWN,
    NO_FILES,
    NOTHING_IMPORTED,
)
from trainingapp.contract.pretrained import AUTO, expected_kind, outlook
from trainingapp.contract.published_files import (
    NotPublished,
    downloaded,
    located,
    remove,
    store,
    stored_hash,
)
from trainingapp.contract.published_weights import KINDS, Kind, Published, hub_file
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.contract.weight_files import ENDINGS
from trainingapp.datasets.import_rights import may_import_from
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.folders import LinkRule, within_the_folder
from trainingapp.datasets.sources.limits import check_disk_space
from trainingapp.datasets.sources.opening import open_source
from trainingapp.datasets.sources.source import SourceFile, pieces_of
from trainingapp.jobs.kinds import JobRefused, ReportProgress
from trainingapp.jobs.verbs import prepared_job, request_job, submit_job
from trainingapp.models import Job
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import rendered

#: As pages show sizes of files.
MB = 2**20
#: The uploaded files in the folder of an import, and where archives in it are unpacked.
UPLOAD_DIR, SCRATCH_DIR = "upload", ".unpacked"
#: Problems that are named; the others are counted by the page of the job.
PROBLEMS_NAMED = 8
FILES_AT_MOST = 200
#: Repositories of these users of the hub are imported also where no table has them: their networks can be named freely.
OPEN_USERS = ("timm", "smp-hub")
HUB_DIR = "hub"

_REPOSITORY = re.compile(rf"(?:models--)?({'|'.join(OPEN_USERS)})--([A-Za-z0-9][A-Za-z0-9._-]{{0,120}})")


@dataclass(frozen=True)
class Entry:
    """Published weights with their state. `used_by`: names of networks by task. `sha256` is only its beginning where
    the file has not been verified here."""

    published: Published
    used_by: Mapping[str, list[str]] = field(default_factory=dict)
    path: Path | None = None
    size_bytes: int = 0
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.published.name

    @property
    def is_cached(self) -> bool:
        return self.path is not None

    @property
    def expected_bytes(self) -> int:
        """The size of the file that would be downloaded; 0 where it is not known."""
        return round(self.published.megabytes * 1_000_000)

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(name for names in self.used_by.values() for name in names))


def cache_folder() -> Path:
    return Path(settings.WEIGHTS_CACHE_DIR)


def entries() -> list[Entry]:
    """The weights of all networks of the tables, and further ones in the cache, by name."""
    used: dict[str, dict[str, list[str]]] = {}
    known: dict[str, Published] = {}
    for task in TASKS.values():
        for model in task.architectures:
            for published in task.published(model).values():
                known[published.name] = published
                used.setdefault(published.name, {}).setdefault(task.name, []).append(model)
    for published in _others_in_the_cache():
        known.setdefault(published.name, published)
    return [_entry(published, used.get(name, {})) for name, published in sorted(known.items())]


def entry(name: str) -> Entry:
    """The entry of this name. Raises VerbError."""
    found = next((one for one in entries() if one.name == name), None)
    if found is None:
        raise VerbError(rendered(NAME_UNKNOWN(name=name)))
    return found


def named(name: str) -> list[Entry]:
    """The entry of this name, or those that the network of this name can start from. Raises VerbError."""
    everything = entries()
    found = [one for one in everything if one.name == name] or [one for one in everything if name in one.networks]
    if not found:
        raise VerbError(rendered(NAME_UNKNOWN(name=name)))
    return found


def _others_in_the_cache() -> Iterator[Published]:
    for path in sorted((cache_folder() / HUB_DIR).glob("*/*")):
        match = _REPOSITORY.fullmatch(path.parent.name)
        if match and path.name.endswith(ENDINGS) and not path.name.startswith("."):
            yield hub_file(f"{match[1]}/{match[2]}", file=path.name, licence="")


def _entry(published: Published, used_by: Mapping[str, list[str]]) -> Entry:
    path = located(published, cache_folder())
    if path is None:
        return Entry(published, used_by, sha256=published.digest)
    return Entry(published, used_by, path, path.stat().st_size, stored_hash(path) or published.digest)


def outlook_of(task: str, values: Mapping[str, object]) -> str:
    """What `pretrained` of a run with these values would do now, for its form; empty where there is nothing to say.

    Of `auto`, what it would become; and advice about the learning rate where published weights would be loaded.
    """
    pretrained, model = values.get("pretrained"), str(values.get("model"))
    starts_from = bool(values.get("start_from"))
    if task not in TASKS:
        return ""
    found: list[Message] = []
    kind = pretrained
    if pretrained == AUTO:
        options: Mapping[Kind, Published] = TASKS[task].published(model)
        is_listed, mode = model in TASKS[task].architectures, settings.PUBLISHED_WEIGHTS
        found = [outlook(options, cache_folder(), mode, model=model, is_listed=is_listed, starts_from=starts_from)]
        kind = expected_kind(options, cache_folder(), mode)
    if kind in KINDS and not starts_from and (advice := _rate_advice(task, model, values)):
        found.append(advice)
    return rendered(sentences(*found)) if len(found) > 1 else "".join(map(rendered, found))


def _rate_advice(task: str, model: str, values: Mapping[str, object]) -> Message | None:
    try:
        rate = float(str(values.get("learning_rate")))
    except ValueError:  # of a form that is being filled in
        return None
    usual = usual_rate(TASKS[task].fine_tuning_rates, model)
    return rate_advice(usual, optimizer=str(values.get("optimizer")), learning_rate=rate)


# Fetching


def request_fetch(name: str, *, by: User) -> Job:
    """Have a worker download the weights of this name. Raises VerbError."""
    if not can(by, Verb.CREATE):
        raise VerbError(refusal(Verb.CREATE))
    if settings.PUBLISHED_WEIGHTS != "download":
        raise VerbError(rendered(FETCH_OFF()))
    found = entry(name)
    with transaction.atomic():
        audit.record("fetch_published", details={"name": name})
        params = {"name": name, "megabytes": found.published.megabytes}
        return request_job(Job.Kind.FETCH_PUBLISHED, owner=by, params=params)


def fetch(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work: download a file into the cache. Raises JobRefused."""
    try:
        found = entry(str(job.params["name"]))
        phase = FETCHING(name=found.name)

        def progress(done: int, total: int) -> None:
            report(done // MB, -(-(total or found.expected_bytes) // MB), phase)

        path = downloaded(found.published, cache_folder(), progress)
    except VerbError as error:
        raise JobRefused(str(error)) from error
    except MessageError as error:
        raise JobRefused(error.message) from error
    return {"name": found.name, "size_bytes": path.stat().st_size, "sha256": stored_hash(path)}


# Importing


def request_import(
    uploads: Iterable[tuple[str, Path]] = (), *, folder: Path | None = None, by: User, from_shell: bool = False
) -> Job:
    """Have a worker import uploaded files (name, path), which are moved, or a folder of the server.

    Raises VerbError.
    """
    if not from_shell and not can(by, Verb.ADMINISTER):
        raise VerbError(refusal(Verb.ADMINISTER))
    if folder is not None:
        return _request(folder, {}, by, folder=folder.resolve(), from_shell=from_shell)
    return _request(None, dict(uploads), by)


def _request(
    source: Path | None, uploads: Mapping[str, Path], by: User, *, folder: Path | None = None, from_shell: bool = False
) -> Job:
    if folder is not None:
        if not from_shell and not may_import_from(by, folder):
            raise VerbError(_("Files cannot be read from %(folder)s.") % {"folder": folder})
        if not folder.exists():
            raise VerbError(_("The folder %(folder)s does not exist on the server.") % {"folder": folder})
    elif not uploads:
        raise VerbError(_("Choose a zip or files of weights."))
    if len(uploads) > FILES_AT_MOST:
        raise VerbError(_("Choose at most %(count)d files, or pack them into a zip.") % {"count": FILES_AT_MOST})
    params: dict[str, object] = {"folder": str(folder) if folder else "", "follow": from_shell}
    job = prepared_job(Job.Kind.IMPORT_PUBLISHED, owner=by, params=params)
    for name, path in uploads.items():
        target = job.folder / UPLOAD_DIR / safe_name(name)
        target.parent.mkdir(exist_ok=True)
        shutil.move(path, target)
    with transaction.atomic():
        details: dict[str, object] = {"folder": str(source)} if source else {"files": list(uploads)[:PROBLEMS_NAMED]}
        audit.record("import_published", details=details)
        return submit_job(job)


def safe_name(name: str) -> str:
    """The name of an uploaded file, which a browser or a program chose, as that of a file in one folder."""
    plain = PurePosixPath(name.replace("\\", "/")).name.replace("\0", "")
    return plain if plain not in ("", ".", "..") and not plain.startswith(".") else "file"


def import_files(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work: copy what is published into the cache, verified. Raises JobRefused where there is nothing of it."""
    folder = str(job.params["folder"])
    source = Path(folder) if folder else job.folder / UPLOAD_DIR
    follow: LinkRule = (lambda target: may_import_from(job.owner, target)) if folder else within_the_folder
    if job.params.get("follow"):
        follow = _any_link
    try:
        with open_source(source, scratch=job.folder / SCRATCH_DIR, may_follow=follow) as opened:
            return _imported(opened.files, report)
    except DatasetError as error:
        raise JobRefused(_message(error)) from error


def _any_link(target: Path) -> bool:
    """A person at the shell of the server reads what the server may read."""
    return True


def _imported(files: list[SourceFile], report: ReportProgress) -> Mapping[str, object]:
    chosen: list[tuple[SourceFile, Published]] = []
    problems: list[Message] = []
    for file in files:
        if file.path.lower().endswith(ENDINGS):
            match = published_for(file.path)
            if isinstance(match, Message):
                problems.append(match)
            else:
                chosen.append((file, match))
    if not chosen and not problems:
        raise JobRefused(NOTHING_IMPORTED(problems=NO_FILES()))
    total = sum(file.size_bytes for file, _published in chosen)
    cache_folder().mkdir(parents=True, exist_ok=True)
    check_disk_space(cache_folder(), total)
    imported, before = [], 0
    for file, published in chosen:
        problem = _store(file, published, report, before, total)
        if problem is None:
            imported.append(published.name)
        else:
            problems.append(problem)
        before += file.size_bytes
    if not imported:
        raise JobRefused(NOTHING_IMPORTED(problems=sentences(*problems[:PROBLEMS_NAMED])))
    refused = [{**problem.as_data(), "message": str(problem)} for problem in problems[:PROBLEMS_NAMED]]
    return {"imported": imported, "refused": refused, "more_refused": max(0, len(problems) - PROBLEMS_NAMED)}


def _store(file: SourceFile, published: Published, report: ReportProgress, before: int, total: int) -> Message | None:
    """Copy one file; returns why it is refused."""

    def progress(done: int, _of: int) -> None:
        report((before + done) // MB, -(-total // MB), IMPORTING())

    try:
        store(published, cache_folder(), _Pieces(pieces_of(file)), progress, total=file.size_bytes)
    except NotPublished as error:
        return IMPORT_REFUSED(path=file.path, damage=error.message)
    except DatasetError as error:
        return IMPORT_REFUSED(path=file.path, damage=_message(error))
    except (OSError, zipfile.BadZipFile) as error:
        return IMPORT_REFUSED(path=file.path, damage=str(error))
    return None


class _Pieces:
    """A file that is read piece by piece, as `store` reads one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int, /) -> bytes:
        return next(self._pieces, b"")


def published_for(path: str) -> Published | Message:
    """What a file of this path in a zip or a folder is, by its name and those of its folders; or why that is unknown.

    torchvision's files have names of their own. Files of the hub are all called model.safetensors: a folder, or the
    file itself, has the name of the repository, as timm--resnet10t.c3_in1k, models--timm--resnet10t.c3_in1k,
    resnet10t.c3_in1k or timm/resnet10t.c3_in1k.
    """
    parts = PurePosixPath(path).parts
    file, stem = parts[-1], PurePosixPath(parts[-1]).stem
    listed = [one.published for one in entries()]
    if found := next((one for one in listed if one.place.startswith("checkpoints/") and one.file == file), None):
        return found
    suffix = PurePosixPath(file).suffix
    names = {*parts[:-1], stem, *map("--".join, pairwise(parts))}
    for one in listed:
        repository = one.name.replace("/", "--")
        forms = {repository, f"models--{repository}", one.name.rpartition("/")[2]}
        if "/" in one.name and one.file.endswith(suffix) and forms & names:
            return one
    for name in sorted(names):
        if (match := _REPOSITORY.fullmatch(name)) and suffix == ".safetensors":
            return hub_file(f"{match[1]}/{match[2]}", licence="")
    is_ambiguous = any(file == one.file for one in listed)
    return AMBIGUOUS(path=path, folder="timm--resnet10t.c3_in1k") if is_ambiguous else MATCHES_NOTHING(path=path)


def _message(error: DatasetError) -> Message:
    item = error.items[0]
    return from_data(item.get("text")) or VERBATIM(text=item["message"])


def drop_upload(job: Job, _result: object) -> None:
    """Remove what was uploaded for the import: it may be large."""
    shutil.rmtree(job.folder / UPLOAD_DIR, ignore_errors=True)


def drop_failed_upload(job: Job, _message: Message) -> bool:
    """The same for an import that failed or was cancelled."""
    drop_upload(job, None)
    return True


# Deleting


def delete_published(name: str, *, by: User, from_shell: bool = False) -> int:
    """Remove the file from the cache; returns the bytes that this frees. Raises VerbError.

    Runs in progress have read it already; one that has yet to start decides again, or downloads it again.
    """
    if not from_shell and not can(by, Verb.ADMINISTER):
        raise VerbError(refusal(Verb.ADMINISTER))
    found = entry(name)
    if not found.is_cached:
        raise VerbError(_("“%(name)s” is not in the cache.") % {"name": name})
    with transaction.atomic():
        audit.record("delete_published", details={"name": name, "bytes": found.size_bytes})
        return remove(found.published, cache_folder())
