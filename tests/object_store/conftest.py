from pathlib import Path

import pytest


@pytest.fixture
def dataset_folder(tmp_path: Path) -> Path:
    """The folder of a dataset of 36 images."""
    from tests.helpers.tiny import write_dataset

    folder = tmp_path / "dataset"
    write_dataset(folder)
    return folder
