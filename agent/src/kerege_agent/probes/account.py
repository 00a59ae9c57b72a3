"""What the provider's plan has given in its month: kept in the spool's durable account, so that it outlives the agent and the power."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kerege_agent.probes.meter import Counters, grown


@dataclass(frozen=True, slots=True)
class Account:
    """The plan's use so far.

    period: first day of the plan's month; None while nobody has told the date.
    whole: was it counted from its first day? If not, the use is not known.
    boot_id, interface, received_bytes, sent_bytes: the counters that are accounted for.
    """

    used_bytes: int = 0
    period: str | None = None
    whole: bool = False
    boot_id: str = ""
    interface: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0

    @classmethod
    def restored(cls, kept: Mapping[str, Any]) -> "Account":
        """The account that was kept; an empty one where there is none or it is not ours."""
        types = {
            "used_bytes": int,
            "period": str | None,
            "whole": bool,
            "boot_id": str,
            "interface": str,
            "received_bytes": int,
            "sent_bytes": int,
        }
        fits = kept.keys() == types.keys() and all(isinstance(kept[name], wanted) for name, wanted in types.items())
        return cls(**kept) if fits else cls()

    def kept(self) -> dict[str, Any]:
        """As `restored` wants it."""
        return asdict(self)

    def missed_bytes(self, first: Counters, boot_id: str) -> int:
        """What passed between the last entry and the first look of this process at the counters.

        After a new boot of the machine the counters began at 0, so all that they show passed meanwhile.
        """
        if not self.boot_id or first.interface != self.interface:
            return 0
        if boot_id != self.boot_id:
            return first.received_bytes + first.sent_bytes
        return grown(self.received_bytes, first.received_bytes) + grown(self.sent_bytes, first.sent_bytes)

    def entered(self, passed_bytes: int, *, period: str | None, counters: Counters, boot_id: str) -> "Account":
        """The account with ``passed_bytes`` more; in a new period it begins anew, and is whole from then on.

        A period that lies before the kept one means that the date was wrong then or is now: what was counted belongs to neither for sure.
        """
        anew = period is not None and self.period is not None and period != self.period
        later = anew and str(period) > str(self.period)
        return Account(
            used_bytes=passed_bytes + (0 if anew else self.used_bytes),
            period=period or self.period,
            whole=later or (self.whole and not anew),
            boot_id=boot_id,
            interface=counters.interface,
            received_bytes=counters.received_bytes,
            sent_bytes=counters.sent_bytes,
        )
