"""Memory that a process gives back before it waits for hours (no torch)."""

import ctypes
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SMAPS_FILE = Path("/proc/self/smaps")
MADV_DONTNEED = 4
#: Smaller ones are not worth a system call.
LEAST_BYTES = 1 << 16
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)")


@dataclass
class Mapping:
    """A part of the address space. `changed_bytes` differ from the file, or have none."""

    start: int
    end: int
    access: str
    inode: int
    resident_bytes: int = 0
    changed_bytes: int = 0

    @property
    def is_copy_of_file(self) -> bool:
        """Whether it holds what is in its file and cannot be written to: code and constants of libraries."""
        return self.access in ("r-xp", "r--p") and self.inode != 0 and not self.changed_bytes


def release_memory() -> None:
    """Return unused memory to the system: what was freed, and the pages of libraries.

    A CUDA build of torch maps 400 MB of libraries while it is imported, of which little is used again. The pages stay
    in the system's cache of files, from where they are mapped again within milliseconds.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    if trim := getattr(library, "malloc_trim", None):  # glibc keeps hundreds of MB otherwise
        trim(0)
    if not SMAPS_FILE.exists():
        return
    for mapping in list(_mappings(SMAPS_FILE.read_text(errors="replace"))):
        if mapping.is_copy_of_file and mapping.resident_bytes >= LEAST_BYTES:
            size = mapping.end - mapping.start
            library.madvise(ctypes.c_void_p(mapping.start), ctypes.c_size_t(size), MADV_DONTNEED)


def _mappings(smaps: str) -> Iterator[Mapping]:
    mapping: Mapping | None = None
    for line in smaps.splitlines():
        if head := _HEAD.match(line):
            if mapping is not None:
                yield mapping
            start, end, access, inode = head.groups()
            mapping = Mapping(int(start, 16), int(end, 16), access, int(inode))
        elif mapping is not None and line.startswith(("Rss:", "Anonymous:", "Private_Dirty:", "Swap:")):
            name, value = line.split()[:2]
            if name == "Rss:":
                mapping.resident_bytes = int(value) << 10
            else:
                mapping.changed_bytes += int(value) << 10
    if mapping is not None:
        yield mapping
