"""Every category of findings that an import can report has a heading."""

import re
from pathlib import Path

from trainingapp import datasets
from trainingapp.datasets.codes import TITLES
from trainingapp.datasets.decisions import CANCELLED
from trainingapp.datasets.images.decoding import NOTES

#: A category before the message of a finding, in the forms used in the importer.
CATEGORY = re.compile(
    r'(?:DatasetError\.one|report\.error|report\.fault|report\.warn)\(\s*"(\w+)"'
    r'|report_item\("error", "(\w+)"'
    r'|codes\.get\(finding, "(\w+)"\)'
    r'|(?:code, message =|return) "(\w+)", \w*messages\.'
)


def test_every_category_has_a_title() -> None:
    folder = Path(str(datasets.__path__[0]))
    source = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    found = {name for names in CATEGORY.findall(source) for name in names if name} | {*NOTES, CANCELLED}
    assert len(found) > 30
    assert found == set(TITLES)
