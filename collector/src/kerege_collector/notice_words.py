"""What notices say, by state, cause and kind, in English; the catalogs have the other languages. Pure.

Sentences are impersonal and names stand before a colon, as in a dispatch: a name of a library then needs no ending in any language.
"""

from collections.abc import Mapping
from typing import Final

from kerege_collector.wording import N_

SINCE: Final[Mapping[str, str]] = {
    "silent": N_("%(who)s: nothing has been heard since %(time)s, for %(span)s."),
    "down": N_("%(who)s: no Internet since %(time)s, for %(span)s."),
    "absent": N_("%(who)s: did not come on line after opening time; nothing has been heard since %(time)s, for %(span)s."),
    "degraded": N_("%(who)s: poor Internet since %(time)s, for %(span)s."),
    "unstable": N_("%(who)s: the connection has been coming and going since %(time)s, for %(span)s."),
}
"""State, or `unstable` → what is said while it lasts."""

OVER: Final[Mapping[str, str]] = {
    "silent": N_("%(who)s: data has been coming again since %(until)s. There was none for %(span)s (from %(time)s)."),
    "down": N_("%(who)s: the Internet has been working again since %(until)s. There was none for %(span)s (from %(time)s)."),
    "absent": N_("%(who)s: on line since %(until)s. Nothing had been heard for %(span)s (from %(time)s)."),
    "degraded": N_("%(who)s: the Internet has been working well again since %(until)s. It was poor for %(span)s (from %(time)s)."),
}
"""State → what is said when it is over."""

SUBJECTS: Final[Mapping[str, str]] = {
    "silent": N_("nothing is heard"),
    "down": N_("no Internet"),
    "absent": N_("not on line after opening time"),
    "degraded": N_("poor Internet"),
    "unstable": N_("the connection comes and goes"),
    "closed": N_("connection restored"),
}

PREFIXES: Final[Mapping[str, str]] = {
    "reminder": N_("Reminder. %(text)s"),
    "escalated": N_("Passed on to you. %(text)s"),
    "changed": N_("The list has changed. %(text)s"),
}
"""Kind → how its subject begins."""

NOT_KNOWN: Final[Mapping[str, str]] = {
    "silent": N_("It is not known yet which has failed there: the power or the Internet."),
    "absent": N_("It is not known yet why: the computer may not be switched on, or there is no power, or no Internet."),
    "down": N_("The cause is not known yet."),
    "degraded": N_("The cause is not known yet."),
}

CAUSES: Final[Mapping[str, str]] = {
    "lan": N_("the library's own network (cable, router or Wi-Fi)"),
    "terminal": N_("the satellite terminal (its power, its cable or the terminal itself)"),
    "provider": N_("a fault on the provider's side, outside the library"),
    "dns": N_("names of sites are not resolved (DNS)"),
    "portal": N_("a login or payment page bars the way to the Internet (captive portal)"),
    "power": N_("a power cut"),
    "agent": N_("the measuring program (agent) has stopped; the library may have Internet"),
    "shutdown": N_("the computer was shut down"),
}
"""Cause → a phrase after "Most likely cause:"."""

_LAMPS: Final = N_("See whether the lamps of the router are lit. If they are not, check its power supply and the socket.")
_CABLES: Final = N_("See that the cables of the router and of the computer are firmly plugged in at both ends.")
_WIFI: Final = N_("If the computer uses Wi-Fi, see that it is in the library's network.")
_RESTART: Final = N_("Switch the router off for 30 seconds, switch it on and wait 5 minutes.")
_CALL_IT: Final = N_("If that does not help, call the IT specialist in charge.")
_CALL_PROVIDER: Final = N_("Call the provider; name the library and the time given above.")
_THEN_CALL_PROVIDER: Final = N_("If that does not help, call the provider; name the library and the time given above.")
_REQUEST_NUMBER: Final = N_("Write down the number of the request that the provider gives you.")
_ASK_POWER: Final = N_("Find out whether there is electricity in the library.")
_NO_POWER: Final = N_("If there is none, call the electricity supplier and ask when it will be back.")

STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "lan": (_LAMPS, _CABLES, _WIFI, _RESTART, _CALL_IT),
    "terminal": (
        N_("Check the power supply of the satellite terminal and that its cable is plugged in."),
        N_("Switch the terminal off for 1 minute, switch it on and wait 15 minutes."),
        N_("If there is snow or ice on the dish, do not climb up to it: tell the provider."),
        _THEN_CALL_PROVIDER,
    ),
    "provider": (
        _CALL_PROVIDER,
        _REQUEST_NUMBER,
        N_("Leave the library's own equipment as it is: the fault is most likely not there."),
    ),
    "dns": (_RESTART, N_("If that does not help, call the provider and say that names of sites are not resolved (DNS).")),
    "portal": (
        N_("Open any site on the library's computer and read the page that appears."),
        N_("If it asks you to sign in, do so; if it is about payment, tell whoever is in charge of paying for the Internet."),
        N_("If the page is not clear, call the provider."),
    ),
    "power": (_ASK_POWER, _NO_POWER, N_("When electricity is back, see that router and computer are switched on.")),
    "agent": (N_("Tell the IT specialist: the agent on the library's computer must be started again."),),
    "shutdown": (N_("If the library is open, switch its computer on."),),
}
"""Cause → what to do."""

STEPS_NOT_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "silent": (
        _ASK_POWER,
        N_("If there is, find out whether computer and router are switched on."),
        N_("If they are, find out whether sites open there. If they do not, call the provider."),
    ),
    "down": (_LAMPS, _RESTART, _THEN_CALL_PROVIDER),
    "degraded": (
        N_("Find out whether something large is being downloaded or updated there."),
        N_("If it is not, call the provider; name the library and the time given above."),
    ),
    "unstable": (_CABLES, _RESTART, _THEN_CALL_PROVIDER),
}
"""State, or `unstable` → what to do while the cause is not known. `absent` is as `silent`."""

_ASK_POWER_THERE: Final = N_("Find out in one or two of these libraries whether there is electricity.")

STEPS_TOGETHER: Final[Mapping[str, tuple[str, ...]]] = {
    "provider": (N_("Call the provider once for all of these libraries; name the time given above."), _REQUEST_NUMBER),
    "district": (
        _ASK_POWER_THERE,
        _NO_POWER,
        N_("If there is, call the provider of these libraries; name the time given above."),
    ),
}
"""Scope → what to do about many libraries at once. `satellite` is as `provider`."""

ASK_POWER_FIRST: Final = _ASK_POWER_THERE
"""The first step where many are silent: a call to the provider is of no use in a power cut."""

NOBODY_HEARD: Final = N_(
    "Most likely the fault is with the collector, its broker or its own connection, and not with all libraries at once. "
    "Or it is a day off that centers.toml does not name."
)
"""Of an incident about the collector in which all of its parts seem well."""

OWN_STEPS: Final = (
    N_("On the server of the collector, run: kerege-collector status"),
    N_("See that the server has a network and that the broker runs."),
    N_("What each trouble means and what cures it is in docs/operations.md."),
)
