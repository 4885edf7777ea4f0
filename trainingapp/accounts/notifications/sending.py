"""One HTTP request to an address that a user has entered.

The host is resolved here, and the connection is made to the address that was checked: a name that is resolved to
another address a moment later leads nowhere else. Redirects are not followed, and proxies of the environment not used.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext as _

from trainingapp.contract.messages import Message, MessageError
from trainingapp.contract.messages import notifications as messages
from trainingapp.models.verbs import VerbError

#: Seconds for the whole request, however slowly the receiver answers, and for one wait within it.
TOTAL_S = 15.0
WAIT_S = 10.0
#: Bytes of the answer that are read and stored.
MOST_BYTES = 2000
#: Networks whose addresses hold an IPv4 address in their last 32 bits.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddressError(MessageError):
    """The address may not be called. Trying again does not help."""


@dataclass(frozen=True)
class Answer:
    """What the receiver has answered."""

    status: int
    text: str


def checked_url(url: str, *, may_be_private: bool) -> str:
    """The address of a webhook. Raises VerbError for one that cannot be called, as far as its text shows it."""
    parts = _split(url.strip())
    if parts is None:
        raise VerbError(_("Enter an address such as https://hooks.example.org/abc."))
    if parts.username or parts.password:
        raise VerbError(_("The address must not contain a user name or a password."))
    host = parts.hostname or ""
    try:
        is_private = not is_public(ipaddress.ip_address(host))
    except ValueError:
        is_private = host == "localhost" or host.endswith(".localhost")
    if is_private and not may_be_private:
        raise VerbError(
            _("Only webhooks of administrators may use private addresses such as %(host)s.") % {"host": host}
        )
    return url.strip()


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_usable and url.isascii() and url.isprintable() and " " not in url else None


def is_public(address: Address) -> bool:
    """Whether the address is one of the internet: not private, loopback, link-local, multicast or reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def post(url: str, body: bytes, headers: Mapping[str, str], *, may_be_private: bool) -> Answer:
    """Send `body`, and return the answer, whatever its status.

    Raises RefusedAddressError for an address that may not be called, and MessageError where no answer came.
    """
    parts = _split(url)
    if parts is None:
        raise RefusedAddressError(messages.UNREACHABLE(reason=url))
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    sock = _connected(host, port, may_be_private=may_be_private)
    # Closes the connection of a receiver that sends a byte now and then.
    is_late = threading.Event()
    watch = threading.Timer(TOTAL_S, _end, (sock, is_late))
    watch.daemon = True
    watch.start()
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
        connection.sock = sock
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        text = response.read(MOST_BYTES).decode("utf-8", "replace").replace("\0", "")
        return Answer(response.status, text)
    except (OSError, http.client.HTTPException) as error:
        raise MessageError(_failure(error, is_late=is_late.is_set())) from error
    finally:
        watch.cancel()
        sock.close()


def _end(sock: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended meanwhile
        return


def _failure(error: Exception, *, is_late: bool) -> Message:
    if is_late or isinstance(error, TimeoutError):
        return messages.TOO_SLOW(seconds=round(TOTAL_S))
    return messages.UNREACHABLE(reason=str(error) or type(error).__name__)


def _connected(host: str, port: int, *, may_be_private: bool) -> socket.socket:
    """A connection to the first address of the host that answers. All of them must be allowed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MessageError(messages.UNKNOWN_HOST(host=host)) from error
    for *_rest, place in found:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if not may_be_private and not is_public(address):
            raise RefusedAddressError(messages.PRIVATE_ADDRESS(host=host, address=str(address)))
    failure: OSError = OSError()
    for family, kind, protocol, _name, place in found:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(WAIT_S)
        try:
            sock.connect(place)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise MessageError(_failure(failure, is_late=False)) from failure
