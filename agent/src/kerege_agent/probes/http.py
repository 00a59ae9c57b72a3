"""Pages fetched phase by phase, and the portal check among them."""

from typing import Final

from kerege_agent.probes import portal
from kerege_agent.probes.context import Context
from kerege_agent.probes.fetch import Fetched, fetch
from kerege_agent.probes.rounding import significant_ms
from kerege_agent.settings import Settings
from kerege_wire import Http

PORTAL: Final = "portal"
"""Name of the target that is expected to answer 204."""


def targets_of(settings: Settings) -> dict[str, str]:
    """Target's name → URL: those of the settings, and the portal check."""
    return {target.name: target.url for target in settings.http.targets} | {PORTAL: settings.portal_url}


def measure(context: Context) -> list[Http]:
    """One record for each target, one after the other: two at a time would measure each other."""
    targets = targets_of(context.settings)
    timeout_s = context.settings.probes.http.timeout_s * 0.9 / len(targets)
    return [_record(name, *_fetched(context, name, url, timeout_s)) for name, url in targets.items()]


def _fetched(context: Context, name: str, url: str, timeout_s: float) -> tuple[Fetched, bool | None]:
    return portal.ask(context, timeout_s=timeout_s) if name == PORTAL else (fetch(url, timeout_s=timeout_s), None)


def _record(name: str, fetched: Fetched, in_its_place: bool | None) -> Http:  # noqa: FBT001 - a field of the record
    return Http(
        name,
        family=fetched.family,
        resolve_ms=_ms(fetched.resolve_ns),
        connect_ms=_ms(fetched.connect_ns),
        tls_ms=_ms(fetched.tls_ns),
        first_byte_ms=_ms(fetched.first_byte_ns),
        status=fetched.status,
        portal=in_its_place,
        error=fetched.error,
    )


def _ms(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else significant_ms(duration_ns)
