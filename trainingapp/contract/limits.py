"""Limits of what people enter. Models, forms, API schemas, verbs, commands and pages all take them from here.

A length is in characters. Lengths of database columns are among them: a longer one needs a migration.
"""

#: Names of runs, datasets, models, teams, tokens and classes.
NAME_LENGTH = 120
#: Names of files and of networks, such as epoch_12.pt and timm/convnext_atto.
FILE_NAME_LENGTH = 120
ARCHITECTURE_LENGTH = 120
#: Django's limit for the name of a user.
USER_NAME_LENGTH = 150
#: Why a GPU was put in quarantine.
REASON_LENGTH = 200
NOTE_LENGTH = 10_000
TAG_LENGTH = 40
#: The alias of a version of a model, such as production.
ALIAS_LENGTH = 40
#: Tags of one run.
MAX_TAGS = 20
#: The query string of a saved list of runs, and the views that a user may save.
VIEW_QUERY_LENGTH = 2000
MAX_VIEWS = 100
LICENCE_LENGTH = 200
#: Addresses of webhooks, and the keys that sign what they send.
URL_LENGTH = 500
SECRET_LENGTH = 100
#: Webhooks of one user, and of the installation.
MAX_WEBHOOKS = 20
#: A text to search for, and the name of an object in the audit trail.
SEARCH_LENGTH = 200
#: Conditions on runs, such as lr<0.01 and mAP50>0.6.
CONDITIONS_LENGTH = 500
PATH_LENGTH = 1024

#: The priority of a run lies between -MAX_PRIORITY and MAX_PRIORITY.
MAX_PRIORITY = 1000
#: Hours of the time limits of a run: one year.
MAX_LIMIT_HOURS = 8760.0
MAX_RECOVERIES = 100

MAX_EPOCHS = 10_000
#: A sweep: its trials, those at the same time, and the k of a control group of each k-th trial.
MAX_TRIALS = 10_000
MAX_CONCURRENCY = 100
MAX_CONTROL_EVERY = 100
#: Folds of a cross-validation.
MAX_FOLDS = 20
#: The side of a training image in pixels.
MAX_IMAGE_SIZE = 2048
#: Classes of a model, and those that are named in one API call for an upload.
MAX_CLASSES = 20_000
MAX_SEED = 2**31 - 1

#: The retention policy of checkpoints.
MAX_KEPT_CHECKPOINTS = 1000
MAX_KEPT_DAYS = 36_500
MAX_KEPT_GB = 1_000_000

#: Numbers of rows in JSON: the largest integer that every JSON parser keeps exact.
MAX_JSON_INTEGER = 2**53 - 1
