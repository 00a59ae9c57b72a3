"""The page that answers 204: did it, or did something else answer in its place?

A page that has never answered 204 from here may simply be none: a wrong URL, a web server that redirects to HTTPS. That is no
portal. So the first 204 is remembered for good, and only after it does another answer mean a captive portal (decision 9).
"""

import logging
from typing import Final

from kerege_agent.probes.context import Context
from kerege_agent.probes.fetch import Fetched, fetch

ACCOUNT: Final = "portal"
"""Name of the durable account that holds the URL which has answered 204."""

_SAID: Final = "portal said"

log = logging.getLogger(__name__)


def ask(context: Context, *, timeout_s: float) -> tuple[Fetched, bool | None]:
    """Fetch the page: what came, and whether a portal answered; None where that cannot be said."""
    url = context.settings.portal_url
    fetched = fetch(url, timeout_s=timeout_s)
    found = fetched.portal
    if found is False:
        _remember(context, url)
    elif found and _known(context) != url:
        if context.memory.get(_SAID) != url:
            context.memory[_SAID] = url
            fields = {"url": url, "status": fetched.status, "cure": "portal.url must answer 204; that it ever has is not known here"}
            log.warning("portal.no_204_known", extra={"fields": fields})
        found = None
    return fetched, found


def _known(context: Context) -> str | None:
    kept = context.memory.get(ACCOUNT) if context.spool is None else context.spool.account(ACCOUNT).get("url")
    return kept if isinstance(kept, str) else None


def _remember(context: Context, url: str) -> None:
    if _known(context) == url:
        return
    if context.spool is None:
        context.memory[ACCOUNT] = url
    else:
        context.spool.set_account(ACCOUNT, {"url": url})
