"""Imports that leave out what is never called, and harm nobody else."""

import subprocess
import sys

from tests.agent.probe_world import bare_environment


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=bare_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_asyncio_is_not_loaded_by_the_probes_and_is_itself_afterwards() -> None:
    """Whoever imports it after icmplib gets the real one."""
    code = (
        "import sys; import kerege_agent.probes; before = 'asyncio' in sys.modules\n"
        "import asyncio\n"
        "async def five() -> int: return 5\n"
        "print(before, asyncio.run(five()))"
    )
    assert run(code) == "False 5"


def test_a_module_that_is_loaded_already_is_left_alone() -> None:
    """In a process that uses asyncio, icmplib has the real one."""
    assert (
        run("import asyncio, sys; import kerege_agent.probes.echo_sockets as e; import icmplib.sockets as s; print(s.asyncio is asyncio)")
        == "True"
    )


def test_the_stand_in_is_gone_even_if_the_import_fails() -> None:
    """An import that raises leaves nothing behind."""
    code = (
        "import sys; from kerege_agent.lean import without\n"
        "try:\n"
        "    with without('asyncio', 'xml.dom'): raise ImportError('broken')\n"
        "except ImportError: pass\n"
        "print('asyncio' in sys.modules, 'xml.dom' in sys.modules)"
    )
    assert run(code) == "False False"


def test_zones_are_read_without_pythons_build_settings() -> None:
    """zoneinfo would load them to find data of the system's that we do not want."""
    code = (
        "import sys; from kerege_agent.timezones import zone; zone('Asia/Almaty')\n"
        "print([name for name in sys.modules if name.startswith('_sysconfigdata')])"
    )
    assert run(code) == "[]"
