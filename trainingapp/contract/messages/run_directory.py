"""Messages about RUN_DIR/config.json, from which a trainer starts."""

from trainingapp.contract.messages import define, gettext_noop

FILE_NOT_READ = define("run_config_not_read", gettext_noop("%(path)s: cannot be read (%(reason)s)."))
NOT_JSON = define("run_config_not_json", gettext_noop("%(path)s: not valid JSON (%(error)s)."))
NO_ATTEMPT = define("run_config_no_attempt", gettext_noop("%(path)s: must be a JSON object with an integer 'attempt'."))
KEYS_MISSING = define("run_config_keys_missing", gettext_noop("%(path)s lacks %(names)s."))
START_FROM_MISSING = define(
    "run_config_start_from_missing", gettext_noop("%(path)s lacks start_from, the path of %(file)s.")
)
DEVICE_INVALID = define(
    "run_config_device_invalid", gettext_noop("%(path)s: device is %(device)s; it must be cpu or cuda:N.")
)
DEVICES_INVALID = define(
    "run_config_devices_invalid",
    gettext_noop(
        "%(path)s: devices are %(devices)s; they must be CPU slots or different GPUs, and have one UUID each or none."
    ),
)
CONFIG_INVALID = define("run_config_invalid", gettext_noop("The configuration is invalid. %(problems)s"))
