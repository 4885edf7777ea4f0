"""Messages about the files of a run: events, checkpoints and what is wrong with them."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

UNREADABLE_LINE = define("unreadable_line", gettext_noop("Unreadable line in %(file)s: %(quoted)s"))

# What is wrong with a stored file: completes a sentence that begins with its name, such as "epoch_3.pt is missing".

FILE_MISSING = define("damage_missing", gettext_noop("is missing"))
HASH_MISMATCH = define("damage_hash", gettext_noop("is corrupted (its hash does not match)"))
PACK_HASH_MISMATCH = define("damage_pack_hash", gettext_noop("is corrupted (a hash in %(pack)s does not match)"))
MANIFEST_UNREADABLE = define("damage_manifest", gettext_noop("is corrupted (it cannot be read)"))
FORMAT_UNKNOWN = define("damage_format", gettext_noop("has an unknown format (%(format)s)"))
DTYPE_UNKNOWN = define("damage_dtype", gettext_noop("contains numbers of an unknown type (%(dtype)s)"))
TENSOR_MISSING = define("damage_tensor_missing", gettext_noop("lacks a tensor"))
PACK_MISSING = define("damage_pack_missing", gettext_noop("lacks its pack %(pack)s"))
PACK_TRUNCATED = define("damage_pack_truncated", gettext_noop("lacks the end of its pack %(pack)s"))
TRUNCATED = define("damage_truncated", gettext_noop("is truncated"))
NOT_DECOMPRESSED = define("damage_decompression", gettext_noop("cannot be decompressed"))
NOT_READABLE = define("damage_unreadable", gettext_noop("cannot be read (%(error)s)"))

# Checkpoints of a run, as its trainer finds them

CHECKPOINT_SET_ASIDE = define(
    "checkpoint_set_aside",
    gettext_noop("Checkpoint %(file)s %(damage)s. It was set aside; the run continues from the one before it."),
)
NO_VALID_CHECKPOINT = define(
    "no_valid_checkpoint", gettext_noop("No valid checkpoint is left. The run starts from the beginning.")
)
INDEX_CORRUPTED = define(
    "checkpoint_index_corrupted",
    ngettext(
        "%(path)s is corrupted (%(error)s). It was rebuilt with %(count)d checkpoint from the events of the run.",
        "%(path)s is corrupted (%(error)s). It was rebuilt with %(count)d checkpoints from the events of the run.",
    ),
)
CHECKPOINT_DISK_FULL = define(
    "checkpoint_disk_full",
    gettext_noop(
        "The disk is full: a checkpoint could not be written. No checkpoint was lost. Free some space, then resume "
        "the run."
    ),
)
CHECKPOINT_READ_ONLY = define(
    "checkpoint_read_only",
    gettext_noop(
        "A checkpoint could not be written (%(error)s). No checkpoint was lost: resume the run once its folder is "
        "writable again."
    ),
)
