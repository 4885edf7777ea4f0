"""Published weights in the cache: list, fetch, import and delete, by page, API and command."""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from safetensors.torch import save

from tests.api.test_training import checkpoint_of
from tests.helpers.hub import Hub, local_hub, put
from tests.helpers.jobs import no_worker, work_off
from tests.helpers.tiny import make_dataset, make_run
from trainingapp.contract.config import parse_config
from trainingapp.contract.messages.published import AMBIGUOUS, MATCHES_NOTHING
from trainingapp.contract.published_files import HASH_SUFFIX, stored_hash
from trainingapp.contract.published_weights import (
    CLASSIFIER_FILES,
    SEGMENTER_BACKBONES,
    SMP_FILES,
    TIMM_FILES,
    Published,
    hub_file,
)
from trainingapp.contract.script import training_script
from trainingapp.models import AuditEntry, Job, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs.forms import RunForm
from trainingapp.weights import published
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db(transaction=True)

RESNET, TENT, ENCODER = CLASSIFIER_FILES["resnet18"], TIMM_FILES["timm/resnet10t"], SMP_FILES["resnet18"]
CONTENT = save({"conv.weight": torch.arange(12.0).reshape(3, 4)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PTH = b"PK\x03\x04" + bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.WEIGHTS_CACHE_DIR, settings.JOBS_DIR = tmp_path / "torch", tmp_path / "jobs"
    settings.PUBLISHED_WEIGHTS = "download"
    no_worker(monkeypatch)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    # The file of a test has another hash than the real one.
    fitting = RESNET.with_hash(hashlib.sha256(PTH).hexdigest()[:8])
    for table in (CLASSIFIER_FILES, SEGMENTER_BACKBONES):
        monkeypatch.setitem(table, "resnet18", fitting)
    return tmp_path / "torch"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


def _zip(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def _import(root: User, tmp_path: Path, name: str, content: bytes) -> Job:
    (tmp_path / "sent").write_bytes(content)
    published.request_import([(name, tmp_path / "sent")], by=root)
    return work_off()


def _cached(cache: Path, about: Published, content: bytes = CONTENT) -> bool:
    path = cache / about.place
    return path.is_file() and path.read_bytes() == content and stored_hash(path) == hashlib.sha256(content).hexdigest()


# The list


def test_the_list_names_networks_license_size_and_state(cache: Path) -> None:
    put(TENT, cache, CONTENT)
    put(hub_file("timm/resnet26d.bt_in1k", licence=""), cache, CONTENT)
    found = {one.name: one for one in published.entries()}
    assert found["timm/resnet10t.c3_in1k"].used_by == {"classification": ["timm/resnet10t"]}
    assert found["timm/resnet10t.c3_in1k"].is_cached
    assert found["timm/resnet26d.bt_in1k"].networks == []
    weights = found["resnet18-f37072fd.pth"]
    assert {"classification", "detection", "segmentation", "instances"} == set(weights.used_by)
    assert "fcos_resnet18_fpn" in weights.networks
    assert (weights.is_cached, weights.published.licence, weights.expected_bytes) == (False, "BSD-3-Clause", 46_800_000)
    assert [one.name for one in published.named("smp/unet_resnet18")] == [ENCODER.name]
    with pytest.raises(VerbError, match="no published weights named nothing"):
        published.entry("nothing")


def test_the_page_is_useful_empty_and_filled(client: Client, user: User, root: User, cache: Path) -> None:
    client.force_login(user)
    page = client.get(reverse("published_list")).content.decode()
    assert "resnet18-f37072fd.pth" in page
    assert page.count(reverse("published_fetch")) >= 30
    assert reverse("published_import") not in page
    nothing = client.get(reverse("published_list"), {"state": "cached"}).content.decode()
    assert "No such weights" in nothing
    put(TENT, cache, CONTENT)
    client.force_login(root)
    page = client.get(reverse("published_list"), {"q": "resnet10t", "state": "cached"}).content.decode()
    assert "Apache-2.0" in page
    assert reverse("published_delete") in page
    assert reverse("published_import") in page


def test_the_form_of_a_run_says_what_automatic_means(user: User, cache: Path, settings: Any) -> None:
    def said(task: str = "classification", **values: str) -> str:
        return RunForm(task=task, user=user, initial=values)["pretrained"].help_text

    assert "Will be downloaded from download.pytorch.org: resnet18-f37072fd.pth (45 MB)" in said()
    put(RESNET, cache, PTH)
    assert "In the cache: resnet18-f37072fd.pth (backbone)" in said()
    assert "In the cache: resnet18-f37072fd.pth (backbone)" in said("detection", model="fcos_resnet18_fpn")
    assert "There are no published weights for pan_s" in said("detection")
    assert "initial weights of its own" in said(start_from="weights/1")
    assert "looked up when the run starts" in said(model="timm/resnet26d")
    settings.PUBLISHED_WEIGHTS = "cache"
    assert "Not available: trains from scratch" in said(model="timm/resnet10t")
    assert "Will be" not in said(pretrained="none")


def test_the_form_advises_the_usual_learning_rate_of_fine_tuning(user: User, cache: Path, settings: Any) -> None:
    def said(task: str = "detection", **values: object) -> str:
        return RunForm(task=task, user=user, initial={"model": "fcos_resnet18_fpn", **values})["pretrained"].help_text

    advice = "trained on with a learning rate of 0.0001 (AdamW); it is 0.001 here."
    assert advice in said()
    assert f"(45 MB) {advice}" in said().replace("These weights are usually ", "")
    assert advice in said(pretrained="backbone")
    assert "0.00005 (Adam); it is 0.0005 here" in said("classification", model="convnext_tiny", optimizer="Adam")
    assert "learning rate of" not in said(pretrained="none")
    assert "learning rate of" not in said(learning_rate=0.0002)
    assert "learning rate of" not in said(optimizer="SGD")
    assert "learning rate of" not in said(start_from="weights/1")
    assert "learning rate of" not in said(model="pan_s")
    assert "learning rate of" not in said(model="hf/rtdetrv2_r18")  # whose defaults are for its weights
    assert "learning rate of" not in said("classification", model="resnet18")
    settings.PUBLISHED_WEIGHTS = "cache"
    assert "learning rate of" not in said()


# Fetching


def test_weights_are_fetched_by_a_job(client: Client, user: User, hub: Hub, cache: Path) -> None:
    hub.serve(TENT, CONTENT)
    client.force_login(user)
    response = client.post(reverse("published_fetch"), {"name": TENT.name}, headers={"HX-Request": "true"})
    assert b"Waiting for a worker" in response.content
    job = work_off()
    assert job.result == {"name": TENT.name, "size_bytes": len(CONTENT), "sha256": SHA256}
    assert _cached(cache, TENT)
    assert b"In the cache" in client.get(reverse("job", args=[job.pk]), headers={"HX-Request": "true"}).content
    assert AuditEntry.objects.get(verb="fetch_published").details == {"name": TENT.name}


def test_a_source_that_cannot_be_reached_is_named(client: Client, user: User) -> None:
    published.request_fetch(TENT.name, by=user)
    job = work_off()
    assert job.state == Job.State.FAILED
    assert job.message.startswith("timm/resnet10t.c3_in1k could not be downloaded from 127.0.0.1: ")
    assert job.message.endswith("Connect this machine to 127.0.0.1, or import the file.")


@pytest.mark.parametrize("name", ["nothing", ""])
def test_a_name_that_nothing_has_is_refused(client: Client, user: User, name: str) -> None:
    client.force_login(user)
    response = client.post(reverse("published_fetch"), {"name": name}, headers={"HX-Request": "true"})
    assert response.status_code == 422


def test_nothing_is_fetched_where_downloads_are_off(user: User, settings: Any) -> None:
    settings.PUBLISHED_WEIGHTS = "cache"
    with pytest.raises(VerbError, match="turned off"):
        published.request_fetch(TENT.name, by=user)


# Importing


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("resnet18-f37072fd.pth", RESNET.name),
        ("torch/hub/checkpoints/resnet18-f37072fd.pth", RESNET.name),
        ("timm--resnet10t.c3_in1k/model.safetensors", TENT.name),
        ("timm--resnet10t.c3_in1k.safetensors", TENT.name),
        ("resnet10t.c3_in1k/model.safetensors", TENT.name),
        ("timm/resnet10t.c3_in1k/model.safetensors", TENT.name),
        ("hub/models--smp-hub--resnet18.imagenet/snapshots/3f23/model.safetensors", ENCODER.name),
        ("timm--resnet26d.bt_in1k/model.safetensors", "timm/resnet26d.bt_in1k"),
    ],
)
def test_files_are_recognized_by_their_names(path: str, name: str) -> None:
    found = published.published_for(path)
    assert isinstance(found, Published)
    assert found.name == name


def test_other_files_are_not() -> None:
    assert published.published_for("model.safetensors") == AMBIGUOUS(
        path="model.safetensors", folder="timm--resnet10t.c3_in1k"
    )
    for path in ("birds.pth", "someone--else/model.bin", "resnet10t.c3_in1k/other.pth"):
        assert published.published_for(path) == MATCHES_NOTHING(path=path)


def test_a_zip_is_imported_and_what_matches_nothing_is_named(root: User, tmp_path: Path, cache: Path) -> None:
    files = {
        "a/resnet18-f37072fd.pth": PTH,
        "timm--resnet10t.c3_in1k/model.safetensors": CONTENT,
        "timm--resnet10t.c3_in1k/config.json": b"{}",
        "birds.pth": PTH,
    }
    job = _import(root, tmp_path, "weights.zip", _zip(files))
    assert job.state == Job.State.DONE, job.message
    assert sorted(job.result["imported"]) == [RESNET.name, TENT.name]
    assert [one["params"]["path"] for one in job.result["refused"]] == ["birds.pth"]
    assert _cached(cache, RESNET, PTH)
    assert _cached(cache, TENT)
    assert not (job.folder / published.UPLOAD_DIR).exists()
    assert AuditEntry.objects.get(verb="import_published").details == {"files": ["weights.zip"]}


def test_a_file_alone_is_imported(root: User, tmp_path: Path, cache: Path) -> None:
    job = _import(root, tmp_path, "C:\\Users\\ada\\resnet18-f37072fd.pth", PTH)
    assert job.result["imported"] == [RESNET.name]
    assert _cached(cache, RESNET, PTH)


def _slip() -> bytes:
    return _zip({"../../resnet18-f37072fd.pth": PTH})


def _bomb() -> bytes:
    return _zip({"timm--resnet10t.c3_in1k/model.safetensors": bytes(60 * 1024**2)})


def _link() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("resnet18-f37072fd.pth")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"no zip", "not a zip"),
        (lambda: _zip({"resnet18-f37072fd.pth": PTH})[:-60], "incomplete"),
        (_slip, "outside"),
        (_bomb, "as a zip bomb does"),
        (_link, "resnet18-f37072fd.pth"),
        (lambda: _zip({"readme.txt": b"hello"}), "no files of weights"),
        (lambda: _zip({"birds.pth": PTH}), "birds.pth: no published weights have this name"),
        (lambda: _zip({"resnet18-f37072fd.pth": PTH + b"more"}), "the SHA-256 begins with"),
        (lambda: _zip({"resnet10t.c3_in1k/model.safetensors": CONTENT[:-1]}), "it is incomplete"),
        (lambda: _zip({"resnet10t.c3_in1k/model.safetensors": b"<html>" * 99}), "does not contain weights"),
    ],
    ids=["no zip", "cut zip", "slip", "bomb", "link", "no weights", "unknown", "other hash", "cut", "web page"],
)
def test_bad_files_are_refused_and_nothing_is_stored(
    root: User, tmp_path: Path, cache: Path, content: Any, says: str
) -> None:
    job = _import(root, tmp_path, "weights.zip", content())
    assert job.state == Job.State.FAILED
    assert says in job.message, job.message
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert not (tmp_path / "resnet18-f37072fd.pth").exists()


def test_a_folder_of_the_server_is_imported(root: User, user: User, tmp_path: Path, cache: Path) -> None:
    blob = tmp_path / "hf" / "models--timm--resnet10t.c3_in1k" / "blobs" / SHA256
    snapshot = tmp_path / "hf" / "models--timm--resnet10t.c3_in1k" / "snapshots" / "abc" / "model.safetensors"
    for path in (blob, snapshot):
        path.parent.mkdir(parents=True)
    blob.write_bytes(CONTENT)
    snapshot.symlink_to(f"../../blobs/{SHA256}")
    published.request_import(folder=tmp_path / "hf", by=root)
    assert work_off().result["imported"] == [TENT.name]
    assert _cached(cache, TENT)
    with pytest.raises(VerbError, match="administrators"):
        published.request_import(folder=tmp_path / "hf", by=user)
    with pytest.raises(VerbError, match="does not exist"):
        published.request_import(folder=tmp_path / "nowhere", by=root)


def test_the_import_page(client: Client, root: User, cache: Path) -> None:
    client.force_login(root)
    address = reverse("published_import")
    assert client.post(address).status_code == 422
    files = [
        SimpleUploadedFile("resnet18-f37072fd.pth", PTH),
        SimpleUploadedFile("timm--resnet10t.c3_in1k.safetensors", CONTENT),
    ]
    response = client.post(address, {"uploads": files})
    assert response.status_code == 302, response.context["form"].errors
    assert sorted(work_off().result["imported"]) == [RESNET.name, TENT.name]
    page = client.get(response.url, headers={"HX-Request": "true"}).content.decode()
    assert "2 files are in the cache now:" in page


# Deleting


def test_weights_are_deleted(client: Client, root: User, user: User, cache: Path) -> None:
    path = put(TENT, cache, CONTENT)
    path.with_name(path.name + HASH_SUFFIX).write_text(SHA256)
    with pytest.raises(VerbError, match="administrators"):
        published.delete_published(TENT.name, by=user)
    client.force_login(root)
    address = reverse("published_delete")
    assert TENT.name in client.get(address, {"name": TENT.name}).content.decode()
    assert client.post(address, {"name": TENT.name}).status_code == 302
    assert not [one for one in cache.rglob("*") if one.is_file()]
    assert client.get(address, {"name": TENT.name}).status_code == 404
    assert AuditEntry.objects.get(verb="delete_published").details == {"name": TENT.name, "bytes": len(CONTENT)}


# The command


def _command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("weights", "published", *arguments, stdout=out)
    return out.getvalue()


def test_the_command(root: User, hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.serve(TENT, CONTENT)
    assert "is in the cache now" in _command("fetch", "timm/resnet10t")
    assert "is in the cache." in _command("fetch", TENT.name)
    rows = json.loads(_command("list", "--cached", "--json"))
    assert [(row["name"], row["sha256"], row["size_bytes"]) for row in rows] == [(TENT.name, SHA256, len(CONTENT))]
    assert "NAME" in _command("list").splitlines()[0]
    archive = tmp_path / "weights.zip"
    archive.write_bytes(_zip({"resnet18-f37072fd.pth": PTH, "birds.pth": PTH}))
    assert _command("import", str(archive)).splitlines() == [
        "resnet18-f37072fd.pth is in the cache now.",
        "Not imported: birds.pth: no published weights have this name. The page “Published weights” lists the names.",
    ]
    assert archive.exists()
    assert "deleted" in _command("delete", TENT.name)
    plain = tmp_path / "timm--resnet10t.c3_in1k.safetensors"
    plain.write_bytes(CONTENT)
    assert _command("import", str(plain)) == f"{TENT.name} is in the cache now.\n"
    with pytest.raises(CommandError, match="no published weights named"):
        _command("fetch", "nothing")
    with pytest.raises(CommandError, match="no such file"):
        _command("import", str(tmp_path / "nowhere"))


def test_viewers_look_only(client: Client) -> None:
    viewer = User.objects.create_user("viewer")
    viewer.groups.add(Group.objects.get_or_create(name="viewer")[0])
    with pytest.raises(VerbError, match="Viewers cannot"):
        published.request_fetch(TENT.name, by=viewer)


@pytest.mark.parametrize(("stored", "shown"), [(True, "backbone"), (False, "none"), ("auto", "auto"), (None, "auto")])
def test_a_cloned_run_keeps_its_choice(user: User, stored: object, shown: str) -> None:
    """In version 0.1 it was a switch of classification."""
    initial = {} if stored is None else {"pretrained": stored}
    assert RunForm(task="classification", user=user, initial=initial)["pretrained"].value() == shown


def test_the_page_and_the_model_of_a_run_have_what_was_decided(client: Client, user: User, settings: Any) -> None:
    run = make_run(user, make_dataset(user), pretrained="auto")
    decided = {"pretrained": "backbone", "name": RESNET.name, "source": RESNET.url, "sha256": SHA256}
    TrainingRun.objects.filter(pk=run.pk).update(environment={"pretrained": decided})
    client.force_login(user)
    page = client.get(reverse("run_config", args=[run.pk])).content.decode()
    assert SHA256 in page
    assert f"{RESNET.name} (Backbone)" in page
    run.refresh_from_db()
    checkpoint_of(run, 1, is_best=True, is_last=True)
    assert weights_verbs.save_weights(run, name="birds", by=user).config["pretrained"] == "backbone"
    script = training_script(parse_config(run.config), name="run", environment=run.environment)
    assert '"pretrained": "backbone"' in script
