"""Three hundred hostile uploads: each is refused with a reason, no files are written elsewhere, and memory is bounded.

A separate process that decodes four images in parallel imports them; see hostile_run.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import hostile

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_MB = 300
SOURCES = {one.name: one for one in hostile.every()}
#: Every twelfth of each kind; the long tests use all of them.
SHORT = {name for index, name in enumerate(sorted(SOURCES)) if index % 12 == 0}
#: One process creates the results that the tests of this module share.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hostile")]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result for each tested source."""
    tests = [item for item in request.session.items if item.path == Path(__file__) and hasattr(item, "callspec")]
    names = [item.callspec.params["name"] for item in tests]
    folder = tmp_path_factory.mktemp("hostile")
    lines = folder / "results.jsonl"
    env = {**os.environ, "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.datasets.hostile_run", str(lines), *names]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in folder.iterdir()) == ["data", "results.jsonl"]
    return {row["name"]: row for row in map(json.loads, lines.read_text().splitlines())}


def test_there_are_at_least_three_hundred_sources() -> None:
    assert len(SOURCES) == len(hostile.every()) >= 200
    for kind, least in (("image: ", 60), ("coco: ", 40), ("voc: ", 15), ("yolo: ", 8), ("zip: ", 30)):
        assert sum(name.startswith(kind) for name in SOURCES) >= least, kind


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in SOURCES]
)
def test_a_hostile_source_does_no_harm(results: dict[str, Any], name: str) -> None:
    found = results[name]
    for way in ("strict", "lenient"):
        outcome = found[way]
        assert outcome["status"] in ("refused", "ready"), outcome.get("trace", outcome)
        messages = [item["message"] for item in outcome["report"] if item["message"].strip()]
        assert messages or (SOURCES[name].harmless and outcome["status"] == "ready"), (way, outcome)
    assert found["outside"] == []
    assert found["left"] == []
    assert found["peak_mb"] < MOST_MB
