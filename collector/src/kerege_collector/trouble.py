"""What can be wrong with the collector itself: ``kind``, or ``kind: detail``. The API says it so; `wording` has the sentences."""

from typing import Final

NO_BROKER: Final = "no connection to the broker"
STORE: Final = "store"
LEDGER: Final = "ledger"
QUARANTINE: Final = "the quarantine is full"
INBOX_DEAD: Final = "the inbox thread has died"
HANGS: Final = "the worker hangs"
CLOCK: Final = "this server's clock is in doubt"
VERDICTS: Final = "verdicts"
