"""What is remembered of one center: the state of now, and which run of which agent speaks for it."""

from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

SILENT_AFTER_S: Final = 210
"""Three heartbeats of a minute and their jitter: nothing for longer, and nothing is known any more."""

LIVE_WITHIN_S: Final = 600
"""A record measured longer before its arrival is backlog: it tells of then, not of now."""

FRESH_WITHIN_S: Final = 120
"""A record this young may come from a run that is still alive."""

AHEAD_S: Final = 300
"""A record from further ahead of our clock is refused, and tells nothing of now."""

MARGIN_S: Final = 10
"""How far apart two moments must lie to say which came first: half the round trip of a bad link, and a message that was overtaken."""

CONFLICT_FORGOTTEN_S: Final = 3600
"""Two agents with one identity are shown until an hour without new evidence has passed."""

MAX_EPOCHS: Final = 32
"""Superseded runs that are remembered of each center."""

MAX_TARGETS: Final = 8
"""Ping targets that are remembered of each center; agents have no more."""

AWAITING: Final = "no tick yet"
SILENT: Final = "silent"
NEVER_SEEN: Final = "never seen"
NO_LIVE_TICK: Final = "no live tick"
COULD_NOT: Final = "could not be measured"
"""Why nothing is known."""


class Loss(NamedTuple):
    """Packet loss towards one target."""

    time_s: int
    percent: float


@dataclass(slots=True)
class Sighting:
    """One center; becomes a snapshot as it stands.

    arrived_s: when the last report came. tick_s: when the tick that decides was measured; said, cause, since_s: what it decided.
    epoch: the run that speaks for the center since epoch_s, in the connection ``birth``; superseded: earlier runs and their last births.
    connection: online, goodbye (with why) or lost, since connection_s. conflict_s: the last evidence of two agents.
    """

    arrived_s: int | None = None
    said: str = "unknown"
    cause: str | None = AWAITING
    since_s: int | None = None
    tick_s: int | None = None
    rtt_ms: float | None = None
    rtt_s: int | None = None
    losses: dict[str, Loss] = field(default_factory=dict)
    spool_records: int | None = None
    connection: str | None = None
    connection_s: int | None = None
    why: str | None = None
    agent: str | None = None
    epoch: str | None = None
    epoch_s: int = 0
    birth: int = 0
    superseded: dict[str, int] = field(default_factory=dict)
    conflict_since_s: int | None = None
    conflict_s: int | None = None
    trouble: str | None = None
    trouble_s: int | None = None

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values, in a copy."""
        members = {name: getattr(self, name) for name in _NAMES}
        return members | {"losses": {target: list(loss) for target, loss in self.losses.items()}, "superseded": dict(self.superseded)}

    # --- the state of now ---------------------------------------------------------------------------------------------

    def is_silent(self, now_s: int) -> bool:
        """Has nothing come for too long?"""
        return self.arrived_s is None or now_s - self.arrived_s > SILENT_AFTER_S

    def state(self, now_s: int) -> tuple[str, str | None, int | None]:
        """State, cause, since when."""
        if self.connection == "goodbye":
            return "off", self.why, self.connection_s
        if self.arrived_s is None:
            return "unknown", NEVER_SEEN if self.epoch is None else SILENT, None
        if self.is_silent(now_s):
            return "unknown", SILENT, max(self.arrived_s, self.since_s or 0 if self.tick_s is None else 0)
        if self.tick_s is not None and now_s - self.tick_s > LIVE_WITHIN_S:
            return "unknown", NO_LIVE_TICK, self.tick_s
        return self.said, self.cause, self.since_s

    def say(self, state: str, cause: str | None, time_s: int) -> None:
        """A live tick says so. The state goes on where the tick before said the same and was not too long ago."""
        goes_on = self.tick_s is not None and time_s - self.tick_s <= LIVE_WITHIN_S and (self.said, self.cause) == (state, cause)
        if not goes_on:
            self.said, self.cause, self.since_s = state, cause, time_s
        self.tick_s = time_s

    def begin_anew(self, at_s: int) -> None:
        """Nothing is known from before: after silence, or after the machine was off."""
        self.said, self.cause, self.since_s = "unknown", AWAITING, at_s
        self.tick_s = None

    def forget_future(self, now_s: int) -> None:
        """Our own clock was ahead and has been set back: what carries times of then would look fresh until they are reached again."""
        limit_s = now_s + AHEAD_S
        if any(moment is not None and moment > limit_s for moment in (self.arrived_s, self.tick_s, self.since_s)):
            self.arrived_s = None
            self.begin_anew(now_s)
        if self.rtt_s is not None and self.rtt_s > limit_s:
            self.rtt_ms = self.rtt_s = None
        self.losses = {target: loss for target, loss in self.losses.items() if loss.time_s <= limit_s}
        if self.connection_s is not None and self.connection_s > limit_s:
            self.connection_s = None
        if max(self.conflict_s or 0, self.conflict_since_s or 0) > limit_s:
            self.conflict_s = self.conflict_since_s = None
        if (self.trouble_s or 0) > limit_s:
            self.trouble = self.trouble_s = None
        self.epoch_s = min(self.epoch_s, limit_s)

    def note_loss(self, target: str, time_s: int, percent: float) -> None:
        """What the last pings towards this target came to."""
        known = self.losses.get(target)
        if known is None or time_s > known.time_s:
            self.losses[target] = Loss(time_s, percent)
        if len(self.losses) > MAX_TARGETS:
            del self.losses[min(self.losses, key=lambda name: self.losses[name].time_s)]

    def loss_percent(self, since_s: int) -> float | None:
        """The smallest loss towards any target: a target that is down itself says nothing of the link."""
        return min((loss.percent for loss in self.losses.values() if loss.time_s >= since_s), default=None)

    # --- who speaks ---------------------------------------------------------------------------------------------------

    def two_agents(self, now_s: int) -> bool:
        """Is there recent evidence of two agents?"""
        return self.conflict_s is not None and now_s - self.conflict_s < CONFLICT_FORGOTTEN_S

    def alive(self, epoch: str, alive_s: int, now_s: int) -> str | None:
        """The run ``epoch`` was alive at ``alive_s``. Returns the run that it conflicts with where that is news, else None."""
        conflicting = self._speaks(epoch, alive_s, now_s)
        if self.connection == "goodbye" and alive_s > (self.connection_s or 0) + MARGIN_S:
            self.connection, self.connection_s = "online", now_s
            self.begin_anew(now_s)
        return conflicting

    def born(self, epoch: str, birth: int, now_s: int) -> str | None:
        """A connection was born. Returns as `alive` does. A birth that is known already says nothing."""
        known = self.birth if epoch == self.epoch else self.superseded.get(epoch, 0)
        if birth <= known:
            return None
        conflicting = None
        if epoch != self.epoch:
            conflicting = self._speaks(epoch, now_s, now_s)
            if epoch in self.superseded:
                return conflicting  # too close to the birth of the other to say which is which
            if epoch != self.epoch:
                self._supersede(epoch, now_s)
        self.birth = birth
        if self.connection == "goodbye":
            self.begin_anew(now_s)
        self.connection, self.connection_s = "online", now_s
        return conflicting

    def goodbye(self, epoch: str, birth: int, why: str | None, now_s: int) -> None:
        """The agent has stopped in good order."""
        unheard = epoch != self.epoch and epoch not in self.superseded and self.is_silent(now_s)
        if self.epoch is None or unheard:
            self._supersede(epoch, now_s)
        if not self._is_latest(epoch, birth) or (self.connection == "goodbye" and birth == self.birth):
            return
        # one that the broker had kept while we were away does not tell when it was said
        self.connection_s = None if self.is_silent(now_s) else now_s
        self.connection, self.why, self.birth = "goodbye", why, birth

    def lost(self, epoch: str, birth: int, now_s: int) -> None:
        """The broker's hint that the connection has ended without a goodbye."""
        if self._is_latest(epoch, birth) and self.connection != "goodbye":
            self.connection, self.connection_s, self.birth = "lost", now_s, birth

    def _is_latest(self, epoch: str, birth: int) -> bool:
        return epoch == self.epoch and birth >= self.birth

    def _speaks(self, epoch: str, alive_s: int, now_s: int) -> str | None:
        """A run that was alive after another had taken over makes two agents; one that is new takes over."""
        if epoch == self.epoch or (self.epoch is not None and alive_s <= self.epoch_s + MARGIN_S):
            return None
        news = None
        if epoch in self.superseded:
            if not self.two_agents(now_s):
                self.conflict_since_s, news = now_s, self.epoch
            self.conflict_s = now_s
        self._supersede(epoch, alive_s)
        return news

    def _supersede(self, epoch: str, at_s: int) -> None:
        birth = self.superseded.pop(epoch, 0)
        if self.epoch is not None:
            self.superseded[self.epoch] = self.birth
            while len(self.superseded) > MAX_EPOCHS:
                del self.superseded[next(iter(self.superseded))]
        self.epoch, self.epoch_s, self.birth = epoch, at_s, birth


_NAMES: Final = tuple(item.name for item in fields(Sighting))
_TEXTS: Final = frozenset({"said", "cause", "connection", "why", "agent", "epoch", "trouble"})
_NEVER_NONE: Final = frozenset({"epoch_s", "birth"})


def restored(snapshot: Any) -> Sighting | None:
    """A sighting from its snapshot; None where it is none. Members that are not known, or of another type, are left out."""
    if not isinstance(snapshot, dict):
        return None
    seen = Sighting()
    for name in _NAMES:
        value = snapshot.get(name)
        if name == "losses":
            seen.losses = _losses(value)
        elif name == "superseded":
            seen.superseded = _births(value)
        elif name in snapshot and _fits(name, value):
            setattr(seen, name, value)
    return seen


def _fits(name: str, value: Any) -> bool:
    if name == "said":
        return isinstance(value, str) and value in {"up", "down", "unknown"}
    if value is None:
        return name not in _NEVER_NONE
    return isinstance(value, str) if name in _TEXTS else type(value) in {int, float}


def _losses(value: Any) -> dict[str, Loss]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(target): Loss(*pair) for target, pair in pairs if isinstance(pair, list | tuple) and len(pair) == len(Loss._fields)}


def _births(value: Any) -> dict[str, int]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(epoch): birth for epoch, birth in pairs if type(birth) is int}
