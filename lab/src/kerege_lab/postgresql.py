"""A real PostgreSQL as a subprocess, as the other `servers`.

    with PostgreSQL() as server:
        server.create("books")
        server.execute("SELECT 1", database="books")
        server.kill()           # SIGKILL of all its processes, as a power cut would
        server.start()          # on the same port, with its data

It refuses to be run by root: then it runs as another user, and since that one may not enter root's directories it keeps everything in
a directory of its own under the temporary one, until `close`. Users `OWNER` (may do everything) and `USER` both have a password.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil
import psycopg

from kerege_lab.certificates import Certificates
from kerege_lab.house import Table
from kerege_lab.servers import HOST, STOP_TIMEOUT_S, Server, ServerError, ServerMissingError

OWNER: Final = "postgres"
USER: Final = "kerege"
PASSWORD: Final = "kerege-test-password"  # noqa: S105 - of a server that nobody else can reach
"""The password of both."""

OTHER_USERS: Final = ("postgres", "nobody")
"""Who runs it where we are root: the first that there is."""

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps its programs, by version; they are not on the path."""

OLDEST: Final = 15

MAX_SOCKET_DIRECTORY: Final = 80

_SETTINGS: Final = {
    "authentication_timeout": "5s",  # who came while it was paused and has gone holds up the end of a database for so long
    "fsync": "off",  # the machine of a test does not lose its power
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing outside its directory when it is killed
    "max_connections": "50",
    "lc_messages": "C",
    "password_encryption": "scram-sha-256",
}


def find_postgresql(program: str = "postgres") -> Path:
    """One of PostgreSQL's programs, of the newest version that is there. Raises ServerMissingError where there is none."""
    versions = sorted(
        (path for path in DEBIAN.glob("*") if path.name.isdigit() and int(path.name) >= OLDEST), key=lambda path: int(path.name)
    )
    for version in reversed(versions):
        if (version / "bin" / program).is_file():
            return version / "bin" / program
    found = shutil.which(program)
    if found is None:
        raise ServerMissingError(
            f"{program} of PostgreSQL {OLDEST} or newer: run scripts/install-servers, or install Debian's package postgresql"
        )
    return Path(found).resolve()


class PostgreSQL(Server):
    """PostgreSQL on the loopback and, if the path is short, on a Unix socket in its directory; ``lines`` are added to its settings."""

    name = "postgresql"
    scheme = "postgresql"

    def __init__(
        self, directory: Path | None = None, *, port: int | None = None, tls: Certificates | None = None, lines: Sequence[str] = ()
    ) -> None:
        """``directory``: where it is kept, if we are not root. ``tls``: it has a certificate, and does without for those who want none."""
        self._own = os.geteuid() == 0 or directory is None
        super().__init__(Path(tempfile.mkdtemp(prefix="kerege-pg-")) if self._own or directory is None else directory, port=port)
        self.tls = tls
        self.lines = tuple(lines)
        self.user = _somebody_else() if os.geteuid() == 0 else None
        self._count = 0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def ledger(self, database: str, password_file: Path) -> Table:
        """The ``[ledger]`` section of a collector's settings; the password goes into a file of its own."""
        _secret(password_file, PASSWORD + "\n")
        return {"kind": "postgresql", "host": HOST, "port": self.port, "database": database, "user": USER, "password_file": password_file}

    @property
    def _socket_directory(self) -> str:
        """None where its path would be too long for a socket (108 bytes)."""
        directory = str(self.directory)
        return directory if len(directory.encode()) < MAX_SOCKET_DIRECTORY else ""

    def close(self) -> None:
        """Stop it, and forget all that it held where the directory is its own."""
        self.stop()
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self) -> None:
        """End it in good order (SIGINT, a "fast" shutdown), however many are connected."""
        if self.running:
            self.resume()
            os.kill(self.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._alive().wait(STOP_TIMEOUT_S)
        super().stop()

    def kill(self) -> None:
        """SIGKILL of all its processes: nothing is flushed, no session is closed."""
        if self.running:
            family = psutil.Process(self.pid).children(recursive=True)
            super().kill()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, STOP_TIMEOUT_S)
        else:
            super().kill()

    def pause(self) -> None:
        """Hang all of its processes (SIGSTOP): the kernel accepts connections and confirms packets, nobody answers."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):  # a session that has just ended
                process.suspend()

    def resume(self) -> None:
        """Let them go on after `pause`."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a statement gives, asked as the owner and committed at once. Raises ServerError where it is refused."""
        try:
            with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
                cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise ServerError(f"PostgreSQL: {error} in {statement}") from error

    def create(self, database: str | None = None) -> str:
        """An empty database that belongs to `USER`; returns its name, a new one where none is given."""
        self._count += 1
        name = database or f"ledger_{self._count}"
        self.execute(f"CREATE DATABASE {name} OWNER {USER}")
        return name

    def drop(self, database: str) -> None:
        """Away with it, whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def conninfo(self, database: str, *, user: str = OWNER) -> str:
        """For psycopg, psql and the like."""
        return f"host={HOST} port={self.port} dbname={database} user={user} password={PASSWORD} connect_timeout=10"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> Self:
        fresh = not self.data.exists()
        super().start()
        if fresh:
            self.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        return self

    def _prepare(self) -> list[str]:
        program = find_postgresql()
        if self.user:
            shutil.chown(self.directory, self.user)
        if not self.data.exists():
            self._init()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of a process that was killed: its number may be another's by now
        settings = {**_SETTINGS, "listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": self._socket_directory}
        if self.tls is not None:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": self._own_copy(self.tls.server.certificate),
                "ssl_key_file": self._own_copy(self.tls.server.key),
            }
        lines = [f"{name} = '{value}'" for name, value in settings.items()] + list(self.lines)
        (self.data / "postgresql.auto.conf").write_text("\n".join(lines) + "\n")
        return [str(program), "-D", str(self.data)]

    def _own_copy(self, file: Path) -> str:
        """It insists on a key that only its user may read."""
        return str(_secret(self.directory / file.name, file.read_text(), owner=self.user))

    def _init(self) -> None:
        password = _secret(self.directory / "initdb.password", PASSWORD + "\n", owner=self.user)
        command = [str(find_postgresql("initdb")), "--pgdata", str(self.data), "--username", OWNER, "--pwfile", str(password)]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"]
        group = None if self.user is None else pwd.getpwnam(self.user).pw_gid
        done = subprocess.run(
            command,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=group,
            extra_groups=None if self.user is None else (),
        )
        if done.returncode:
            raise ServerError(f"initdb: {done.stderr or done.stdout}")

    def _ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except ServerError as error:
            raise ConnectionError(str(error)) from error
        return True

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


def _somebody_else() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in OTHER_USERS:
        if name in known:
            return name
    raise ServerError(f"PostgreSQL does not run as root, and there is no user {' or '.join(OTHER_USERS)}")


def _secret(path: Path, text: str, *, owner: str | None = None) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    if owner:
        shutil.chown(path, owner)
    return path
