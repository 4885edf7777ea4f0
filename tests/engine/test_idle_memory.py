"""What an idle process gives back: pages that are copies of files, and nothing that was changed."""

import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from trainingapp.contract.storage.durable import flush
from trainingapp.engine import idle_memory
from trainingapp.engine.idle_memory import Mapping, _mappings, release_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
SIZE = 8 << 20
PATTERN = bytes(range(256))


@pytest.fixture
def mapped(tmp_path: Path) -> mmap.mmap:
    """A private mapping of a file, all of it in memory."""
    path = tmp_path / "library.so"
    path.write_bytes(PATTERN * (SIZE // len(PATTERN)))
    flush(path)
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    assert sum(memory[place] for place in range(0, SIZE, mmap.PAGESIZE)) == 0
    return memory


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _protect(memory: mmap.mmap) -> None:
    """Make it read-only, as a loader does with what it has relocated."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(_address(memory)), ctypes.c_size_t(SIZE), mmap.PROT_READ) == 0


def _found(memory: mmap.mmap) -> Mapping:
    smaps = idle_memory.SMAPS_FILE.read_text()
    return next(one for one in _mappings(smaps) if one.start <= _address(memory) < one.end)


def test_pages_that_are_copies_of_a_file_are_given_back_and_read_again(mapped: mmap.mmap) -> None:
    _protect(mapped)
    assert _found(mapped).resident_bytes == SIZE
    release_memory()
    assert _found(mapped).resident_bytes == 0
    assert mapped[:] == PATTERN * (SIZE // len(PATTERN))


def test_what_was_changed_is_kept_even_if_it_is_read_only_now(mapped: mmap.mmap) -> None:
    mapped[100:105] = b"moved"
    _protect(mapped)
    release_memory()
    assert _found(mapped).changed_bytes > 0
    assert mapped[100:105] == b"moved"


def test_what_may_be_written_to_is_left_alone(mapped: mmap.mmap) -> None:
    release_memory()
    assert _found(mapped).resident_bytes == SIZE


def test_a_system_without_the_list_of_mappings_only_frees_what_is_unused(mapped: mmap.mmap, monkeypatch) -> None:
    _protect(mapped)
    with monkeypatch.context() as patch:
        patch.setattr(idle_memory, "SMAPS_FILE", Path("/nowhere"))
        release_memory()
    assert _found(mapped).resident_bytes == SIZE
