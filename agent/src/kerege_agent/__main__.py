"""``python -m kerege_agent`` is ``kerege-agent``."""

import sys

from kerege_agent.cli import main

sys.exit(main())
