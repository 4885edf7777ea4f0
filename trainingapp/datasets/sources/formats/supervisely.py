"""Supervisely: one JSON file per image, in the folder ann next to img.

meta.json  dataset1/img/a.jpg  dataset1/ann/a.jpg.json  dataset2/...

Rectangles, polygons and bitmaps become objects; image tags become image classes if there are no objects.
https://developer.supervisely.com/getting-started/supervisely-annotation-format
"""

from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, best_match, stem
from trainingapp.datasets.sources.formats.collector import whole
from trainingapp.datasets.sources.formats.gathered import Gathered, in_order, number, polygon
from trainingapp.datasets.sources.formats.run_lengths import crop_of_png, of_crop
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Layout, Rle, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "supervisely"
_KNOWN = ("rectangle", "polygon", "bitmap")
_Json = dict[str, object]


def recognise(files: Files) -> bool:
    """Whether there are JSON files with objects in folders called ann."""
    return any(
        b'"objects"' in content and b'"size"' in content and (b'"tags"' in content or b'"classTitle"' in content)
        for content in map(files.peek, _annotation_files(files)[:5])
    )


def _annotation_files(files: Files) -> list[SourceFile]:
    return [file for file in files.ending(".json") if "ann" in file.path.split("/")[-2:-1]]


def read(files: Files, report: Report) -> Layout:
    """Read every JSON file in the folders. Classes are ordered by name."""
    sources = _annotation_files(files)
    gathered = Gathered(NAME, files, report, sources)
    files.read_paths.update(file.path for file in files.ending("meta.json"))  # classes and colors, which are known
    for file in sources:
        with report.leaving_out():
            _read_file(files, file, gathered)
    return gathered.layout()


def _read_file(files: Files, file: SourceFile, gathered: Gathered) -> None:
    """Add the image of one file. Raises DatasetError if it is not valid JSON."""
    objects: list[tuple[Position, object]] = []
    labels: list[str] = []
    size = (0, 0)
    for key, line, value in members(files.text_pieces(file), file.path):
        if key == "objects":
            objects.append((Position(file.path, line), value))
        elif key == "size" and isinstance(value, dict):
            width, height = whole(value.get("width")), whole(value.get("height"))
            size = (width, height) if width and height else (0, 0)
        elif key == "tags" and isinstance(value, dict) and isinstance(value.get("name"), str):
            labels.append(value["name"])
    name = file.path.rpartition("/")[2][: -len(".json")]
    folder = f"{file.path.rpartition('/')[0].removesuffix('ann')}img"
    image = files.find_image(name, folder) or best_match(files.with_stem(stem(name)), folder)
    if image is None:
        gathered.no_image_for(file)
        return
    shapes = [_shape(value, where, size, gathered) for where, value in objects]
    usable = [shape for shape in shapes if shape]
    gathered.add(image, Position(file.path), usable, labels=labels, size=size, unusable=len(shapes) - len(usable))


def _shape(value: object, where: Position, size: tuple[int, int], gathered: Gathered) -> Shape | None:
    """The object; None, with a fault, if it cannot be used."""
    if not isinstance(value, dict):
        gathered.field_invalid(where, "objects")
        return None
    kind = value.get("geometryType")
    name = value.get("classTitle")
    if kind not in _KNOWN:
        gathered.shape_not_read(where, kind, _KNOWN)
        return None
    if not isinstance(name, str) or not name.strip():
        gathered.field_invalid(where, "classTitle")
        return None
    if kind == "bitmap":
        if rle := _bitmap(value.get("bitmap"), size):
            return gathered.shape(name, where, rle=rle)
        gathered.field_invalid(where, "bitmap")
        return None
    points = value.get("points")
    outer = points.get("exterior") if isinstance(points, dict) else None
    inner = points.get("interior") if isinstance(points, dict) else None
    if kind == "rectangle" and isinstance(outer, list) and len(outer) == 2:
        corners = polygon([*outer, outer[0]])
        if corners:
            return gathered.shape(name, where, in_order(corners[0], corners[1], corners[2], corners[3]))
    elif kind == "polygon" and (outline := polygon(outer)):
        for hole in inner if isinstance(inner, list) else []:
            if ring := polygon(hole):
                # The connecting line is used in both directions: by the even-odd rule, the inner ring becomes a hole.
                outline = outline + outline[:2] + ring + ring[:2]
        return gathered.shape(name, where, None, (outline,))
    gathered.field_invalid(where, "points")
    return None


def _bitmap(value: object, size: tuple[int, int]) -> Rle | None:
    """The mask from a base64-encoded PNG, placed at its origin [left, top]."""
    data = value.get("data") if isinstance(value, dict) else None
    origin = value.get("origin") if isinstance(value, dict) else None
    if not isinstance(data, str) or not isinstance(origin, list) or len(origin) != 2 or not all(size):
        return None
    left, top = number(origin[0]), number(origin[1])
    crop_HW = crop_of_png(data)
    if crop_HW is None or left is None or top is None:
        return None
    return of_crop(crop_HW, int(left), int(top), size)
