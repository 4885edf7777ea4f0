"""Every setting of CV Studio, read from the environment.

`Environment` is the single list of settings; its descriptions become the settings table of the README. An invalid
value is refused at start-up with the name of its variable.
"""

import contextlib
import importlib.util
import ipaddress
import os
import secrets
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dj_database_url
import django_stubs_ext
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# Makes generic classes of Django such as QuerySet[Run] subscriptable at run time.
django_stubs_ext.monkeypatch()

PACKAGE_DIR = Path(__file__).resolve().parent
_SOURCE_DIR = PACKAGE_DIR.parent
#: Root of templates, static files and translations: the checkout, or the copy inside an installed wheel.
BASE_DIR = PACKAGE_DIR / "_assets" if (PACKAGE_DIR / "_assets").is_dir() else _SOURCE_DIR

NameList = Annotated[list[str], NoDecode]


#: Scheme of MAIL_URL -> its usual port.
_MAIL_PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}


def _default_data_dir() -> Path:
    """`data/` of the checkout. An installed wheel stores nothing in site-packages, which an upgrade may clear."""
    if BASE_DIR == _SOURCE_DIR:
        return _SOURCE_DIR / "data"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "cvstudio"


#: A folder of NVIDIA's driver: it is read in no time, while the driver itself may take seconds to answer.
_DRIVER_FOLDER = Path("/proc/driver/nvidia")


def _default_training_processes() -> int:
    """One run for each GPU, or for each slice of a divided one (MIG); at least 2, and what the setting allows."""
    gpus = len(list(_DRIVER_FOLDER.glob("gpus/*")))
    slices = list(_DRIVER_FOLDER.glob("capabilities/gpu*/mig/gi*/ci*"))
    divided = {path.parents[2] for path in slices}
    return min(max(2, gpus - len(divided) + len(slices)), 64)


class Environment(BaseSettings):
    """The environment variables with their defaults. An empty variable counts as unset."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="ignore", env_ignore_empty=True)

    DEBUG: bool = Field(
        False, description="Shows tracebacks in the browser. Never enable it on a machine that others can reach."
    )
    SECRET_KEY: str = Field(
        "", description="Key that signs sessions. Empty: generated once and stored in DATA_DIR/secret_key."
    )
    ALLOWED_HOSTS: NameList = Field(
        ["localhost", "127.0.0.1", "[::1]"], description="Host names that the studio serves, separated by commas."
    )
    DATABASE_POOL: int = Field(
        0,
        ge=0,
        le=1000,
        description="PostgreSQL: connections that each process keeps open and lends to its threads, at most; at least "
        "MAX_TRAINING_PROCESSES + 8. 0: each request and each look of a stream opens a connection of its own.",
    )
    CSRF_TRUSTED_ORIGINS: NameList = Field(
        [], description="Origins behind a proxy that may submit forms, such as https://studio.example.org."
    )
    HTTPS: bool = Field(
        False, description="The studio is served over HTTPS: enables secure cookies, the redirect and HSTS."
    )
    TRUSTED_PROXIES: NameList = Field(
        [],
        description="Addresses or networks of proxies whose X-Forwarded-For header is trusted, separated by commas. "
        "Empty: none.",
    )
    SESSION_HOURS: int = Field(336, ge=1, le=8760, description="Lifetime of a session in hours.")
    LOGIN_ATTEMPTS: int = Field(
        5, ge=1, le=1000, description="Failed sign-in attempts in a row before the account is locked."
    )
    LOGIN_LOCK_MINUTES: int = Field(15, ge=1, le=10080, description="Minutes for which a locked account stays locked.")
    AUDIT_DAYS: int = Field(365, ge=1, description="Days for which entries of the audit trail are kept.")
    OIDC_ISSUER: str = Field(
        "", description="OpenID Connect provider for single sign-on, such as https://id.example.org. Empty: disabled."
    )
    OIDC_CLIENT_ID: str = Field("", description="Client ID of the studio at the provider.")
    OIDC_CLIENT_SECRET: str = Field("", description="Client secret of the studio at the provider.")
    OIDC_NAME: str = Field("OpenID", description="Name of the provider on the sign-in button.")
    OIDC_DEFAULT_ROLE: Literal["viewer", "operator"] = Field(
        "viewer", description="Role of a user who signs in through the provider for the first time: viewer or operator."
    )
    HOST: str = Field("127.0.0.1", description="Address on which the web server listens.")
    PORT: int = Field(8000, ge=1, le=65535, description="Port on which the web server listens.")
    DATA_DIR: Path = Field(
        default_factory=_default_data_dir,
        description="Directory of the database, datasets, runs and models. Empty: data/ in the checkout, or "
        "~/.local/share/cvstudio for an installed package.",
    )
    CHECKPOINTS_DIR: Path | None = Field(None, description="Directory of the run files. Empty: DATA_DIR/runs.")
    DATABASE_URL: str = Field("", description="postgres://user:password@host/name. Empty: SQLite in DATA_DIR.")
    REDIS_URL: str = Field(
        "", description="redis://host:6379/0, used for the task queue and page notifications. Empty: no Redis."
    )
    STUDIO_URL: str = Field(
        "",
        description="Address of the studio in e-mails and webhooks, such as https://studio.example.org. "
        "Empty: http://HOST:PORT.",
    )
    MAIL_URL: str = Field(
        "",
        description="Mail server for notifications: smtp://user:password@host:587 (STARTTLS), smtps://host:465 (TLS) "
        "or smtp+plain://host:25 (no encryption). Empty: no e-mails.",
    )
    MAIL_FROM: str = Field("cvstudio@localhost", description="Sender address of e-mails.")
    WEBHOOKS_TO_PRIVATE_ADDRESSES: bool = Field(
        False,
        description="Allows webhooks of all users to private and loopback addresses. Those of administrators always "
        "may.",
    )
    NOTIFICATION_DAYS: int = Field(
        90, ge=1, le=3650, description="Days for which notifications and the log of their deliveries are kept."
    )
    OBJECT_STORE_URL: str = Field(
        "",
        description="Where datasets are stored for hosts without a common DATA_DIR: s3://bucket/prefix or a directory "
        "(see docs/cluster.md). Empty: nowhere.",
    )
    CACHE_DIR: Path | None = Field(
        None, description="Directory of this host for its copies of stored datasets. Empty: DATA_DIR/cache."
    )
    CACHE_GB: float = Field(
        0,
        ge=0,
        le=1_000_000,
        description="GB that these copies may use; the least recently used ones are removed. 0: what the disk has.",
    )
    HOST_NAME: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,63}$",
        description="Name of this host in the studio, different on each host. Empty: the host name of the system.",
    )
    CLUSTER_INTERFACE: str = Field(
        "",
        description="Network interface by which this host reaches other hosts, such as eth0, to train one run together "
        "with them. Empty: runs on several hosts leave this host out.",
    )
    MAX_TRAINING_PROCESSES: int = Field(
        default_factory=_default_training_processes,
        ge=1,
        le=64,
        description="Maximum number of runs that train concurrently on this host. Empty: the number of its NVIDIA "
        "GPUs, at least 2.",
    )
    MAX_RUNS_PER_USER: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Maximum number of concurrent runs per user. 0: no limit.",
    )
    STUDIO_TASKS: NameList = Field(
        [], description="Modules that add tasks, separated by commas; each has a TASK (see docs/adding.md)."
    )
    MAX_RECOVERIES: int = Field(
        3, ge=0, le=100, description="Maximum number of automatic recoveries of a run after a crash."
    )
    RETRY_WAIT_S: float = Field(
        10, ge=0, le=3600, description="Seconds before a failed run is retried; doubled for each further retry."
    )
    SOFT_TIME_LIMIT_HOURS: float = Field(
        12,
        ge=0,
        le=8760,
        description="Hours after which a run saves a checkpoint and stops; it can be resumed. 0: no limit.",
    )
    HARD_TIME_LIMIT_HOURS: float = Field(
        24,
        ge=0,
        le=8760,
        validate_default=True,
        description="Hours after which the trainer of a run is killed. 0: no limit.",
    )
    STOP_GRACE_S: float = Field(
        120,
        ge=0,
        le=86400,
        description="Seconds within which a trainer must pause or stop before it is killed. 0: no limit.",
    )
    LEAVE_GRACE_S: float = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds within which trainers must save and exit when their worker is stopped; then they are "
        "killed. Their runs continue on another worker, or when this one starts again.",
    )
    HANG_MINUTES: float = Field(
        15, ge=0, le=10080, description="Minutes without an event after which a trainer is considered hung. 0: never."
    )
    TRAINER_LOG_MB: int = Field(
        50,
        ge=4,
        le=100_000,
        description="Maximum size of trainer.log in MB; beyond it, the middle of the file is dropped.",
    )
    SPARE_TRAINER: bool = Field(
        True, description="Keeps one trainer process preloaded so that a run starts immediately."
    )
    PUBLISHED_WEIGHTS: Literal["download", "cache", "off"] = Field(
        "download",
        description="Published weights that runs start from: download takes them from the cache or downloads them, "
        "cache takes those in the cache alone, off lets runs with automatic weights train from scratch.",
    )
    IMPORT_DIRS: NameList = Field(
        [],
        description="Server directories from which datasets may be imported, separated by commas. "
        "Empty: any directory, by administrators only.",
    )
    MAX_UPLOAD_MB: int = Field(4096, ge=1, description="Maximum size of a dataset upload in MB.")
    API_RATE_PER_MINUTE: int = Field(
        600, ge=0, description="API requests per minute for each token, user or address. 0: no limit."
    )
    SCRUB_DAYS: int = Field(
        7,
        ge=0,
        le=3650,
        description="Days within which every checkpoint and every model file is verified against its hashes once. "
        "0: never.",
    )
    KEEP_SERIES_DAYS: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after the end of a run for which the points of its training are kept. Values of validations, "
        "the latest and the best metrics stay; starred runs keep everything. 0: forever.",
    )
    KEEP_LOG_DAYS: int = Field(
        0, ge=0, le=36_500, description="The same for the lines of its log in the database. 0: forever."
    )
    KEEP_EVENT_DAYS: int = Field(
        0, ge=0, le=36_500, description="The same for its events of checkpoints and samples. 0: forever."
    )
    LANGUAGE: Literal["en", "zh-hans"] = Field("en", description="Default language: en or zh-hans.")
    TIME_ZONE: str = Field("UTC", description="Time zone of all displayed times, such as Europe/Paris.")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Minimum level of log messages."
    )
    LOG_FORMAT: Literal["text", "json"] = Field(
        "text", description="Format of the log on standard error: text or JSON lines."
    )

    @field_validator(
        "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "IMPORT_DIRS", "STUDIO_TASKS", "TRUSTED_PROXIES", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("TRUSTED_PROXIES")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for part in value:
            ipaddress.ip_network(part, strict=False)  # raises ValueError with the reason
        return value

    @field_validator("HARD_TIME_LIMIT_HOURS")
    @classmethod
    def _after_the_soft_limit(cls, value: float, others: ValidationInfo) -> float:
        soft = others.data.get("SOFT_TIME_LIMIT_HOURS", 0)
        if value and soft > value:
            raise ValueError(f"must not be below SOFT_TIME_LIMIT_HOURS ({soft:g})")
        return value

    @field_validator("OIDC_ISSUER")
    @classmethod
    def _issuer(cls, value: str) -> str:
        return _checked_url(value, {"https": "host", "http": "host"}, "https://id.example.org")

    @field_validator("STUDIO_URL")
    @classmethod
    def _studio_url(cls, value: str) -> str:
        return _checked_url(value, {"https": "host", "http": "host"}, "https://studio.example.org")

    @field_validator("MAIL_URL")
    @classmethod
    def _mail_url(cls, value: str) -> str:
        return _checked_url(value, dict.fromkeys(_MAIL_PORTS, "host"), "smtp://user:password@mail.example.org:587")

    @field_validator("REDIS_URL")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        return _checked_url(value, {"redis": "host", "rediss": "host", "unix": "path"}, "redis://localhost:6379/0")

    @field_validator("OBJECT_STORE_URL")
    @classmethod
    def _object_store_url(cls, value: str) -> str:
        if not value or (value.startswith("/") and "://" not in value):
            return value
        parts = urlsplit(value)
        if parts.username or parts.password:
            raise ValueError("must not contain credentials: they are read from the environment of the store's library")
        return _checked_url(value, {"file": "path", "s3": "host"}, "s3://bucket/prefix, or the path of a directory")

    @field_validator("DATABASE_URL")
    @classmethod
    def _database_url(cls, value: str) -> str:
        schemes = {"postgres": "path", "postgresql": "path", "sqlite": "path"}
        return _checked_url(value, schemes, "postgres://user:password@localhost/cvstudio")

    @field_validator("TIME_ZONE")
    @classmethod
    def _time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, OSError):
            raise ValueError("must be the name of a time zone such as Europe/Paris") from None
        return value


def _checked_url(value: str, schemes: dict[str, str], example: str) -> str:
    """Check a URL. `schemes` maps each allowed scheme to the part that its URL must have: "host" or "path"."""
    if not value:
        return value
    parts = urlsplit(value)
    needed = {"host": parts.hostname, "path": parts.path.strip("/")}
    if parts.scheme not in schemes or not needed[schemes[parts.scheme]]:
        raise ValueError(f"must be a URL such as {example}")
    if parts.port == 0:  # reading it raises ValueError if the port is not a number
        raise ValueError("port 0 cannot be connected to")
    return value


#: Values that may contain a password are not repeated in messages.
_SECRET_NAMES = {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "OIDC_CLIENT_SECRET", "MAIL_URL", "OBJECT_STORE_URL"}


def _read_environment() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        lines = ["The environment contains invalid settings."]
        for item in error.errors():
            name, message = str(item["loc"][0]), item["msg"].removeprefix("Value error, ")
            shown = "" if name in _SECRET_NAMES else f" (got {item['input']!r})"
            lines.append(f"{name}: {message}{shown}")
        raise ImproperlyConfigured("\n".join(lines)) from None


def _make_data_dir(path: Path, variable: str = "DATA_DIR") -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{variable}: {path} cannot be created: {error.strerror}.") from None


def _kept_secret_key(path: Path) -> str:
    """Return the key stored in `path`, created on first use; two processes that start at the same time agree on one.

    The file appears under its name complete and readable by its owner only, or not at all.
    """
    try:
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret_key-") as file:
                file.write(secrets.token_urlsafe(64))
                file.flush()
                with contextlib.suppress(FileExistsError):
                    os.link(file.name, path)
        return path.read_text()
    except OSError as error:
        raise ImproperlyConfigured(f"DATA_DIR: {path} cannot be read or created: {error.strerror}.") from None


env = _read_environment()

DEBUG = env.DEBUG
DATA_DIR = env.DATA_DIR.resolve()
RUNS_DIR = (env.CHECKPOINTS_DIR or DATA_DIR / "runs").resolve()
DATASETS_DIR = DATA_DIR / "datasets"
UPLOADS_DIR = DATA_DIR / "uploads"
WEIGHTS_CACHE_DIR = DATA_DIR / "torch"
PUBLISHED_WEIGHTS = env.PUBLISHED_WEIGHTS
WEIGHTS_DIR = DATA_DIR / "weights"
JOBS_DIR = DATA_DIR / "jobs"
OBJECT_STORE_URL = env.OBJECT_STORE_URL
CACHE_DIR = (env.CACHE_DIR or DATA_DIR / "cache").resolve()
CACHE_BYTES = round(env.CACHE_GB * 1e9)
_make_data_dir(UPLOADS_DIR)
if env.CHECKPOINTS_DIR:
    _make_data_dir(RUNS_DIR, "CHECKPOINTS_DIR")
HOST = env.HOST
PORT = env.PORT
HTTPS = env.HTTPS
SECRET_KEY = env.SECRET_KEY or _kept_secret_key(DATA_DIR / "secret_key")
ALLOWED_HOSTS = env.ALLOWED_HOSTS
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS
HOST_NAME = env.HOST_NAME
CLUSTER_INTERFACE = env.CLUSTER_INTERFACE
MAX_TRAINING_PROCESSES = env.MAX_TRAINING_PROCESSES
MAX_RUNS_PER_USER = env.MAX_RUNS_PER_USER
MAX_RECOVERIES = env.MAX_RECOVERIES
RETRY_WAIT_S = env.RETRY_WAIT_S
SOFT_TIME_LIMIT_HOURS = env.SOFT_TIME_LIMIT_HOURS
HARD_TIME_LIMIT_HOURS = env.HARD_TIME_LIMIT_HOURS
STOP_GRACE_S = env.STOP_GRACE_S
LEAVE_GRACE_S = env.LEAVE_GRACE_S
HANG_MINUTES = env.HANG_MINUTES
TRAINER_LOG_BYTES = env.TRAINER_LOG_MB * 1024 * 1024
SPARE_TRAINER = env.SPARE_TRAINER
IMPORT_DIRS = [Path(folder).resolve() for folder in env.IMPORT_DIRS]
REDIS_URL = env.REDIS_URL
SCRUB_DAYS = env.SCRUB_DAYS
KEEP_SERIES_DAYS = env.KEEP_SERIES_DAYS
KEEP_LOG_DAYS = env.KEEP_LOG_DAYS
KEEP_EVENT_DAYS = env.KEEP_EVENT_DAYS
MAX_UPLOAD_BYTES = env.MAX_UPLOAD_MB * 1024 * 1024
TRUSTED_PROXIES = [ipaddress.ip_network(part, strict=False) for part in env.TRUSTED_PROXIES]
AUDIT_DAYS = env.AUDIT_DAYS
API_RATE_PER_MINUTE = env.API_RATE_PER_MINUTE
STUDIO_URL = (env.STUDIO_URL or f"http://{env.HOST}:{env.PORT}").rstrip("/")
WEBHOOKS_TO_PRIVATE_ADDRESSES = env.WEBHOOKS_TO_PRIVATE_ADDRESSES
NOTIFICATION_DAYS = env.NOTIFICATION_DAYS
#: Seconds without a heartbeat after which a run counts as lost.
HEARTBEAT_LEASE_S = 10

INSTALLED_APPS = [
    "trainingapp.operations.apps.TrainingAppConfig",
    "cvstudio.apps.StudioAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "huey.contrib.djhuey",
    "channels",
    "csp",
    "ninja",  # for the pages of its Swagger UI alone
    "axes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "cvstudio.compression.CompressionMiddleware",
    "cvstudio.static_files.StaticFilesMiddleware",
    "trainingapp.accounts.middleware.private",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "trainingapp.accounts.middleware.acting",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "cvstudio.urls"
ASGI_APPLICATION = "cvstudio.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES: list[dict[str, object]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
FORM_RENDERER = "trainingapp.presentation.widgets.PlainWidgets"

# IMMEDIATE takes the write lock at the start of a transaction, where SQLite waits for `timeout`. A transaction that
# takes it at its first write, after a read, fails immediately if another one has written meanwhile.
_DATABASE: dict[str, object] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA_DIR / "studio.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}
# A server that lost its power, or a cable that was cut, sends nothing: the operating system would wait for a quarter of
# an hour. These are below HEARTBEAT_LEASE_S. A query may take longer, because the server's system responds meanwhile.
_DATABASE_NETWORK: dict[str, object] = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,  # milliseconds
}
if env.DATABASE_URL:
    _parsed = dj_database_url.parse(env.DATABASE_URL, conn_health_checks=True)
    if "postgresql" in _parsed["ENGINE"]:
        # None is opened before it is needed: a command takes one, and idle ones are closed after ten minutes.
        pool = {"pool": {"min_size": 0, "max_size": env.DATABASE_POOL, "timeout": 20}} if env.DATABASE_POOL else {}
        _DATABASE = {**_parsed, "OPTIONS": {**_DATABASE_NETWORK, **_parsed.get("OPTIONS", {}), **pool}}
    else:
        _DATABASE = {**_DATABASE, "NAME": _parsed["NAME"]} if "sqlite" in _parsed["ENGINE"] else {**_parsed}
DATABASES = {"default": _DATABASE}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Failed attempts lock one account for one address: neither other users behind that address nor the owner of the
# account at another address are locked out.
AXES_FAILURE_LIMIT = env.LOGIN_ATTEMPTS
AXES_COOLOFF_TIME = timedelta(minutes=env.LOGIN_LOCK_MINUTES)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "trainingapp.accounts.audit.address_of"
AXES_LOCKOUT_CALLABLE = "trainingapp.views.account.locked_out"
AXES_DISABLE_ACCESS_LOG = True  # the activity log contains the sign-ins
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = env.LANGUAGE
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "cvstudio.formats"
TIME_ZONE = env.TIME_ZONE
USE_TZ = True

_NODE_MODULES = BASE_DIR / "static" / "node_modules"
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
_make_data_dir(STATIC_ROOT)  # WhiteNoise warns at every start if it is missing
# Served from the folders of `npm ci`, only the published files of each package.
STATICFILES_DIRS = [
    ("css", BASE_DIR / "static" / "css"),
    ("js", BASE_DIR / "static" / "js"),
    ("img", BASE_DIR / "static" / "img"),
    ("vendor/bootstrap", _NODE_MODULES / "bootstrap" / "dist"),
    ("vendor/bootstrap-icons", _NODE_MODULES / "bootstrap-icons" / "font"),
    ("vendor/uplot", _NODE_MODULES / "uplot" / "dist"),
    ("vendor/idiomorph", _NODE_MODULES / "idiomorph" / "dist"),
]
# Files are served from their source folders, under addresses that change with their content (cvstudio/static_files.py).
WHITENOISE_USE_FINDERS = True
# Nothing elsewhere uses these files.
WHITENOISE_ALLOW_ALL_ORIGINS = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "cvstudio.static_files.VersionedStaticFilesStorage"},
}

# Uploads are written to the disk of the datasets, so that moving one is a rename.
FILE_UPLOAD_TEMP_DIR = UPLOADS_DIR
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
FILE_UPLOAD_PERMISSIONS = 0o600
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
# The import form has three fields for each class, and datasets have a thousand classes and more.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 8000

# `immediate` is explicit, because its default is DEBUG, which would train within a web request. The delays bound the
# wait of an idle consumer: by default it grows to ten seconds.
HUEY: dict[str, object] = {
    "huey_class": "trainingapp.worker.consumer.RedisStudioHuey"
    if REDIS_URL
    else "trainingapp.worker.consumer.SqliteStudioHuey",
    "name": "cvstudio",
    "immediate": False,
    "results": False,
    "utc": True,
    "connection": {"url": REDIS_URL} if REDIS_URL else {"filename": str(DATA_DIR / "queue.sqlite3")},
    "consumer": {
        "workers": MAX_TRAINING_PROCESSES + (6 if OBJECT_STORE_URL else 5),
        "worker_type": "thread",
        "initial_delay": 0.01,
        "max_delay": 0.05,
        "backoff": 1.15,
        "check_worker_health": True,
        "scheduler_interval": 1,
        "periodic": True,
        # What is still at work then, such as a check of files, may be killed at any time.
        "shutdown_timeout": LEAVE_GRACE_S + 30,
    },
}

# Contains only the counters of the API rate limit, which may be lost. Without Redis each web process counts for
# itself; `manage.py studio` has one.
CACHES: dict[str, dict[str, str]] = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

MAIL_IS_CONFIGURED = bool(env.MAIL_URL)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if MAIL_IS_CONFIGURED else 'dummy'}.EmailBackend"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.MAIL_FROM
EMAIL_TIMEOUT = 15
if env.MAIL_URL:
    _mail = urlsplit(env.MAIL_URL)
    EMAIL_HOST, EMAIL_PORT = _mail.hostname or "", _mail.port or _MAIL_PORTS[_mail.scheme]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
    EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.scheme == "smtp", _mail.scheme == "smtps"

CHANNEL_LAYERS: dict[str, dict[str, object]] = {}
if REDIS_URL:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }

CONTENT_SECURITY_POLICY: dict[str, dict[str, list[str]]] = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    },
}
SESSION_COOKIE_AGE = env.SESSION_HOURS * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = env.HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if env.HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.HTTPS else None
X_FRAME_OPTIONS = "DENY"

OIDC_NAME = env.OIDC_NAME if env.OIDC_ISSUER else ""
OIDC_DEFAULT_ROLE = env.OIDC_DEFAULT_ROLE
if env.OIDC_ISSUER:
    if not (env.OIDC_CLIENT_ID and env.OIDC_CLIENT_SECRET):
        raise ImproperlyConfigured("OIDC_ISSUER: OIDC_CLIENT_ID and OIDC_CLIENT_SECRET are needed with it.")
    if importlib.util.find_spec("allauth") is None:
        raise ImproperlyConfigured("OIDC_ISSUER: single sign-on needs the extra: pip install 'cvstudio[sso]'.")
    INSTALLED_APPS += [
        "allauth",
        "allauth.account",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.openid_connect",
    ]
    MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
    AUTHENTICATION_BACKENDS += ["allauth.account.auth_backends.AuthenticationBackend"]
    SOCIALACCOUNT_ADAPTER = "trainingapp.accounts.sign_on.StudioAdapter"
    SOCIALACCOUNT_ONLY = True
    SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = ""  # the callback address is /sso/oidc/login/callback/
    # Two accounts may have one e-mail address: a user is identified only by the subject ID of the provider.
    ACCOUNT_UNIQUE_EMAIL = False
    ACCOUNT_EMAIL_VERIFICATION = "none"
    ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if env.HTTPS else "http"
    SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {
            "OAUTH_PKCE_ENABLED": True,
            "APPS": [
                {
                    "provider_id": "oidc",
                    "name": env.OIDC_NAME,
                    "client_id": env.OIDC_CLIENT_ID,
                    "secret": env.OIDC_CLIENT_SECRET,
                    "settings": {"server_url": env.OIDC_ISSUER.rstrip("/")},
                }
            ],
        }
    }
    # The form of the sign-in page redirects to the provider.
    _issuer = urlsplit(env.OIDC_ISSUER)
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["form-action"].append(f"{_issuer.scheme}://{_issuer.netloc}")

# Django, the libraries and the loggers of structlog write the same format to standard error.
_LOG_CHAIN: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_LOG_RENDERER: list[structlog.typing.Processor] = (
    [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if env.LOG_FORMAT == "json"
    else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
)
structlog.configure(
    processors=[*_LOG_CHAIN, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
LOGGING: dict[str, object] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "studio": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _LOG_CHAIN,
            "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_LOG_RENDERER],
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "studio"}},
    "root": {"handlers": ["stderr"], "level": env.LOG_LEVEL},
    "loggers": {"django.server": {"level": "WARNING"}, "huey": {"level": "WARNING"}},
}
