"""Messages about the object store: why a dataset cannot be stored there, or fetched from it."""

from trainingapp.contract.messages import define, gettext_noop

STORE_UNAVAILABLE = define(
    "object_store_unavailable", gettext_noop("The object store cannot be used now (%(name)s): %(error)s")
)
STORE_LIBRARY_MISSING = define(
    "object_store_library_missing",
    gettext_noop("OBJECT_STORE_URL needs a library that is not installed: %(error)s"),
)
NOT_STORED = define("dataset_not_stored", gettext_noop("The object store does not contain the dataset (%(name)s)."))
PART_CORRUPTED = define(
    "dataset_part_corrupted",
    gettext_noop("%(name)s in the object store is not what was stored: store the dataset again."),
)
PART_REFUSED = define(
    "dataset_part_refused", gettext_noop("%(name)s in the object store contains %(member)s, which is not allowed.")
)
COPY_INCOMPLETE = define("dataset_copy_incomplete", gettext_noop("%(name)s is missing in the parts of the dataset."))
NOT_HERE = define(
    "dataset_not_here",
    gettext_noop("The files of the dataset are not on %(host)s, and the object store does not contain them."),
)

# Phases of a job in progress

PACKING_DATASET = define("job_packing_dataset", gettext_noop("Copying the dataset into the object store"))
