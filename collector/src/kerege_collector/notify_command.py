"""``kerege-collector notify --test``: does a message reach each contact?"""

import sys
import time

from kerege_collector import centers
from kerege_collector.delivery import deliver, scheme
from kerege_collector.notice_text import Facts, compose
from kerege_collector.sender import read_addresses
from kerege_collector.settings import Settings
from kerege_collector.tables import print_json, print_table


def test(settings: Settings, only: str | None, *, as_json: bool) -> int:
    """Send a test message to all contacts, or one; 0, or 1 where one address did not take it or there is nobody."""
    region = centers.load_region(settings.centers_file, may_be_absent=True)
    contacts = [contact for contact in region.contacts if only in {None, contact.id}]
    if not contacts:
        sys.stderr.write(f"kerege-collector notify: {settings.centers_file} has no [[contact]]{f' {only}' if only else ''}\n")
        return 1
    now_s = int(time.time())
    facts = Facts("test", None, (), "silent", None, None, now_s, None, now_s, page_url=region.notices.page_url)
    rows: list[tuple[str, str | None, str | None]] = []
    for contact in contacts:
        try:
            addresses = read_addresses(contact.addresses_file)
        except (OSError, ValueError) as error:
            rows.append((contact.id, None, f"{contact.addresses_file}: cannot be read ({getattr(error, 'strerror', None) or error})"))
            continue
        if not addresses:
            rows.append((contact.id, None, f"{contact.addresses_file}: no address in it"))
        rows += [(contact.id, scheme(url), deliver(url, compose(facts, contact.language))) for url in addresses]
    if as_json:
        for contact_id, kind, trouble in rows:
            print_json({"contact": contact_id, "address": kind, "taken": trouble is None, "trouble": trouble})
    else:
        print_table(("contact", "address", "result"), ((name, kind, trouble or "taken") for name, kind, trouble in rows))
    return 0 if all(trouble is None for *_, trouble in rows) else 1
