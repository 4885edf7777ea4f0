"""Published weights: the tables against the libraries; what `pretrained: auto` becomes, and that a run keeps it."""

import fcntl
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch
import timm
import torch
import torchvision
from torchvision.ops import FrozenBatchNorm2d

from tests.helpers.hub import Hub, local_hub, put, safetensors_of
from tests.helpers.trainers import (
    HARD,
    EndAfter,
    assert_bit_equal,
    change_order,
    events_of,
    newest_content,
    train_here,
)
from trainingapp.contract import pretrained
from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.events import EventLog
from trainingapp.contract.published_files import (
    HASH_SUFFIX,
    PART_SUFFIX,
    NotPublished,
    Unreachable,
    checked,
    downloaded,
    located,
    stored_hash,
)
from trainingapp.contract.published_weights import (
    CLASSIFIER_FILES,
    DETECTOR_FILES,
    SEGMENTER_BACKBONES,
    SEGMENTER_FILES,
    SMP_FILES,
    TIMM_FILES,
    Published,
)
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.networks import build_network
from trainingapp.engine.pretrained import decide, expected
from trainingapp.engine.tasks.classification.from_timm import network_weights
from trainingapp.engine.tasks.registry import implementation
from trainingapp.engine.tasks.segmentation.from_smp import encoder_weights

TIMM = "timm/resnet10t"
RUN = {**HARD, "model": TIMM, "pretrained": "auto", "epochs": 2}


@pytest.fixture(autouse=True)
def _plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the local hub is reached: every other name resolves to nothing at once."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(7)
    return safetensors_of(timm.create_model("resnet10t"))


def _said(run_dir: Path) -> list[str]:
    return [event["code"] for event in events_of(run_dir, "log")]


def _started(run_dir: Path) -> list[Any]:
    found = [event for event in events_of(run_dir, "status") if event["state"] == "started"]
    return [event["environment"].get("pretrained") for event in found]


# The tables


UNPUBLISHED = {
    *("pan_n", "pan_s", "pan_m"),  # of our own
    *("hf/segformer_b0", "hf/segformer_b1", "hf/segformer_b2"),  # their licence excludes commercial use
    "hf/mask2former_swin_tiny",
}


def test_automatic_takes_no_weights_that_exclude_commercial_use(tmp_path: Path) -> None:
    assert {model for model, one in TIMM_FILES.items() if not one.allows_commercial_use} == {
        "timm/convnextv2_atto",
        "timm/convnextv2_nano",
    }
    options = TASKS["classification"].published("timm/convnextv2_nano")
    assert pretrained.expected_kind(options, tmp_path, "download") == "none"
    said = pretrained.outlook(options, tmp_path, "download", model="x", is_listed=True, starts_from=False)
    assert (said.code, said.params["licence"]) == ("scratch_licence", "CC-BY-NC-4.0")
    allowed = TASKS["classification"].published("timm/resnet10t")
    assert pretrained.expected_kind(allowed, tmp_path, "download") == "backbone"


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "instances"])
def test_every_network_of_the_tables_has_published_weights(task: str) -> None:
    without = {model for model in TASKS[task].architectures if not TASKS[task].published(model)}
    assert without == {model for model in TASKS[task].architectures if model in UNPUBLISHED}


@pytest.mark.parametrize(
    ("table", "weights"),
    [
        (CLASSIFIER_FILES, "DEFAULT"),
        (DETECTOR_FILES, "DEFAULT"),
        (SEGMENTER_FILES, "DEFAULT"),
        (SEGMENTER_BACKBONES, "IMAGENET1K_V1"),
    ],
)
def test_the_files_are_those_of_torchvision(table: dict[str, Published], weights: str) -> None:
    for model, published in table.items():
        known = torchvision.models.get_model_weights(model)[weights]
        assert published.address == known.url
        assert published.megabytes == pytest.approx(known.meta["_file_size"] * 1.048576, abs=0.06)
        assert published.digest in published.file
        assert len(published.digest) == 8


def test_the_files_are_those_of_timm_and_smp(monkeypatch: pytest.MonkeyPatch) -> None:
    timm_files, smp_files = dict(TIMM_FILES), dict(SMP_FILES)
    monkeypatch.setattr("trainingapp.engine.tasks.classification.from_timm.TIMM_FILES", {})
    monkeypatch.setattr("trainingapp.engine.tasks.segmentation.from_smp.SMP_FILES", {})
    for model, published in timm_files.items():
        known = network_weights(model.removeprefix("timm/"))
        assert known is not None
        assert (published.name, published.place, published.url) == (known.name, known.place, known.url)
        assert published.licence.casefold() == known.licence
    for encoder, published in smp_files.items():
        known = encoder_weights(encoder)
        assert known is not None
        assert (published.address, published.place, published.earlier) == (known.address, known.place, known.earlier)
        assert encoder in segmentation_models_pytorch.encoders.encoders


def test_a_network_beyond_the_tables_is_looked_up_in_its_library() -> None:
    found = implementation("classification").published("timm/resnet18")["backbone"]
    assert found.name.startswith("timm/resnet18.")
    assert found.licence == "apache-2.0"
    assert implementation("segmentation").published("smp/unet_resnet50")["backbone"].name == "smp-hub/resnet50.imagenet"
    assert implementation("classification").published("timm/no_such_network") == {}


# The cache


def test_a_download_is_verified_and_stored_whole(hub: Hub, content: bytes, tmp_path: Path) -> None:
    published = TIMM_FILES[TIMM]
    hub.serve(published, content)
    seen: list[tuple[int, int]] = []
    path = downloaded(published, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert checked(published, path) == hashlib.sha256(content).hexdigest()
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, path.name + HASH_SUFFIX]


def test_what_is_cut_or_altered_is_not_stored(hub: Hub, content: bytes, tmp_path: Path) -> None:
    published = TIMM_FILES[TIMM]
    hub.serve(published, content)
    (name,) = hub.files
    hub.cut = {name}
    with pytest.raises((Unreachable, NotPublished)):
        downloaded(published, tmp_path)
    hub.cut, hub.hashes = set(), {name: "0" * 64}
    with pytest.raises(NotPublished, match="is not stored: the SHA-256 begins with"):
        downloaded(published, tmp_path)
    assert located(published, tmp_path) is None
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def test_an_interrupted_download_leaves_nothing(hub: Hub, content: bytes, tmp_path: Path) -> None:
    published = TIMM_FILES[TIMM]
    hub.serve(published, content)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        downloaded(published, tmp_path, stop)
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def _left(published: Published, folder: Path, content: bytes) -> Path:
    """What a killed process leaves behind."""
    place = folder / published.place
    place.parent.mkdir(parents=True, exist_ok=True)
    left = place.with_name(f".{place.stem}-0123{PART_SUFFIX}{place.suffix}")
    left.write_bytes(content)
    return left


@pytest.mark.parametrize(
    ("case", "sent"),
    [
        ("the rest is sent", [70]),
        ("nothing can be continued", [0]),
        ("the part is of another file", [70, 0]),
        ("the hash is not known", [70, 0]),
        ("another process is at it", [0]),
        ("the part is too long", [0]),
    ],
)
def test_a_part_of_a_killed_process_is_continued(
    case: str, sent: list[int], hub: Hub, content: bytes, tmp_path: Path
) -> None:
    published = TIMM_FILES[TIMM]
    hub.serve(published, content)
    (name,) = hub.files
    hub.ranges = case != "nothing can be continued"
    if case == "the hash is not known":
        hub.hashes[name] = "unknown"
    other = case == "the part is of another file"
    left = _left(published, tmp_path, b"x" * 70 if other else content + b"x" if "too long" in case else content[:70])
    with left.open("rb") as held:
        if case == "another process is at it":
            fcntl.flock(held, fcntl.LOCK_EX)
        seen: list[tuple[int, int]] = []
        path = downloaded(published, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert stored_hash(path) == hashlib.sha256(content).hexdigest()
    assert seen[-1] == (len(content), len(content))
    assert hub.sent == sent
    assert left.exists() == (case == "another process is at it")


def test_what_is_not_there_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"could not be downloaded from 127\.0\.0\.1: Not Found"):
        downloaded(TIMM_FILES[TIMM], tmp_path)


def test_the_cache_of_the_libraries_is_read(content: bytes, tmp_path: Path) -> None:
    snapshot = tmp_path / "timm" / "models--timm--resnet10t.c3_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(content)
    assert located(TIMM_FILES[TIMM], tmp_path) == snapshot / "model.safetensors"


@pytest.mark.parametrize("damage", ["cut", "not weights", "altered"])
def test_a_corrupted_file_is_noticed(damage: str, content: bytes, tmp_path: Path) -> None:
    published = TIMM_FILES[TIMM]
    path = put(published, tmp_path, content)
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "not weights":
        path.write_bytes(b"<html>" * 1000)
    else:
        path.with_name(path.name + HASH_SUFFIX).write_text(hashlib.sha256(b"other").hexdigest())
    with pytest.raises(NotPublished):
        checked(published, path)


# Runs


def _order(run_dir: Path, **values: Any) -> None:
    path = run_dir / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_weights_in_the_cache_are_taken_and_kept(new_run: Callable[..., Path], content: bytes) -> None:
    whole, run_dir = new_run("whole", **RUN), new_run("parts", **RUN)
    for one in (whole, run_dir):
        put(TIMM_FILES[TIMM], one / "torch", content)
    assert train_here(whole) == "completed"
    assert "starts_from_backbone" in _said(whole)
    decided = {
        "pretrained": "backbone",
        "name": "timm/resnet10t.c3_in1k",
        "source": TIMM_FILES[TIMM].url,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert _started(whole) == [decided]
    assert newest_content(whole)["config"]["pretrained"] == "backbone"

    assert train_here(run_dir, EndAfter(4)) == "paused"
    (run_dir / "torch" / TIMM_FILES[TIMM].place).unlink()  # what is there later does not count
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert _started(run_dir) == [decided, decided]
    assert_bit_equal(newest_content(run_dir)["model_state_dict"], newest_content(whole)["model_state_dict"])


def test_a_run_that_began_from_scratch_stays_so(new_run: Callable[..., Path], content: bytes) -> None:
    whole, run_dir = new_run("whole", **{**RUN, "pretrained": "none"}), new_run("parts", **RUN)
    assert train_here(whole) == "completed"
    _order(run_dir, published_weights="cache")
    assert train_here(run_dir, EndAfter(4)) == "paused"
    assert "scratch_not_cached" in _said(run_dir)
    put(TIMM_FILES[TIMM], run_dir / "torch", content)
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert _started(run_dir) == [{"pretrained": "none"}] * 2
    assert_bit_equal(newest_content(run_dir)["model_state_dict"], newest_content(whole)["model_state_dict"])


def test_the_first_attempt_decides_also_without_a_checkpoint(new_run: Callable[..., Path], content: bytes) -> None:
    run_dir = new_run(**RUN)
    put(TIMM_FILES[TIMM], run_dir / "torch", content)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    earlier = pretrained.Decision("none")
    pretrained.write_decision(run_dir, earlier)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    assert _started(run_dir) == [{"pretrained": "none"}]
    assert pretrained.read_decision(spec.run_dir) == earlier


def test_the_same_file_is_required_until_there_is_a_checkpoint(new_run: Callable[..., Path], content: bytes) -> None:
    run_dir = new_run(**RUN)
    path = put(TIMM_FILES[TIMM], run_dir / "torch", content)
    pretrained.write_decision(run_dir, pretrained.Decision("backbone", "x", "y", "0" * 64))
    with pytest.raises(WeightsUnavailable, match="is not the file that the run started from"):
        train_here(run_dir)
    path.unlink()
    _order(run_dir, published_weights="cache")
    with pytest.raises(WeightsUnavailable, match="downloads are off"):
        train_here(run_dir)


def test_weights_are_downloaded(hub: Hub, content: bytes, new_run: Callable[..., Path]) -> None:
    run_dir = new_run(**RUN)
    hub.serve(TIMM_FILES[TIMM], content)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    assert _said(run_dir)[:2] == ["downloading_published", "starts_from_backbone"]
    assert (run_dir / "torch" / TIMM_FILES[TIMM].place).read_bytes() == content


def test_without_network_the_run_trains_from_scratch_and_says_so(new_run: Callable[..., Path]) -> None:
    run_dir = new_run(**RUN)
    assert train_here(run_dir, EndAfter(1)) == "paused"
    messages = [event["message"] for event in events_of(run_dir, "log")]
    scratch = (
        "No published weights were found in the cache and 127.0.0.1 could not be reached: training starts from scratch."
    )
    assert messages.count(scratch) == 1
    assert _started(run_dir) == [{"pretrained": "none"}]


def test_a_host_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, new_run: Callable[..., Path], free_port: int
) -> None:

    with socket.create_server(("127.0.0.1", free_port)):  # takes connections and says nothing
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port}")
        monkeypatch.setattr("trainingapp.engine.pretrained.QUICK_RESPONSE_S", 0.2)
        run_dir = new_run(**RUN)
        assert train_here(run_dir, EndAfter(1)) == "paused"
    assert "scratch_unreachable" in _said(run_dir)


def test_a_corrupted_file_is_replaced_or_left_out(hub: Hub, content: bytes, new_run: Callable[..., Path]) -> None:
    left_out, replaced = new_run("left_out", **RUN), new_run("replaced", **RUN)
    for run_dir in (left_out, replaced):
        put(TIMM_FILES[TIMM], run_dir / "torch", content[:-1])
    assert train_here(left_out, EndAfter(1)) == "paused"
    assert {"cached_not_used", "scratch_unreachable"} < set(_said(left_out))
    hub.serve(TIMM_FILES[TIMM], content)
    assert train_here(replaced, EndAfter(1)) == "paused"
    assert {"cached_not_used", "starts_from_backbone"} < set(_said(replaced))


def test_weights_may_be_turned_off(new_run: Callable[..., Path], content: bytes) -> None:
    run_dir = new_run(**RUN, freeze="backbone")
    put(TIMM_FILES[TIMM], run_dir / "torch", content)
    _order(run_dir, published_weights="off")
    assert train_here(run_dir, EndAfter(1)) == "paused"
    assert {"scratch_off", "random_frozen"} < set(_said(run_dir))


def test_a_switch_of_the_version_before_means_the_backbone(new_run: Callable[..., Path]) -> None:
    run_dir = new_run(pretrained=True)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    assert spec.config.model_dump()["pretrained"] == "backbone"
    run_dir = new_run("other")
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    assert spec.config.model_dump()["pretrained"] == "none"


def test_what_was_decided_shapes_a_detector(
    new_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen norms keep the statistics of a pretrained backbone; from scratch there are none to keep."""
    run_dir = new_run(task="detection", model="fcos_resnet18_fpn", pretrained="auto", image_size=64)
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    published = CLASSIFIER_FILES["resnet18"].with_hash(
        hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    )
    monkeypatch.setitem(CLASSIFIER_FILES, "resnet18", published)
    monkeypatch.setattr("trainingapp.engine.pretrained.downloaded", _unreachable)
    with closing(EventLog(run_dir / "events.jsonl", 1)) as events:
        scratch, _decision = decide(spec, None, events)
        (run_dir / pretrained.DECISION_FILE).unlink()
        put(published, spec.weights_cache_dir, (tmp_path / "weights.pth").read_bytes())
        assert expected(spec).config.model_dump()["pretrained"] == "backbone"
        found, _decision = decide(spec, None, events)
    assert expected(replace(spec, published_weights="off")).config.model_dump()["pretrained"] == "none"
    for decided, norms in ((scratch, torch.nn.BatchNorm2d), (found, FrozenBatchNorm2d)):
        network = build_network(decided.config, 2, weights_from=spec.weights_cache_dir)
        assert isinstance(network.backbone.body.bn1, norms)  # type: ignore[union-attr]


def _unreachable(published: Published, *_arguments: object, **_options: object) -> Path:
    raise Unreachable("no network")


def test_a_run_of_several_ranks_decides_once(new_run: Callable[..., Path], content: bytes) -> None:
    together = {**RUN, "epochs": 1, "accumulation_steps": 2, "device_count": 2}
    alone, shared = new_run("alone", **{**together, "device_count": 1}), new_run("shared", **together)
    for run_dir in (alone, shared):
        put(TIMM_FILES[TIMM], run_dir / "torch", content)
    _order(shared, devices=["cpu", "cpu"])
    assert train_here(alone) == "completed"
    assert train_here(shared) == "completed"
    assert _said(shared).count("starts_from_backbone") == 1
    assert_bit_equal(newest_content(shared)["model_state_dict"], newest_content(alone)["model_state_dict"])


def test_a_fork_keeps_what_its_checkpoint_was_trained_with(new_run: Callable[..., Path], content: bytes) -> None:
    origin, fork = new_run("origin", **RUN), new_run("fork", **RUN)
    put(TIMM_FILES[TIMM], origin / "torch", content)
    assert train_here(origin, EndAfter(4)) == "paused"
    (checkpoint,) = (origin / "checkpoints").glob("step_*.pt")
    _order(fork, fork_from=str(checkpoint))
    assert train_here(fork, EndAfter(1)) == "paused"
    assert _started(fork) == [{"pretrained": "backbone"}]
