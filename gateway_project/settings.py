"""All settings, in the order a reader asks; every environment variable is declared once, with its default."""

import hashlib
import hmac
import ipaddress
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured

from gateway_project.native import check_compiled
from gateway_project.secrets import load_or_create

BASE_DIR = Path(__file__).resolve().parent.parent
check_compiled(BASE_DIR)
env = environ.Env()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")


def _integer(name: str, default: int, low: int, high: int) -> int:
    """Return the whole number in the environment variable `name`, or stop the start with a sentence that names it."""
    text = env.str(name, default=str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}, not {text!r}.")
    return int(text)


def _boolean(name: str) -> bool:
    """Return the environment variable `name` as yes or no; unset is no, and a slip of the pen is not taken for no."""
    text = env.str(name, default="").lower()
    if text not in {"", "0", "1", "false", "true", "no", "yes", "off", "on"}:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {text!r}.")
    return text in {"1", "true", "yes", "on"}


# --- core -----------------------------------------------------------------------------------------------------------

DEBUG = _boolean("DEBUG")
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "data"))).resolve()
HOST = env.str("HOST", default="127.0.0.1")  # the address that the gateway listens on; 0.0.0.0 in a container
PORT = _integer("PORT", 8000, 1, 65535)
# `web` listens on loopback only; the gateway relays to it
WEB_PORT = _integer("WEB_PORT", PORT + 1 if PORT < 65535 else PORT - 1, 1, 65535)
DATABASE_URL = env.str("DATABASE_URL", default="")  # unset: SQLite in DATA_DIR
REDIS_URL = env.str("REDIS_URL", default="")  # unset: everything in process
EMBEDDED = not DATABASE_URL
# Where people find this installation. An https:// address switches on secure cookies, HSTS and the redirect to https.
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")
_public = urlsplit(PUBLIC_URL)
if PUBLIC_URL and (_public.scheme not in {"http", "https"} or not _public.hostname or _public.path or _public.query):
    raise ImproperlyConfigured(f"PUBLIC_URL must look like https://gateway.example.com, not {PUBLIC_URL!r}.")
HTTPS = _public.scheme == "https"

if EMBEDDED:
    try:
        _secrets = load_or_create(DATA_DIR / "secrets.env")
    except OSError as error:
        raise ImproperlyConfigured(f"DATA_DIR {DATA_DIR} cannot be used: {error.strerror}.") from error
    if not {"SECRET_KEY", "ENCRYPTION_KEYS"} <= _secrets.keys():
        raise ImproperlyConfigured(f"{DATA_DIR / 'secrets.env'} must hold SECRET_KEY and ENCRYPTION_KEYS.")
    SECRET_KEY = env.str("SECRET_KEY", default="") or _secrets["SECRET_KEY"]
    ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS", default=[]) or _secrets["ENCRYPTION_KEYS"].split(",")
else:
    for _name in ("SECRET_KEY", "ENCRYPTION_KEYS"):
        if not env.str(_name, default=""):
            raise ImproperlyConfigured(
                f"{_name} is not set: with DATABASE_URL every process of the fleet needs the same {_name}."
            )
    SECRET_KEY = env.str("SECRET_KEY")
    ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS")  # Fernet keys, the newest first: it encrypts, all of them decrypt

# A key of its own for the digests of WhatsApp users, so that it survives a rotation of ENCRYPTION_KEYS.
SESSION_DIGEST_KEY = hmac.new(SECRET_KEY.encode(), b"whatsapp-session", hashlib.sha256).digest()
# With it the back office asks the gateway how the limits stand; nobody else can.
STANDINGS_TOKEN = hmac.new(SECRET_KEY.encode(), b"standings", hashlib.sha256).hexdigest()

ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]", *([_public.hostname] if _public.hostname else [])]
)
ROOT_URLCONF = "gateway_project.urls"
WSGI_APPLICATION = "gateway_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")  # of the admin, and of new clients
try:
    ZoneInfo(TIME_ZONE)
except (ValueError, OSError, LookupError) as error:
    raise ImproperlyConfigured(f"TIME_ZONE must be an IANA name such as Europe/Berlin, not {TIME_ZONE!r}.") from error
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "gateway_project.formats"  # a time is shown with its zone
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "gateway_project.static.CollectedOrPlain"},
}
WHITENOISE_USE_FINDERS = True  # `make run` serves straight from the apps; only the image collects
vars().update(env.email_url("EMAIL_URL", default="dummymail://"))  # smtp://user:password@host:587; unset: no mail
EMAIL_TIMEOUT = 10  # seconds; a page waits for the mail server
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="gateway@localhost")

# --- apps -----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "gateway_project",  # first: its runserver replaces Django's
    "unfold.apps.BasicAppConfig",  # its templates come before Django's; the site is ours
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "gateway_project.apps.BackOfficeConfig",  # django.contrib.admin with our site
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",  # for allauth.usersessions
    "csp",
    "auditlog",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "pricing",
    "clients",
    "keys",
    "usage",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "gateway_project.middleware.secure_cookies",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "gateway_project.middleware.second_factor",
    "gateway_project.middleware.name_the_actor",
    "gateway_project.middleware.tell_the_time_where_the_reader_is",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway_project.navigation.frame",
            ]
        },
    }
]

# --- database -------------------------------------------------------------------------------------------------------

if EMBEDDED:
    DATABASES: dict[str, dict[str, Any]] = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "gateway.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",  # a writer waits its turn at BEGIN instead of failing half way
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    }
else:
    # The value is never repeated: it carries a password.
    if not DATABASE_URL.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured("DATABASE_URL must begin with postgresql://; unset, SQLite in DATA_DIR is used.")
    try:
        DATABASES = {"default": env.db_url_config(DATABASE_URL)}
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}.") from error
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)

# --- cache ----------------------------------------------------------------------------------------------------------

# Of tries to sign in. Nothing is lost with it.
CACHES = {
    "default": {"BACKEND": "gateway_project.cache.SharedOrOwn", "LOCATION": REDIS_URL, "KEY_PREFIX": "gateway-web"}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

# --- sign-in --------------------------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "clients.access.RoleBackend",  # what a role may do; it signs nobody in
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{_name}"}
    for _name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_RESET_TIMEOUT = 72 * 3600  # for how long an invitation, and a link of a forgotten password, works
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "gateway_project.sign_in.ClosedSignUp"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_EMAIL_VERIFICATION = "none"  # an operator vouches for the address by making the user
ACCOUNT_SESSION_REMEMBER = None  # the form asks
ACCOUNT_REAUTHENTICATION_TIMEOUT = 15 * 60  # for how long a sign-in counts as fresh, which dangerous acts ask for
MFA_ADAPTER = "gateway_project.sign_in.SecondFactors"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # an operator vouches for it
MFA_TOTP_ISSUER = "LLM gateway"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS  # browsers allow http on localhost alone
# gateway_project.guessing has these pages; both it and allauth count in the cache.
ACCOUNT_RATE_LIMITS = {"login": None, "reset_password": None, "reauthenticate": None}
RATELIMIT_IP_META_KEY = "gateway_project.middleware.counted_address"
REQUIRE_SECOND_FACTOR = _boolean("REQUIRE_SECOND_FACTOR")  # nobody works here without one
ALLAUTH_TRUSTED_PROXY_COUNT = 1  # the gateway, which puts the caller's address there

# --- back office ----------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "LLM gateway",
    "SITE_HEADER": "LLM gateway",
    "SITE_SYMBOL": "hub",  # of Material Symbols, which unfold brings along
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "gateway_project.navigation.favicon"}],
    "STYLES": ["gateway_project.navigation.frame_style"],
    "SCRIPTS": ["gateway_project.navigation.time_zone_script", "gateway_project.navigation.search_script"],
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {  # a blue of which white text on 600, and 500 on the dark ground, can be read
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#5b9bf8",
            "600": "#2563eb",
            "700": "#1d4ed8",
            "800": "#1e40af",
            "900": "#1e3a8a",
            "950": "#172554",
        },
        "font": {
            "subtle-light": "var(--color-base-600)",
            "subtle-dark": "var(--color-base-300)",
            "default-light": "var(--color-base-700)",
            "default-dark": "var(--color-base-300)",
            "important-light": "var(--color-base-900)",
            "important-dark": "var(--color-base-100)",
        },
    },
    "ACCOUNT": {"navigation": "gateway_project.navigation.account"},
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": "gateway_project.navigation.sidebar"},
}

AUDITLOG_LOGENTRY_MODEL = "clients.AuditEntry"
AUDITLOG_STORE_JSON_CHANGES = True
AUDITLOG_USE_FK_STRING_REPRESENTATION = True  # names outlive what they name

REST_FRAMEWORK = {  # deny first: a view that says nothing lets nobody in
    "DEFAULT_AUTHENTICATION_CLASSES": ["clients.rest.BearerToken"],
    "DEFAULT_PERMISSION_CLASSES": ["clients.rest.HasScope"],
    "EXCEPTION_HANDLER": "clients.rest.problem",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LLM gateway",
    "DESCRIPTION": "For your own automation: clients, keys, limits, prices and usage. Sign in with a token of yours, "
    "`Authorization: Bearer llm_api_…`; it does at most what your role may, narrowed to its scopes.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- data plane -----------------------------------------------------------------------------------------------------

ALLOW_PRIVATE_PROVIDERS = _boolean("ALLOW_PRIVATE_PROVIDERS")  # lets a base URL lead to loopback or private addresses
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")  # set at first run: makes the first provider
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="https://api.openai.com/v1").rstrip("/")
JOURNAL_DIR = DATA_DIR / "journal"
MAX_BODY_BYTES = _integer("MAX_BODY_BYTES", 32 * 1024 * 1024, 1024, 1024**3)  # of one call; images come as base64
DRAIN_SECONDS = _integer("DRAIN_SECONDS", 30, 0, 3600)  # how long a stopping gateway lets open calls finish
# Networks whose X-Forwarded-For and -Proto are believed: the TLS proxy in front. Nobody's, unless said.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])
for _network in TRUSTED_PROXIES:
    try:
        ipaddress.ip_network(_network)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"TRUSTED_PROXIES must list networks such as 10.0.0.0/8, separated by commas: {error}."
        ) from error
if HTTPS and not TRUSTED_PROXIES:
    raise ImproperlyConfigured(
        "TRUSTED_PROXIES is not set: PUBLIC_URL is https, so name the network of the proxy that ends TLS "
        "(127.0.0.1/32 when it runs on this machine)."
    )

# --- Celery ---------------------------------------------------------------------------------------------------------

BROKER_DIR = DATA_DIR / "broker"
ARCHIVE_DIR = DATA_DIR / "archive"  # records of months long ago
EXPORTS_DIR = DATA_DIR / "exports"  # cost reports that go out by the clock
if REDIS_URL:
    if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or unix://.")
    CELERY_BROKER_URL = REDIS_URL
else:
    CELERY_BROKER_URL = "filesystem://localhost"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BROKER_DIR / "queue"),
        "data_folder_out": str(BROKER_DIR / "queue"),
        "control_folder": str(BROKER_DIR / "control"),
    }
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE = {
    "forget ended admin sessions": {
        "task": "gateway_project.tasks.clear_sessions",
        "schedule": timedelta(days=1),
    },
    "tell of keys that expire and of links that were opened": {
        "task": "gateway_project.tasks.tell_of_keys",
        "schedule": timedelta(minutes=1),
    },
    "show that the worker lives": {
        "task": "gateway_project.tasks.show_life",
        "schedule": timedelta(seconds=10),
        "options": {"expires": 10},
    },
    "add new records to rollups": {
        "task": "gateway_project.tasks.roll_usage",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},  # while one rolls, no others queue up
    },
    "send the cost reports that are due": {
        "task": "gateway_project.tasks.export_costs",
        "schedule": timedelta(seconds=15),
        "options": {"expires": 15},
    },
    "find what is to be told of limits and of the last calls": {
        "task": "gateway_project.tasks.watch_usage",
        "schedule": timedelta(seconds=30),
        "options": {"expires": 30},
    },
    "find what takes longer to see": {
        "task": "gateway_project.tasks.look_ahead",
        "schedule": timedelta(minutes=10),
        "options": {"expires": 600},
    },
    "join up rollups of days that are over": {
        "task": "gateway_project.tasks.join_days",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "learn what is usual for runaway brakes": {
        "task": "gateway_project.tasks.learn_paces",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "go on with re-ratings": {
        "task": "gateway_project.tasks.rerate_calls",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},
    },
    "move records of long ago to the archive": {
        "task": "gateway_project.tasks.archive_records",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "deliver alerts": {
        "task": "gateway_project.tasks.deliver_alerts",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},
    },
}

# --- security -------------------------------------------------------------------------------------------------------

# `web` is reached only through the gateway, which sets these headers itself and lets no caller's through.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True
SECURE_SSL_REDIRECT = HTTPS
SECURE_SSL_HOST = _public.netloc if HTTPS else None
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # unfold's Alpine compiles what its templates say in attributes; no script stands in a page itself
        "script-src": [SELF, UNSAFE_EVAL],
        "style-src": [SELF, UNSAFE_INLINE],  # unfold sets its colours, and widths of bars, in the page
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
# HSTS preload speaks for the whole registered domain, which is not this installation's to promise.
SILENCED_SYSTEM_CHECKS = ["security.W021"]

# --- logging --------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {LOG_LEVEL!r}.")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "gateway_project.logs.JSONFormatter"},
        "plain": {"format": "%(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {
        # stderr, because commands such as createkey print their answer, and nothing else, on stdout
        "stderr": {"class": "logging.StreamHandler", "formatter": "plain" if sys.stderr.isatty() else "json"},
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Replaces Django's own handlers, so that nothing is said twice.
        "django": {"level": LOG_LEVEL, "handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},  # a 404 in the admin is no event
        "django.utils.autoreload": {"level": "WARNING"},
        "django.db.backends": {"level": "INFO"},  # DEBUG would log SQL with its parameters
        "celery": {"level": LOG_LEVEL},
        "fontTools": {"level": "WARNING"},  # INFO tells of every table of a font
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},  # DEBUG would log a provider's headers
    },
}
