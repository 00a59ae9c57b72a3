"""``python -m kerege_lab`` is ``kerege-lab``."""

import sys

from kerege_lab.cli import main

sys.exit(main())
