"""Every verb leaves an entry in the audit trail: who, what, when, from where, by which source.

`DEEDS` has a line for each function of trainingapp.runs.verbs that does something, `LOOKS` names those that only look
or are steps of other verbs. A new function that is in neither fails `test_every_verb_is_known_here`.
"""

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from tests.helpers.library import make_entry
from tests.helpers.stored import stored
from tests.helpers.tiny import make_run
from trainingapp.accounts import audit
from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.accounts import tokens as token_verbs
from trainingapp.contract.config import parse_config
from trainingapp.contract.retention import Policy
from trainingapp.datasets import verbs as dataset_verbs
from trainingapp.datasets.options import ImportOptions
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import ApiToken, AuditEntry, Dataset, Job, TrainingRun, Weights
from trainingapp.presentation.audit_text import KINDS
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.views.audit_trail import page_of
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db

ADDRESS = "192.0.2.77"


@dataclass(frozen=True)
class World:
    """What the verbs act on. `run()` makes a run in a state."""

    owner: User
    dataset: Dataset
    make: Callable[..., TrainingRun]
    folder: Path

    def kept(self, status: str = "stopped") -> TrainingRun:
        """A run with four checkpoints."""
        return stored(self.make(status))

    def weights(self) -> Weights:
        return make_entry(self.owner)

    def proposed(self, **fields: Any) -> Dataset:
        """A dataset that waits for confirmation, with a source that exists."""
        source = str(self.folder)
        return Dataset.objects.create(name="proposed", owner=self.owner, source=source, status="proposed", **fields)

    def token(self) -> ApiToken:
        return token_verbs.create_token(self.owner, name="laptop", scopes=["read"])[0]

    def job(self) -> Job:
        return Job.objects.create(kind=Job.Kind.EXPORT, owner=self.owner)

    def upload(self) -> Weights:
        from safetensors.numpy import save_file

        path = self.folder / "w.safetensors"
        save_file({}, str(path))
        return weights_verbs.upload_weights(
            owner=self.owner,
            path=path,
            file_name=path.name,
            name="w",
            task="classification",
            architecture="resnet18",
            image_size=64,
            classes=["a", "b"],
        )

    def predict(self) -> Job:
        image = io.BytesIO()
        Image.new("RGB", (4, 4)).save(image, "PNG")
        image.seek(0)
        return weights_verbs.predict(self.weights(), images=[("a.png", image)], by=self.owner)


def force_stop(status: str) -> Callable[[World], object]:
    return lambda world: run_verbs.force_stop_run(world.make(status))


def extend(world: World) -> TrainingRun:
    return run_verbs.extend_run(world.make("stopped"), 30)


def fork(world: World) -> TrainingRun:
    run = world.kept()
    return run_verbs.fork_run(run, run.checkpoints.all()[0], owner=world.owner, config=parse_config(run.config))


def store_dataset(world: World) -> Dataset:
    with override_settings(OBJECT_STORE_URL="/mnt/store", DATA_DIR=world.folder):
        return dataset_verbs.store_dataset(world.dataset)


def archived(world: World) -> TrainingRun:
    return world.make("stopped", archived_at=timezone.now())


def waits_for_retry(world: World) -> TrainingRun:
    later = timezone.now() + timedelta(seconds=40)
    return run_verbs.resume_run(world.make("queued", not_before=later))


def move(world: World) -> TrainingRun:
    world.make("queued", queue_rank=1.0)
    return run_verbs.move_in_queue(world.make("queued", queue_rank=2.0), to="first")


def pin(is_pinned: bool) -> Callable[[World], object]:
    def deed(world: World) -> object:
        run = world.kept()
        run.checkpoints.update(is_pinned=not is_pinned)
        return run_verbs.pin_checkpoint(run.checkpoints.all()[0], is_pinned=is_pinned)

    return deed


def imported(world: World) -> Dataset:
    archive = world.folder / "a.zip"
    archive.write_bytes(b"zip")
    return dataset_verbs.start_import(owner=world.owner, name="new", source=archive, source_is_upload=True)


def predict_folder(world: World) -> Job:
    return weights_verbs.predict_folder(world.weights(), world.folder, by=world.owner, from_shell=True)


#: function (and how it is used) -> (call, the verb of the entry, the kind of its object)
DEEDS: dict[str, tuple[Callable[[World], object], str, str]] = {
    "create_run": (lambda world: make_run(world.owner, world.dataset), "create", "run"),
    "clone_run": (lambda world: run_verbs.clone_run(world.make(), owner=world.owner), "clone", "run"),
    "fork_run": (fork, "fork", "run"),
    "update_run": (lambda world: run_verbs.update_run(world.make(), name="x"), "change", "run"),
    "archive_run": (lambda world: run_verbs.archive_run(world.make("stopped")), "archive", "run"),
    "restore_run": (lambda world: run_verbs.restore_run(archived(world)), "unarchive", "run"),
    "tag_run": (lambda world: run_verbs.tag_run(world.make(), add="baseline"), "tag", "run"),
    "note_run": (lambda world: run_verbs.note_run(world.make(), "better"), "note", "run"),
    "delete_run": (lambda world: run_verbs.delete_run(world.make()), "delete", "run"),
    "start_run": (lambda world: run_verbs.start_run(world.make()), "start", "run"),
    "pause_run": (lambda world: run_verbs.pause_run(world.make("running")), "pause", "run"),
    "pause_run: queued": (lambda world: run_verbs.pause_run(world.make("queued")), "pause", "run"),
    "resume_run": (lambda world: run_verbs.resume_run(world.make("paused")), "resume", "run"),
    "resume_run: before a retry": (waits_for_retry, "resume", "run"),
    "stop_run": (lambda world: run_verbs.stop_run(world.make("running")), "stop", "run"),
    "stop_run: paused": (lambda world: run_verbs.stop_run(world.make("paused")), "stop", "run"),
    "force_stop_run": (force_stop("running"), "kill", "run"),
    "force_stop_run: queued": (force_stop("queued"), "kill", "run"),
    "retry_run": (lambda world: run_verbs.retry_run(world.make("failed")), "retry", "run"),
    "extend_run": (extend, "extend", "run"),
    "checkpoint_now": (lambda world: run_verbs.checkpoint_now(world.make("running")), "order", "run"),
    "evaluate_now": (lambda world: run_verbs.evaluate_now(world.make("running")), "order", "run"),
    "share": (lambda world: sharing_verbs.share(world.make(), "private"), "share", "run"),
    "share: dataset": (lambda world: sharing_verbs.share(world.dataset, "private"), "share", "dataset"),
    "share: weights": (lambda world: sharing_verbs.share(world.weights(), "private"), "share", "weights"),
    "move_in_queue": (move, "move", "run"),
    "set_priority": (lambda world: run_verbs.set_priority(world.make("queued"), 3), "priority", "run"),
    "check_first": (
        lambda world: run_verbs.check_first(world.dataset, parse_config({}), owner=world.owner),
        "check",
        "dataset",
    ),
    "delete_checkpoints": (
        lambda world: run_verbs.delete_checkpoints(world.kept(), ["epoch_2.pt"]),
        "delete",
        "checkpoint",
    ),
    "clean_up": (lambda world: run_verbs.clean_up(world.kept("completed"), Policy(last=1)), "clean_up", "checkpoint"),
    "pin_checkpoint": (pin(is_pinned=True), "pin", "checkpoint"),
    "pin_checkpoint: let go": (pin(is_pinned=False), "unpin", "checkpoint"),
    "verify_checkpoint": (
        lambda world: run_verbs.verify_checkpoint(world.kept().checkpoints.all()[0]),
        "verify",
        "checkpoint",
    ),
    "copy_checkpoint": (
        lambda world: run_verbs.copy_checkpoint(world.kept().checkpoints.all()[0], world.folder / "copy.pt"),
        "copy",
        "checkpoint",
    ),
    "start_import": (imported, "import", "dataset"),
    "confirm_import": (
        lambda world: dataset_verbs.confirm_import(world.proposed(), ImportOptions()),
        "confirm",
        "dataset",
    ),
    "delete_dataset": (lambda world: dataset_verbs.delete_dataset(world.dataset), "delete", "dataset"),
    "save_weights": (
        lambda world: weights_verbs.save_weights(world.kept(), name="w", by=world.owner),
        "save",
        "weights",
    ),
    "upload_weights": (World.upload, "save", "weights"),
    "update_weights": (lambda world: weights_verbs.update_weights(world.weights(), note="x"), "change", "weights"),
    "verify_weights": (lambda world: weights_verbs.verify_weights(world.weights()), "verify", "weights"),
    "delete_weights": (lambda world: weights_verbs.delete_weights(world.weights()), "delete", "weights"),
    "export_weights": (
        lambda world: weights_verbs.export_weights(world.weights(), formats=["pt"], by=world.owner),
        "export",
        "weights",
    ),
    "predict": (World.predict, "predict", "weights"),
    "predict_dataset": (
        lambda world: weights_verbs.predict_dataset(world.weights(), world.dataset, split="val", by=world.owner),
        "predict",
        "weights",
    ),
    "predict_folder": (predict_folder, "predict", "weights"),
    "read_again": (
        lambda world: dataset_verbs.read_again(world.proposed(reading={"offers": [{}]}), ImportOptions()),
        "read_again",
        "dataset",
    ),
    "store_dataset": (store_dataset, "store", "dataset"),
    "cancel_import": (lambda world: dataset_verbs.cancel_import(imported(world)), "cancel", "dataset"),
    "cancel_job": (lambda world: job_verbs.cancel_job(world.job()), "cancel", "job"),
    "create_token": (World.token, "token_create", "token"),
    "revoke_token": (lambda world: token_verbs.revoke_token(world.token()), "token_revoke", "token"),
}
#: Functions that change nothing.
LOOKS = {
    "check_undamaged",
    "check_weights_file",
    "check_usable",
    "checkpoint_policy",
    "checkpoints_deletion",
    "copied_name",
    "copied_priority",
    "dataset_deletion_size",
    "deletion_size",
    "exports_of",
    "find_token",
    "least_epochs",
    "may_import_from_somewhere",
    "plan_clean_up",
    "possible_verbs",
    "weights_deletion_size",
    "run_tag",
    "weights_tag",
    "weights_uses",
    "with_epochs",
    # The last use of a token is stored with the token.
    "note_token_use",
    # An image that is drawn for one user and removed after an hour.
    "preview_batch",
    # Steps of the verbs that request a job, which record its purpose.
    "request_job",
    "prepared_job",
    "submit_job",
}


@pytest.fixture
def world(user: User, dataset: Dataset, make: Any, tmp_path: Path, settings: Any) -> World:
    settings.WEIGHTS_DIR, settings.JOBS_DIR = tmp_path / "weights", tmp_path / "jobs"
    return World(user, dataset, make, tmp_path)


def public_functions(module: ModuleType) -> set[str]:
    """The functions that a module of verbs offers: what it defines, or re-exports by `__all__`."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", own)
    return {name for name in names if callable(getattr(module, name)) and name[0].islower()}


def test_every_verb_is_known_here() -> None:
    modules = (run_verbs, dataset_verbs, weights_verbs, job_verbs, sharing_verbs, token_verbs)
    functions = {name for module in modules for name in public_functions(module)}
    assert functions == {name.partition(":")[0] for name in DEEDS} | LOOKS


@pytest.mark.parametrize("name", DEEDS)
def test_a_verb_leaves_an_entry(name: str, world: World) -> None:
    deed, verb, kind = DEEDS[name]
    with audit.acting(world.owner, audit.Source.API, ADDRESS):
        deed(world)
    entry = AuditEntry.objects.filter(verb=verb, kind=kind).first()
    assert entry is not None, list(AuditEntry.objects.values_list("verb", "kind"))
    assert (entry.user, entry.username, entry.source, entry.address) == (world.owner, "ada", "api", ADDRESS)
    assert entry.object_id
    assert entry.object_name


def test_the_record_of_a_run_verb_names_the_entry_of_its_function() -> None:
    recorded = {(name.partition(":")[0], verb) for name, (_deed, verb, _kind) in DEEDS.items()}
    for verb in RUN_VERBS:
        name = {"fork_from": "fork_run"}.get(verb.function.__name__, verb.function.__name__)
        found = {entry for function, entry in recorded if function == name}
        assert found == ({verb.audit_verb} if name not in LOOKS else set()), verb.name
        assert verb.audit_verb or name in LOOKS, verb.name


@pytest.mark.parametrize("name", DEEDS)
def test_each_entry_has_labels(name: str) -> None:
    _deed, verb, kind = DEEDS[name]
    assert verb in audit.VERBS
    assert kind in KINDS


def test_every_kind_has_a_label_and_a_page() -> None:
    assert set(audit.KINDS.values()) <= set(KINDS)
    numbers = {"checkpoint": "7/epoch_1.pt", "job": str(uuid.uuid4())}
    for kind in KINDS:
        assert page_of(kind, numbers.get(kind, "7")).startswith("/"), kind
    assert page_of("checkpoint", "7/epoch_1.pt") == "/runs/7/checkpoints/"
    assert page_of("something", "7") == ""


def test_repeated_verbs_record_nothing_more(world: World) -> None:
    run = world.kept()
    checkpoint = run.checkpoints.all()[0]
    deeds: list[Callable[[], object]] = [
        lambda: run_verbs.pin_checkpoint(checkpoint),
        lambda: run_verbs.set_priority(run_waiting, 3),
        lambda: run_verbs.move_in_queue(run_waiting, to="first"),
        lambda: weights_verbs.update_weights(weights, note="same"),
        lambda: run_verbs.delete_checkpoints(run, ["epoch_2.pt"]),
    ]
    run_waiting, weights = world.make("queued"), world.weights()
    for deed in deeds:
        deed()
        count = AuditEntry.objects.count()
        deed()
        assert AuditEntry.objects.count() == count


def test_deleted_checkpoints_are_each_named_with_what_they_freed(world: World) -> None:
    run = world.kept("completed")
    run_verbs.delete_checkpoints(run, ["epoch_2.pt", "epoch_3.pt"])
    entries = AuditEntry.objects.filter(verb="delete", kind="checkpoint")
    assert {entry.object_id for entry in entries} == {f"{run.pk}/epoch_2.pt", f"{run.pk}/epoch_3.pt"}
    assert set(entries) <= set(audit.entries_of(run))


def test_automatic_deletions_are_not_recorded(world: World) -> None:
    run = world.kept("completed")
    AuditEntry.objects.all().delete()
    run_verbs.plan_clean_up(run, Policy(last=1))
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        (["queue", "move", "{run}", "--first"], "move"),
        (["queue", "priority", "{run}", "4"], "priority"),
        (["checkpoints", "pin", "{kept}", "epoch_2.pt"], "pin"),
        (["checkpoints", "delete", "{kept}", "epoch_2.pt", "--yes"], "delete"),
        (["checkpoints", "verify", "{kept}"], "verify"),
    ],
    ids=" ".join,
)
def test_a_command_is_recorded_as_source(
    command: list[str], verb: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "operator7")
    world.make("queued", queue_rank=1.0)
    numbers = {"run": world.make("queued", queue_rank=2.0).pk, "kept": world.kept().pk}
    call_command(*(word.format(**numbers) for word in command))
    entry = AuditEntry.objects.filter(verb=verb).first()
    assert entry is not None
    assert (entry.username, entry.source) == ("operator7", "command")


def test_page_and_api_are_recorded_as_sources_of_queue_moves(world: World, user_client: Client) -> None:
    run = world.make("queued", queue_rank=2.0)
    world.make("queued", queue_rank=1.0)
    user_client.post(reverse("queue_move", args=[run.pk]), {"to": "first"}, REMOTE_ADDR=ADDRESS)
    token = token_verbs.create_token(world.owner, name="t", scopes=["control"])[1]
    body = {"run": run.pk, "to": "last"}
    headers = {"Authorization": f"Bearer {token}"}
    Client(REMOTE_ADDR=ADDRESS).post("/api/v1/queue/move", body, content_type="application/json", headers=headers)
    entries = AuditEntry.objects.filter(verb="move").order_by("pk")
    assert [(entry.username, entry.source, entry.address) for entry in entries] == [
        ("ada", "page", ADDRESS),
        ("ada", "api", ADDRESS),
    ]
