"""``python -m kerege_collector`` is ``kerege-collector``."""

import sys

from kerege_collector.cli import main

sys.exit(main())
