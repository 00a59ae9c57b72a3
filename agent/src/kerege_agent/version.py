"""The agent's version: in presence, boot records and HTTP requests. A test holds it to the distribution's."""

from typing import Final

VERSION: Final = "0.1.0"
