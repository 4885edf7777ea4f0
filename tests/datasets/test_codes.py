"""Every code that an import can report has a heading for people."""

import re
from pathlib import Path

from trainingapp import datasets
from trainingapp.datasets.codes import TITLES
from trainingapp.datasets.images.decoding import NOTES


def test_every_code_has_a_title() -> None:
    folder = Path(str(datasets.__path__[0]))
    source = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    found = set(re.findall(r'(?:DatasetError\.one|report\.error|report\.fault|report\.warn)\(\s*"(\w+)"', source))
    found |= set(re.findall(r'(?:code, message =|return) "(\w+)", "', source)) | set(NOTES)
    found |= set(re.findall(r'(?:code, message =|return) "(\w+)", f"', source))
    assert len(found) > 30
    assert found - set(TITLES) == set()
    assert set(TITLES) - found == {"import_failed"}
