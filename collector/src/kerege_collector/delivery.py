"""One text to one address: what `apprise` can reach by a URL (mail, Telegram, SMS, a webhook...). The sender owns retries and time.

URLs hold passwords and tokens. The library's own log is therefore kept off ours, and of a failure only a server's three digits are told.
"""

import logging
import re
from typing import Final

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType
from apprise.logger import NotifyLogEntry

from kerege_collector.notice_text import Text

SOCKET_TIMEOUT_S: Final = 12.0
"""For connecting and for each answer, where the URL says nothing of its own (``cto``, ``rto``); the library's 4 s is short for mail."""

_STATUS: Final = re.compile(r"(?:error=|Socket Exception: \(|was refused: |: \()([2-5]\d\d)\b")
"""Where the library writes down an HTTP status (RFC 9110) or an SMTP reply code (RFC 5321)."""

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]{0,31})://", re.IGNORECASE)

_LIBRARY_LOG: Final = logging.getLogger("apprise")
_LIBRARY_LOG.propagate = False
_LIBRARY_LOG.addHandler(logging.NullHandler())
_LIBRARY_LOG.setLevel(logging.DEBUG)  # the reasons of a mail server are in its debug lines; nobody but `_Codes` reads them
logging.getLogger("urllib3").setLevel(logging.INFO)  # its debug lines have paths of requests: Telegram's have the token


def scheme(url: str) -> str:
    """What may be told of a URL: ``mailto``, ``tgram``, ``json``... A line that is no URL may be a password and is told as ``?``."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else "?"


def deliver(url: str, text: Text) -> str | None:
    """Hand the text over. None where the other side has taken it, else a reason without secrets. May take long."""
    service = Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    if not isinstance(service, NotifyBase):
        return "is not an address that can be used"
    if service.socket_connect_timeout == type(service).socket_connect_timeout:
        service.socket_connect_timeout = SOCKET_TIMEOUT_S
    if service.socket_read_timeout == type(service).socket_read_timeout:
        service.socket_read_timeout = SOCKET_TIMEOUT_S
    sender = Apprise()
    sender.add(service)
    codes = _Codes()
    taken = sender.notify(
        text.body,
        title=text.subject,
        notify_type=NotifyType.INFO,
        body_format=NotifyFormat.TEXT,
        interpret_escapes=False,
        log_callback=codes.read,
        log_level=logging.DEBUG,
    )
    return None if taken else codes.reason()


def _asset() -> AppriseAsset:
    """``service_timeout`` 0: in the caller's thread, which has its own deadline; servers that hang could fill the library's pool."""
    return AppriseAsset(app_id="Kerege", app_desc="Kerege", app_url="", async_mode=False, service_timeout=0)


class _Codes:
    """Keeps the last status of a server, and nothing else, of what the library logs while it delivers."""

    def __init__(self) -> None:
        self._last: str | None = None

    def read(self, entry: NotifyLogEntry, _service: NotifyBase | None) -> None:
        if found := _STATUS.search(entry.message):
            self._last = found[1]

    def reason(self) -> str:
        return f"refused ({self._last})" if self._last else "could not be delivered"
