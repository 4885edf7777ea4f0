"""Messages about corrections of a configuration."""

from trainingapp.contract.messages import define, gettext_noop

CHOICE_CORRECTED = define("config_choice_corrected", gettext_noop("%(name)s was changed from %(given)s to %(taken)s."))
CHOICE_RULED_OUT = define(
    "config_choice_ruled_out",
    gettext_noop("%(name)s was changed from %(given)s to %(taken)s, because %(other)s is %(value)s."),
)
IMAGE_SIZE_ROUNDED = define(
    "config_image_size_rounded",
    gettext_noop("image_size was changed from %(given)s to %(taken)d, a multiple of %(factor)d."),
)
BATCH_SHARED = define(
    "config_batch_shared",
    gettext_noop(
        "batch_size was changed from %(given)d to %(taken)d and accumulation_steps from %(before)d to %(steps)d, so "
        "that each of the %(devices)d devices has a batch of every optimizer step, which sees as many images as before."
    ),
)
WARMUP_SHORTENED = define(
    "config_warmup_shortened",
    gettext_noop("warmup_epochs was reduced from %(given)s to %(taken)s, because it exceeded the number of epochs."),
)
