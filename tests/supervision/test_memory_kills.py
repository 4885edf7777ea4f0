"""A trainer that the system killed for its memory, told from one that somebody killed."""

from dataclasses import dataclass

from trainingapp.supervision.memory_kills import DYING_S, MemoryKills, memory_kills


@dataclass
class World:
    """The system's count and the clock."""

    kills: int = 3
    now: float = 100.0

    def watch(self) -> MemoryKills:
        return MemoryKills(lambda: self.kills, lambda: self.now)


def live_for(world: World, watched: MemoryKills, seconds: float) -> None:
    for _look in range(round(seconds * 4)):
        world.now += 0.25
        watched.look()


def test_without_a_kill_there_is_none() -> None:
    world = World()
    watched = world.watch()
    live_for(world, watched, 2 * DYING_S)
    assert not watched.has_one()


def test_one_that_is_counted_at_the_end_is_seen() -> None:
    world = World()
    watched = world.watch()
    live_for(world, watched, 2 * DYING_S)
    world.kills += 1
    assert watched.has_one()


def test_one_that_takes_its_time_to_end_is_seen_too() -> None:
    """The count rises when the kill is decided; a busy machine looks many times before the process is gone."""
    world = World()
    watched = world.watch()
    live_for(world, watched, 2 * DYING_S)
    world.kills += 1
    live_for(world, watched, DYING_S / 2)
    assert watched.has_one()


def test_one_of_long_ago_was_another_process() -> None:
    world = World()
    watched = world.watch()
    world.kills += 1
    live_for(world, watched, DYING_S + 1)
    assert not watched.has_one()


def test_this_system_counts() -> None:
    assert memory_kills() >= 0
