"""How checkpoints are stored: bit for bit, without duplicates, and each independent of the others."""

import json
import random
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.saved import content, flip_a_bit, open_folder, save, saved_run, stored_files
from tests.helpers.trainers import assert_bit_equal, events_of
from trainingapp.contract.storage.durable import CorruptedFile
from trainingapp.contract.storage.exporting import export_file, export_pieces, export_size
from trainingapp.contract.storage.packs import Packs
from trainingapp.contract.storage.reading import damage, open_checkpoint
from trainingapp.contract.storage.sizes import all_parts, own_bytes, plan_removal, remove_checkpoints
from trainingapp.engine import background_save, checkpoint
from trainingapp.engine import stored_tensors as tensors
from trainingapp.engine.checkpoint import load_checkpoint

STRANGE = {
    "bool": torch.tensor([True, False, True]),
    "uint8": torch.arange(200, dtype=torch.uint8),
    "int8": torch.tensor([-1, 2], dtype=torch.int8),
    "int16": torch.tensor([[-300, 2]], dtype=torch.int16),
    "float16": torch.randn(5, 7).half(),
    "bfloat16": torch.randn(3, 1, 2).bfloat16(),
    "int64": torch.tensor(-(2**60)),
    "float64": torch.randn(9, dtype=torch.float64),
    "complex64": torch.randn(4, dtype=torch.complex64),
    "complex128": torch.randn(2, 2, dtype=torch.complex128),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(float("-0.0")),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.randn(4, 6).t(),
    "expanded": torch.randn(1, 3).expand(4, 3),
    "large": torch.randn(1_500_000),
    "zeros": torch.zeros(1_100_000),
}
VALUES = {
    "none": None,
    "numbers": [0, -1, 2**40, -(2**70), 255, 256, -129],
    "floats": [0.1, 1e300, float("inf"), -0.0],
    "texts": {"ключ": "值", "$tensor": "no tensor", "": ""},
    "keys": {1: "one", -2: [], "three": {}},
    "tuple": (1, (2.5, "x"), ()),
    "yes": True,
}


@pytest.fixture(scope="module", params=["alone", "beside others"])
def strange(request, tmp_path_factory) -> tuple[Path, dict]:
    """A checkpoint with everything that a tensor and a value can be, copied by all threads and by one."""
    run_dir = tmp_path_factory.mktemp("strange")
    saved = {**content(1), "strange": STRANGE, "values": VALUES}
    folder = open_folder(run_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "is_alone", lambda: request.param == "alone")
        folder.save(saved, file="epoch_1.pt", reason="epoch")
    folder.drain()
    return run_dir / "checkpoints" / "epoch_1.pt", saved


def test_everything_is_restored_bit_for_bit(strange) -> None:
    path, saved = strange
    assert_bit_equal(load_checkpoint(path), saved)
    assert load_checkpoint(path)["strange"]["channels last"].stride() == STRANGE["channels last"].stride()


def test_equal_tensors_are_restored_with_separate_memory(tmp_path: Path) -> None:
    saved = content(1)
    saved["twins"] = [torch.ones(10), torch.ones(10)]
    folder = open_folder(tmp_path)
    folder.save(saved, file="epoch_1.pt", reason="epoch")
    folder.drain()
    one, other = load_checkpoint(tmp_path / "checkpoints" / "epoch_1.pt")["twins"]
    one += 1
    assert other.sum() == 10


def test_the_plain_format_is_readable_by_torch(strange, tmp_path: Path) -> None:
    path, saved = strange
    opened = open_checkpoint(path)
    size = export_file(opened, "pt", tmp_path / "out.pt")
    assert size == export_size(opened, "pt") == (tmp_path / "out.pt").stat().st_size
    assert_bit_equal(torch.load(tmp_path / "out.pt", weights_only=True), saved)


def test_files_of_torch_are_read_without_torch(strange, tmp_path: Path) -> None:
    _path, saved = strange
    torch.save({**saved, "strange": {**STRANGE, "view": STRANGE["large"][7:12]}}, tmp_path / "by_torch.pt")
    opened = open_checkpoint(tmp_path / "by_torch.pt")
    export_file(opened, "safetensors", tmp_path / "out.safetensors")
    assert_bit_equal(load_file(tmp_path / "out.safetensors"), saved["model_state_dict"])
    assert opened.content["values"] == {**VALUES, "keys": {1: "one", -2: [], "three": {}}}
    assert bytes(opened.read(opened.content["strange"]["view"])) == STRANGE["large"][7:12].numpy().tobytes()


def test_a_pickle_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"model_state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CorruptedFile, match="holds __builtin__"):
        open_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize("content", [b"PK", b"PK\x03\x04 and no more", b"PK\x05\x06" + bytes(18)])
def test_a_plain_file_that_is_not_a_zip_is_corrupted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch_1.pt").write_bytes(content)
    with pytest.raises(CorruptedFile):
        open_checkpoint(tmp_path / "epoch_1.pt")


def test_safetensors_contain_the_averaged_weights_where_available(tmp_path: Path) -> None:
    saved = {**content(1), "ema_state_dict": content(2)["model_state_dict"]}
    folder = open_folder(tmp_path)
    folder.save(saved, file="epoch_1.pt", reason="epoch")
    folder.drain()
    opened = open_checkpoint(tmp_path / "checkpoints" / "epoch_1.pt")
    assert export_file(opened, "safetensors", tmp_path / "out.safetensors") == export_size(opened, "safetensors")
    assert_bit_equal(load_file(tmp_path / "out.safetensors"), saved["ema_state_dict"])
    from safetensors import safe_open

    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["blue", "réd"]


def test_the_copy_is_a_consistent_snapshot(tmp_path: Path) -> None:
    folder, saved = open_folder(tmp_path), content(1)
    weights = saved["model_state_dict"]["head.weight"]
    before = weights.clone()
    folder.save(saved, file="epoch_1.pt", reason="epoch")
    weights.zero_()
    folder.drain()
    assert torch.equal(
        load_checkpoint(tmp_path / "checkpoints" / "epoch_1.pt")["model_state_dict"]["head.weight"], before
    )


def test_unchanged_tensors_are_stored_once(tmp_path: Path) -> None:
    saved_run(tmp_path, 5)
    packs = sorted((tmp_path / "checkpoints" / "packs").iterdir())
    first, *others = [path.stat().st_size for path in packs]
    assert all(size < first * 0.6 for size in others)
    events = events_of(tmp_path, "checkpoint")
    reported = {file: size for event in events for file, size in event["stored_bytes"].items()}
    folder = tmp_path / "checkpoints"
    assert reported == own_bytes(all_parts(folder, Packs(folder))), "what changed was reported"
    assert all(size < events[-1]["size_bytes"] * 0.6 for size in reported.values())
    assert events[-1]["stored_bytes"].keys() == {"epoch_5.pt"}


@pytest.mark.parametrize("gone", [[1], [3], [1, 2, 3], [2, 4, 5], [1, 2, 3, 4]])
def test_removing_any_checkpoint_leaves_the_others_intact(tmp_path: Path, gone: list[int]) -> None:
    saved = saved_run(tmp_path, 5)
    folder, files = tmp_path / "checkpoints", [f"epoch_{number}.pt" for number in gone]
    before = sum(path.stat().st_size for path in folder.rglob("*.p*"))
    plan = plan_removal(folder, files)
    assert remove_checkpoints(folder, files) == plan
    assert not plan.left(folder)
    assert before - sum(path.stat().st_size for path in folder.rglob("*.p*")) == plan.freed_bytes
    for file, expected in saved.items():
        if file not in files:
            assert_bit_equal(load_checkpoint(folder / file), expected)
    assert remove_checkpoints(folder, files).freed_bytes == 0, "once more changes nothing"


def test_a_mostly_unused_pack_is_rewritten(tmp_path: Path) -> None:
    folder = open_folder(tmp_path, last=2)
    big = torch.randn(200_000)
    saved = {**content(1), "much": big}
    folder.save(saved, file="epoch_1.pt", reason="epoch")
    for epoch in (2, 3, 4):
        save(folder, epoch)
    packs = Packs(tmp_path / "checkpoints")
    assert "epoch_1.pt" not in stored_files(tmp_path)
    assert sum(path.stat().st_size for path in packs.folder.iterdir()) < big.nbytes
    assert_bit_equal(load_checkpoint(tmp_path / "checkpoints" / "epoch_4.pt"), content(4))


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    """Anywhere in the manifest or in a pack: detected, and never loaded."""
    saved_run(tmp_path, 1)
    path = tmp_path / "checkpoints" / "epoch_1.pt"
    sha256 = events_of(tmp_path, "checkpoint")[0]["sha256"]
    (pack,) = (tmp_path / "checkpoints" / "packs").iterdir()
    assert damage(path, sha256) is None
    places = random.Random(0)
    for file in [path] * 20 + [pack] * 60:
        whole = file.read_bytes()
        flip_a_bit(file, places.randrange(len(whole) * 8))
        assert damage(path, sha256), f"a flipped bit in {file.name} was not found"
        if file == pack:
            with pytest.raises(CorruptedFile):
                load_checkpoint(path)
        file.write_bytes(whole)
    assert damage(path, sha256) is None


@pytest.mark.parametrize("keep", [0, 1, 55, 56, 57, 1000, -1])
def test_a_truncated_pack_is_detected(tmp_path: Path, keep: int) -> None:
    saved_run(tmp_path, 1)
    (pack,) = (tmp_path / "checkpoints" / "packs").iterdir()
    pack.write_bytes(pack.read_bytes()[:keep])
    assert damage(tmp_path / "checkpoints" / "epoch_1.pt", events_of(tmp_path, "checkpoint")[0]["sha256"])


def _delete_pack(folder: Path) -> None:
    sorted((folder / "packs").iterdir())[-1].unlink()


def _flip_pack(folder: Path) -> None:
    flip_a_bit(sorted((folder / "packs").iterdir())[-1], 5000)


def _flip_manifest(folder: Path) -> None:
    flip_a_bit(folder / "epoch_3.pt", 200)


def _tear_manifest(folder: Path) -> None:
    (folder / "epoch_3.pt").write_bytes((folder / "epoch_3.pt").read_bytes()[:300])


def _empty_manifest(folder: Path) -> None:
    (folder / "epoch_3.pt").write_bytes(b"")


@pytest.mark.parametrize("harm", [_delete_pack, _flip_pack, _flip_manifest, _tear_manifest, _empty_manifest])
def test_the_previous_checkpoint_is_used(tmp_path: Path, harm) -> None:
    saved = saved_run(tmp_path, 3)
    harm(tmp_path / "checkpoints")
    folder = open_folder(tmp_path)
    found = folder.newest_valid()
    assert found
    assert found.entry.file == "epoch_2.pt"
    assert_bit_equal(found.content, saved["epoch_2.pt"])
    assert "epoch_3.pt" in str(folder.warnings[0])
    again = save(folder, 3)
    assert_bit_equal(load_checkpoint(tmp_path / "checkpoints" / "epoch_3.pt"), again)


def test_a_shared_corrupted_tensor_is_stored_again(tmp_path: Path, monkeypatch) -> None:
    """Otherwise every later checkpoint would refer to an unreadable tensor."""
    folder = open_folder(tmp_path)
    save(folder, 1)
    flip_a_bit(tmp_path / "checkpoints" / "packs" / "000001.pack", 3000)
    monkeypatch.setattr(checkpoint, "TRUSTED_S", 0.0)
    folder = open_folder(tmp_path)
    saved = save(folder, 2)
    assert_bit_equal(load_checkpoint(tmp_path / "checkpoints" / "epoch_2.pt"), saved)
    assert_bit_equal(
        load_checkpoint(tmp_path / "checkpoints" / "epoch_1.pt")["model_state_dict"]["backbone.weight"],
        saved["model_state_dict"]["backbone.weight"],
    )


def test_a_removed_pack_is_not_reused(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    save(folder, 1)
    (tmp_path / "checkpoints" / "packs" / "000001.pack").unlink()
    saved = save(folder, 2)
    assert_bit_equal(load_checkpoint(tmp_path / "checkpoints" / "epoch_2.pt"), saved)


def test_plain_and_compact_checkpoints_coexist(tmp_path: Path) -> None:
    """A run of an earlier version, or one whose format was changed."""
    plain = save(open_folder(tmp_path, form="plain"), 1)
    compact = save(open_folder(tmp_path), 2)
    folder = tmp_path / "checkpoints"
    assert_bit_equal(torch.load(folder / "epoch_1.pt", weights_only=True), plain)
    for number, saved in ((1, plain), (2, compact)):
        assert_bit_equal(load_checkpoint(folder / f"epoch_{number}.pt"), saved)
    remove_checkpoints(folder, ["epoch_2.pt"])
    assert stored_files(tmp_path) == {"index.json", "epoch_1.pt"}
    found = open_folder(tmp_path).newest_valid()
    assert found
    assert_bit_equal(found.content, plain)


def test_leftovers_of_a_kill_are_removed_at_the_next_start(tmp_path: Path) -> None:
    saved_run(tmp_path, 2)
    whole = stored_files(tmp_path)
    folder = tmp_path / "checkpoints"
    for name in ("epoch_3.pt.tmp", "index.json.tmp", "packs/000003.pack.tmp", "packs/000009.pack"):
        (folder / name).write_bytes(b"half")
    (folder / "epoch_3.pt").write_bytes(b"never listed")
    open_folder(tmp_path)
    assert stored_files(tmp_path) == whole


def test_a_waiting_caller_completes_the_save(tmp_path: Path, monkeypatch) -> None:
    """Even if the writing threads are never scheduled."""
    for work in ("_work_slowly", "_work_fast"):
        monkeypatch.setattr(background_save, work, lambda saves: threading.Event().wait())
    saved = saved_run(tmp_path, 2)
    assert_bit_equal(load_checkpoint(tmp_path / "checkpoints" / "epoch_2.pt"), saved["epoch_2.pt"])


def test_an_export_stops_at_corrupted_data(tmp_path: Path) -> None:
    saved_run(tmp_path, 1)
    opened = open_checkpoint(tmp_path / "checkpoints" / "epoch_1.pt")
    flip_a_bit(tmp_path / "checkpoints" / "packs" / "000001.pack", 3000)
    with pytest.raises(CorruptedFile):
        list(export_pieces(opened, "pt"))
    with pytest.raises(CorruptedFile):
        export_file(opened, "pt", tmp_path / "out.pt")
    assert not list(tmp_path.glob("out*"))
