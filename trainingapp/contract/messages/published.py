"""Messages about published weights: what a run starts from, and how files come into the cache."""

from trainingapp.contract.messages import define, gettext_noop

# What `pretrained: auto` resolved to

STARTS_FROM_WHOLE = define(
    "starts_from_whole",
    gettext_noop(
        "The run starts from published weights of the whole model: %(name)s (license: %(licence)s), SHA-256 %(sha256)s."
    ),
)
STARTS_FROM_BACKBONE = define(
    "starts_from_backbone",
    gettext_noop(
        "The run starts from published weights of the backbone: %(name)s (license: %(licence)s), SHA-256 %(sha256)s."
    ),
)
SCRATCH_UNREACHABLE = define(
    "scratch_unreachable",
    gettext_noop(
        "No published weights were found in the cache and %(host)s could not be reached: training starts from scratch."
    ),
)
SCRATCH_NOT_CACHED = define(
    "scratch_not_cached",
    gettext_noop("No published weights were found in the cache, and downloads are off: training starts from scratch."),
)
SCRATCH_OFF = define("scratch_off", gettext_noop("Published weights are turned off: training starts from scratch."))
SCRATCH_NONE_EXIST = define(
    "scratch_none_exist", gettext_noop("There are no published weights for %(name)s: training starts from scratch.")
)
SCRATCH_LICENCE = define(
    "scratch_licence",
    gettext_noop(
        "The license of %(name)s, %(licence)s, excludes commercial use: training starts from scratch. Set pretrained "
        "to backbone or whole to use these weights all the same."
    ),
)
SCRATCH_START_FROM = define(
    "scratch_start_from", gettext_noop("The run has initial weights of its own: no published weights are loaded.")
)
RANDOM_FROZEN = define(
    "random_frozen",
    gettext_noop("The backbone is frozen (freeze), but it has no published weights: it keeps its random ones."),
)
CACHED_NOT_USED = define("cached_not_used", gettext_noop("%(path)s is not used: %(damage)s"))
DOWNLOADING = define("downloading_published", gettext_noop("Downloading %(name)s from %(host)s"))
PUBLISHED_ELSEWHERE = define(
    "published_elsewhere",
    gettext_noop(
        "%(name)s is not in the cache, and downloads are off. Import the file on the page “Published weights”, or turn "
        "pretrained off."
    ),
)

# What the form of a new run says about it

WILL_TAKE_WHOLE = define("will_take_whole", gettext_noop("In the cache: %(name)s (whole model)"))
WILL_TAKE_BACKBONE = define("will_take_backbone", gettext_noop("In the cache: %(name)s (backbone)"))
WILL_DOWNLOAD = define("will_download", gettext_noop("Will be downloaded from %(host)s: %(name)s (%(size)s)"))
WILL_DOWNLOAD_UNSIZED = define("will_download_unsized", gettext_noop("Will be downloaded from %(host)s: %(name)s"))
WILL_ASK_LIBRARY = define(
    "will_ask_library", gettext_noop("Published weights of %(name)s are looked up when the run starts.")
)
WILL_START_FROM_SCRATCH = define("will_start_from_scratch", gettext_noop("Not available: trains from scratch"))
FINE_TUNING_RATE = define(
    "fine_tuning_rate",
    gettext_noop(
        "These weights are usually trained on with a learning rate of %(rate)s (%(optimizer)s); it is %(present)s here."
    ),
)

# A file that is not what it should be

HASH_DIFFERS = define(
    "published_hash_differs",
    gettext_noop("the SHA-256 begins with %(found)s, not with %(expected)s: the file is corrupted or another one."),
)
FILE_CUT = define(
    "published_file_cut", gettext_noop("the file has %(bytes)d bytes instead of %(total)d: it is incomplete.")
)
NOT_WEIGHTS = define("published_not_weights", gettext_noop("the file does not contain weights."))
OTHER_THAN_DECIDED = define(
    "other_than_decided", gettext_noop("it is not the file that the run started from at its first attempt.")
)
NAME_UNKNOWN = define("published_name_unknown", gettext_noop("There are no published weights named %(name)s."))

# Fetching and importing

FETCHING = define("fetching_published", gettext_noop("Downloading %(name)s (MB)"))
FETCH_FAILED = define(
    "fetch_failed",
    gettext_noop(
        "%(name)s could not be downloaded from %(host)s: %(error)s. Connect this machine to %(host)s, or import the "
        "file."
    ),
)
FETCH_REFUSED = define(
    "fetch_refused", gettext_noop("%(name)s was downloaded from %(host)s, but is not stored: %(damage)s")
)
FETCH_OFF = define(
    "fetch_off", gettext_noop("Downloads of published weights are turned off in this studio (PUBLISHED_WEIGHTS).")
)
NO_RESPONSE = define("no_response", gettext_noop("no response within %(seconds)d s"))
IMPORTING = define("importing_published", gettext_noop("Checking and copying files (MB)"))
MATCHES_NOTHING = define(
    "matches_nothing",
    gettext_noop("%(path)s: no published weights have this name. The page “Published weights” lists the names."),
)
AMBIGUOUS = define(
    "ambiguous_file",
    gettext_noop(
        "%(path)s: the name of the file alone does not tell which network it belongs to. Put it into a folder with the "
        "name of its repository, such as %(folder)s."
    ),
)
IMPORT_REFUSED = define("import_refused", gettext_noop("%(path)s: %(damage)s"))
NOTHING_IMPORTED = define("nothing_imported", gettext_noop("Nothing was imported. %(problems)s"))
NO_FILES = define("no_published_files", gettext_noop("There are no files of weights in it."))
