"""Freed memory is used again, instead of being returned to the system and cleared by it for each step."""

import ctypes
import json
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, json, resource
from trainingapp.engine.heap import keep_freed_memory

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ctypes.memset(block := malloc(size), 1, size)
    free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 256 << 20  # more than glibc ever keeps by itself
found = [faults(size), faults(size)]
kept = keep_freed_memory()
print(json.dumps([kept, *found, faults(size), faults(size), faults(size // 2)]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_a_large_block_gets_new_pages_once() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, first, second, third, fourth, fifth = json.loads(found.stdout)
    assert kept is True
    assert min(first, second, third) > 100
    assert max(fourth, fifth) < 10
