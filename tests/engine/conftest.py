from tests.helpers.trainers import dataset_dir, new_run, start, straight_run  # noqa: F401
