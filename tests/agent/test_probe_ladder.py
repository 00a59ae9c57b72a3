"""The ladder's verdicts, as a table of what was seen and what is said."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_agent.probes.ladder import FAILED, NOT_HERE, UNKNOWN, WORKED, WORKS, Near, Seen, judge
from kerege_wire.records import RUNG_MARKS, RUNGS

ABSENT: Final = Near(configured=False)
ANSWERS: Final = Near(configured=True, answered=True)
SILENT: Final = Near(configured=True)
FELL_SILENT: Final = Near(configured=True, usually_answers=True)
NO_ARP: Final = Near(configured=True, neighbour=False)
ARP_ONLY: Final = Near(configured=True, neighbour=True)
UNHEARD_OF: Final = Near(configured=None)

FINE: Final = Seen(default_route=True, gateway=ANSWERS, terminal=ABSENT, internet=True, dns=WORKS, portal=WORKED, collector=True)
DEAD: Final = replace(FINE, internet=False, dns=UNKNOWN, portal=UNKNOWN)


@pytest.mark.parametrize(
    ("seen", "result", "broken", "rungs"),
    [
        pytest.param(FINE, "online", None, "++.++=+", id="all is well"),
        pytest.param(replace(FINE, terminal=ANSWERS), "online", None, "+++++=+", id="with a terminal"),
        pytest.param(replace(FINE, default_route=False, gateway=UNHEARD_OF), "online", None, "+..++=+", id="a host route is a route"),
        pytest.param(replace(FINE, gateway=ABSENT), "online", None, "+..++=+", id="a link without a gateway"),
        pytest.param(replace(FINE, gateway=SILENT), "online", None, "+?.++=+", id="a gateway that answers no pings is not broken"),
        pytest.param(
            replace(FINE, gateway=FELL_SILENT), "online", None, "+?.++=+", id="nor one that answers no more, while the Internet works"
        ),
        pytest.param(replace(FINE, terminal=FELL_SILENT), "online", None, "++?++=+", id="nor such a terminal"),
        pytest.param(replace(FINE, collector=False), "online", "collector", "++.++=-", id="the collector's trouble is not the library's"),
        pytest.param(replace(FINE, collector=None), "online", None, "++.++=?", id="nobody to ask about the collector"),
        pytest.param(replace(FINE, portal=UNKNOWN), "online", None, "++.++?+", id="the portal page did not answer"),
        pytest.param(replace(FINE, dns=NOT_HERE), "online", None, "++.+.=+", id="no names to ask for"),
        pytest.param(replace(FINE, dns=FAILED, portal=UNKNOWN, collector=False), "offline", "dns", "++.+-?-", id="no names"),
        pytest.param(replace(FINE, portal=FAILED, collector=False), "offline", "portal", "++.++--", id="a captive portal"),
        pytest.param(replace(FINE, internet=None), "online", None, "++.++=+", id="only connects are answered, and the page answers 204"),
        pytest.param(replace(FINE, internet=None, portal=UNKNOWN), None, None, "++.?+?+", id="only connects are answered"),
        pytest.param(
            replace(FINE, internet=None, portal=UNKNOWN, collector=False),
            None,
            "collector",
            "++.?+?-",
            id="only connects, and no collector",
        ),
        pytest.param(
            replace(FINE, internet=None, dns=FAILED, portal=UNKNOWN),
            "offline",
            None,
            "++.?-?+",
            id="only connects, and no names: either may be dead",
        ),
        pytest.param(replace(FINE, internet=None, portal=FAILED), "offline", "portal", "++.?+-+", id="a portal that answers connects"),
        pytest.param(DEAD, "offline", "internet", "++.-???", id="the provider"),
        pytest.param(replace(DEAD, terminal=ANSWERS), "offline", "internet", "+++-???", id="the provider, behind the terminal"),
        pytest.param(replace(DEAD, terminal=FELL_SILENT), "offline", "terminal", "++--???", id="the terminal"),
        pytest.param(replace(DEAD, gateway=FELL_SILENT), "offline", "gateway", "+-.-???", id="the router"),
        pytest.param(replace(DEAD, gateway=NO_ARP), "offline", "gateway", "+-.-???", id="a router that was never there"),
        pytest.param(replace(DEAD, gateway=ARP_ONLY), "offline", "internet", "+?.-???", id="a router that answers ARP but no pings"),
        pytest.param(replace(DEAD, gateway=SILENT), "offline", "internet", "+?.-???", id="a router of which nothing is known"),
        pytest.param(replace(DEAD, default_route=False, gateway=UNHEARD_OF), "offline", "route", "-?.-???", id="the cable"),
        pytest.param(
            replace(DEAD, default_route=False, gateway=SILENT, terminal=SILENT), "offline", "route", "-??-???", id="no address at all"
        ),
        pytest.param(
            replace(DEAD, default_route=False, gateway=FELL_SILENT, terminal=FELL_SILENT), "offline", "route", "----???", id="all at once"
        ),
    ],
)
def test_what_is_seen_makes_the_verdict(seen: Seen, result: str, broken: str | None, rungs: str) -> None:
    """One line of the table."""
    verdict = judge(seen)
    assert (verdict.result, verdict.broken, verdict.rungs) == (result, broken, rungs)


NEAR: Final = st.builds(
    Near,
    configured=st.sampled_from([True, False, None]),
    answered=st.booleans(),
    usually_answers=st.booleans(),
    neighbour=st.sampled_from([True, False, None]),
)
SEEN: Final = st.builds(
    Seen,
    default_route=st.booleans(),
    gateway=NEAR,
    terminal=NEAR,
    internet=st.sampled_from([True, False, None]),
    dns=st.sampled_from("+=-?."),
    portal=st.sampled_from("+=-?."),
    collector=st.sampled_from([True, False, None]),
)


@given(SEEN)
def test_no_verdict_contradicts_itself(seen: Seen) -> None:
    """Online: the Internet is proven and nothing of it failed. Broken: the first rung that failed, if known. All marks are marks."""
    verdict = judge(seen)
    marks = dict(zip(RUNGS, verdict.rungs, strict=True))
    assert set(verdict.rungs) <= set(RUNG_MARKS)
    failed = [rung for rung in RUNGS if marks[rung] == "-"]
    undecided = failed[:1] == ["dns"] and marks["internet"] != "+"
    assert verdict.broken == (failed[0] if failed and not undecided else None)
    assert (verdict.result == "offline") == bool(set(failed) - {"collector"})
    assert (verdict.result == "online") == (marks["internet"] == "+" and set(failed) <= {"collector"})
    assert (verdict.result is None) == (verdict.error is not None)
    assert (marks["internet"] == "-") == (seen.internet is False)
    assert seen.internet is not True or marks["internet"] == "+"
    if seen.internet is False:
        assert verdict.rungs.endswith("-???")
    else:
        assert not {"route", "gateway", "terminal"} & set(failed)
