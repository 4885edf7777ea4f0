"""Apple Create ML: a JSON list with one entry per image.

train/_annotations.createml.json  train/*.jpg  valid/...

Boxes are stored as center and size in pixels.
https://developer.apple.com/documentation/createml/building-an-object-detector-data-source
"""

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.formats.gathered import Gathered, values
from trainingapp.datasets.sources.json_stream import elements
from trainingapp.datasets.sources.layout import Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "createml"


def recognise(files: Files) -> bool:
    """Whether a JSON file is a list of labels with coordinates."""
    return any(_is_createml(files, file) for file in files.first_ending(".json"))


def _is_createml(files: Files, file: SourceFile) -> bool:
    content = files.peek(file)
    is_list = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    has_keys = b'"coordinates"' in content and b'"label"' in content and b'"annotation' in content
    return is_list and (has_keys or file.path.lower().endswith(".createml.json"))


def read(files: Files, report: Report) -> Layout:
    """Read every list. Classes are ordered by name."""
    sources = [file for file in files.ending(".json") if _is_createml(files, file)]
    gathered = Gathered(NAME, files, report, sources)
    for file in sources:
        with report.collecting():
            for line, value in elements(files.text_pieces(file), file.path):
                where = Position(file.path, line)
                if not isinstance(value, dict):
                    gathered.field_invalid(where, "image")
                    continue
                image = gathered.find(value.get("image", value.get("imagefilename")), where)
                entries = value.get("annotations", value.get("annotation", []))
                if not isinstance(entries, list):
                    gathered.field_invalid(where, "annotations")
                elif image is not None:
                    shapes = [_shape(entry, where, gathered) for entry in entries]
                    usable = [shape for shape in shapes if shape]
                    gathered.add(image, where, usable, unusable=len(shapes) - len(usable))
    return gathered.layout()


def _shape(entry: object, where: Position, gathered: Gathered) -> Shape | None:
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(label, str) or not label.strip():
        gathered.field_invalid(where, "label")
        return None
    found = values(entry.get("coordinates"), "x", "y", "width", "height") if isinstance(entry, dict) else None
    if found is None:
        gathered.field_invalid(where, "coordinates")
        return None
    x, y, width, height = found
    return gathered.shape(label, where, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
