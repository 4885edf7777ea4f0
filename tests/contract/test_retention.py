"""The retention policy."""

import pytest

from trainingapp.contract.retention import DAY_S, GB, Item, Policy, choose, held_pins

NOW = 1_800_000_000.0


def items(count: int, **by_epoch: dict[int, object]) -> list[Item]:
    """Epochs 1, 2, 3 ..., a day apart, the newest now; `by_epoch` gives fields by epoch."""
    made = []
    for epoch in range(1, count + 1):
        fields = {name: values[epoch] for name, values in by_epoch.items() if epoch in values}
        defaults = {"time": NOW - (count - epoch) * DAY_S, "value": 0.0, "is_epoch_end": True}
        made.append(Item(f"epoch_{epoch}.pt", epoch, **{**defaults, **fields}))  # type: ignore[arg-type]
    return made


def kept(found: list[Item], policy: Policy, *, higher: bool = True, may_resume: bool = True) -> list[int]:
    choice = choose(found, policy, now=NOW, higher_is_better=higher, may_resume=may_resume)
    assert sorted([*choice.kept, *choice.removed]) == sorted(item.file for item in found), "each is in one of both"
    return [item.epoch for item in found if item.file in choice.kept]


def test_the_newest_are_kept() -> None:
    assert kept(items(6), Policy(last=3)) == [1, 4, 5, 6], "1 is the best of equals, the earliest"


def test_the_best_by_the_metric_are_kept() -> None:
    found = items(6, value={1: 0.1, 2: 0.9, 3: 0.5, 4: 0.8})
    assert kept(found, Policy(last=2, best=2)) == [2, 4, 5, 6]
    found = items(6, value={epoch: float(epoch) for epoch in range(1, 7)})
    assert kept(found, Policy(last=2, best=2), higher=False) == [1, 2, 5, 6]


def test_one_without_a_value_is_never_among_the_best() -> None:
    assert kept(items(4, value={1: None, 2: None}), Policy(last=2, best=4)) == [3, 4]


def test_every_nth_epoch_is_kept_but_not_checkpoints_within_an_epoch() -> None:
    assert kept(items(9, is_epoch_end={6: False}), Policy(last=2, every_epochs=3)) == [1, 3, 8, 9]


def test_the_best_and_pinned_ones_are_always_kept() -> None:
    found = items(9, is_best={4: True}, is_pinned={2: True}, value={9: 1.0})
    assert kept(found, Policy(last=1, days=0.5, gb=1e-9)) == [2, 4, 8, 9]


def test_age_removes_all_but_the_newest_two() -> None:
    found = items(9, value={1: 1.0})
    assert kept(found, Policy(last=9, days=3.5)) == [6, 7, 8, 9]
    assert kept(found, Policy(last=9, days=0.001)) == [8, 9]


def test_a_size_limit_removes_the_oldest_first() -> None:
    found = items(5, parts={epoch: {f"own{epoch}": GB} for epoch in range(1, 6)})
    assert kept(found, Policy(last=5, gb=3)) == [3, 4, 5]
    assert kept(found, Policy(last=5, gb=0.5)) == [4, 5], "two always stay"


def test_shared_parts_are_counted_once() -> None:
    shared = {epoch: {"backbone": 2 * GB, f"own{epoch}": GB} for epoch in range(1, 6)}
    assert kept(items(5, parts=shared), Policy(last=5, gb=6)) == [2, 3, 4, 5]


def test_corrupted_ones_do_not_count_for_resuming() -> None:
    found = items(5, is_valid={5: False, 4: False})
    assert kept(found, Policy(last=1)) == [1, 2, 3, 5]


def test_a_finished_run_keeps_one() -> None:
    assert kept(items(4, is_best={2: True}), Policy(last=0), may_resume=False) == [1, 2, 4]
    assert kept(items(3, value={1: None, 2: None, 3: None}), Policy(last=0), may_resume=False) == [3]


@pytest.mark.parametrize("count", [0, 1])
def test_a_few_checkpoints_are_all_kept(count: int) -> None:
    assert len(kept(items(count), Policy(last=0, days=0.1, gb=0.1))) == count


def test_reasons_are_given() -> None:
    choice = choose(items(3, is_pinned={1: True}), Policy(last=1), now=NOW, higher_is_better=True)
    assert choice.kept["epoch_1.pt"] == ["pinned", "best of all"]
    assert choice.kept["epoch_3.pt"] == ["resume", "last"]


def test_pins_are_stored_in_a_file_and_survive_a_truncated_one(tmp_path) -> None:
    with held_pins(tmp_path) as pins:
        pins.update({"epoch_1.pt", "epoch_2.pt"})
    with held_pins(tmp_path) as pins:
        assert pins == {"epoch_1.pt", "epoch_2.pt"}
        pins.discard("epoch_1.pt")
    (tmp_path / "pins.json").write_text('["epoch_2.pt", "epo')
    with held_pins(tmp_path) as pins:
        assert pins == {"epoch_2.pt"}
