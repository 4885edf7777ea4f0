"""Well-known kinds of datasets that are not supported, so that errors can name them and suggest an alternative."""

import re
from dataclasses import dataclass

from trainingapp.contract.messages import Message, Template
from trainingapp.contract.messages import dataset_sources as messages
from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.files import Files
from trainingapp.datasets.sources.source import SourceFile

_MOST_READ = 60
_MOST_TEXT = 1 << 16


@dataclass(frozen=True)
class _Family:
    """`name` is that of a program or dataset. It is recognized by a regular expression for a file path and, if
    `content` is given, one for the beginning of the file."""

    name: str
    path: str
    content: str = ""
    advice: Template = messages.CONVERT_ANNOTATIONS


_FAMILIES = (
    _Family("MOT Challenge", r"(^|/)(gt|det)\.txt$", r"\d+, ?-?\d+(, ?-?[\d.]+){4}"),
    _Family("WIDER FACE", r"\.txt$", r"\S+\.jpe?g\s+\d+\s+\d+ \d+ \d+ \d+ \d"),
    _Family("CelebA", r"list_(attr|bbox|landmarks)\w*\.(txt|csv)$"),
    _Family("DOTA", r"\.txt$", r"(imagesource:.*\s+gsd:.*\s+)?(-?[\d.]+ ){8}\D\S* \d\s"),
    _Family("keras-yolo3", r"\.txt$", r".*\.(jpe?g|png)( \d+,\d+,\d+,\d+,\d+)+\s"),
    _Family("BDD100K (Scalabel)", r"\.json$", r'[\s\S]*"(box2d|poly2d)"', messages.EXPORT_ANNOTATIONS),
    _Family("FiftyOne", r"(labels|samples)\.json$", r'\{\s*"(classes|labels|samples)"', messages.EXPORT_ANNOTATIONS),
    _Family("V7 Darwin", r"\.json$", r'[\s\S]*"slots"', messages.EXPORT_ANNOTATIONS),
    _Family("Labelbox", r"\.(nd)?json$", r'[\s\S]*"(data_row|DataRow ID)"', messages.EXPORT_ANNOTATIONS),
    _Family("SageMaker Ground Truth", r"\.(manifest|jsonl?)$", r'[\s\S]*"source-ref"', messages.EXPORT_ANNOTATIONS),
    _Family("Google AutoML", r"\.csv$", r".*gs://", messages.EXPORT_ANNOTATIONS),
    _Family("COCO Panoptic", r"\.json$", r'[\s\S]*"segments_info"'),
    _Family("COCO Captions", r"\.json$", r'[\s\S]*"caption"'),
    _Family("COCO results", r"\.json$", r'\s*\[\s*\{[^}]*"score"'),
    _Family("UA-DETRAC", r"\.xml$", r"[\s\S]*<target_list"),
    _Family("CrowdHuman", r"\.odgt$"),
    _Family("Excel", r"\.(xlsx?|ods)$", "", messages.SAVE_AS_CSV),
    _Family("gzip", r"\.(json|xml|csv|txt)\.gz$", "", messages.UNPACK_FILE),
    _Family("WebDataset", r"\.(cls|cls2)$", "", messages.WRITE_IMAGES),
    _Family("Parquet", r"\.(parquet|arrow)$", "", messages.WRITE_IMAGES),
    _Family("TFRecord", r"\.(tfrecords?|record)(-\d+-of-\d+)?$", "", messages.WRITE_IMAGES),
    _Family("NumPy", r"\.(npy|npz)$", "", messages.WRITE_IMAGES),
    _Family("MATLAB", r"\.mat$"),
    _Family("HDF5", r"\.(h5|hdf5)$", "", messages.WRITE_IMAGES),
    _Family("LMDB", r"(^|/)data\.mdb$", "", messages.WRITE_IMAGES),
    _Family("MNIST (IDX)", r"-?idx\d-ubyte(\.gz)?$", "", messages.WRITE_IMAGES),
    _Family("CIFAR", r"(^|/)(data_batch_\d|test_batch)(\.bin)?$", "", messages.WRITE_IMAGES),
    _Family("MXNet RecordIO", r"\.rec$", "", messages.WRITE_IMAGES),
    _Family("Python pickle", r"\.(pkl|pickle)$", "", messages.WRITE_IMAGES),
)
"""The first that fits counts, those of annotations before those of arrays."""


def known_family(files: Files, *, only_certain: bool = False) -> tuple[Message, SourceFile] | None:
    """The message that names a dataset of a known kind, and the file by which it was recognized.

    `only_certain`: only annotations that are recognized by their content, not by a file name alone.
    """
    for family in _FAMILIES:
        if only_certain and not family.content:
            continue
        path = re.compile(family.path, re.IGNORECASE)
        found = [file for file in files.source.files if path.search(file.path)][:_MOST_READ]
        if family.content:
            content = re.compile(family.content.encode())
            found = [file for file in found if content.match(files.peek(file)[:_MOST_TEXT])]
        if found:
            return messages.FAMILY_NOT_READ(path=found[0].path, family=family.name, advice=family.advice()), found[0]
    return None


def refuse_known_family(files: Files) -> None:
    """Raise DatasetError if the source is a dataset of a known, unsupported kind."""
    if found := known_family(files):
        raise DatasetError.one("unread_annotations", found[0], found[1].path)
