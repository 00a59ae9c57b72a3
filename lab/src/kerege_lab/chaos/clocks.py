"""An agent's wall clock that can be set to anything while it runs."""

import os
from pathlib import Path
from typing import Final

WRONG_CLOCK: Final = Path(__file__).parent / "wrong_clock"
"""What Python imports at the start of every process that has it in its path: through the environment it survives a change of program."""


class WallClock:
    """The wall clock of the processes that run under `wrapper`. ``offset_file`` says how wrong it is."""

    def __init__(self, offset_file: Path) -> None:
        self._offset_file = offset_file

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What stands before a command."""
        path = os.pathsep.join([str(WRONG_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])])
        return "env", f"PYTHONPATH={path}", f"KEREGE_LAB_CLOCK_OFFSET_FILE={self._offset_file.resolve()}"

    def set(self, offset_s: float) -> None:
        """Make it wrong by so much, from now on."""
        new = self._offset_file.with_suffix(".new")
        new.write_text(str(offset_s))
        new.replace(self._offset_file)
