"""A Python that has loaded the package already, for tests that start many processes.

Importing the package and the vocabulary takes ten times as long as most commands run, and a run with an embedded
sandbox does it twice. ``warm_python()`` returns a launcher that replaces ``sys.executable``: it passes its arguments,
environment, folder and standard streams to a server, which forks a process that runs the command. The launcher passes
signals on and returns the exit code of the process; if the launcher is killed, the server kills the process, a few
milliseconds later. The process is a real one, but its imports are done and its id is not that of the launcher. Tests
of how a process starts, or of its id, use ``sys.executable``.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["warm_python"]

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

# Imports nothing that is not built in, so that it starts in ten milliseconds.
_LAUNCHER = """\
#!{python} -IS
import _signal, _socket, marshal, posix, sys

arguments = sys.argv[1:]
if safe_path := arguments[:1] == ["-P"]:
    del arguments[0]
try:
    for number in range(3):
        posix.fstat(number)
    if arguments[:1] not in (["-m"], ["-c"]):
        raise OSError
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect({address!r})
    ignored = [number for number in {signals!r} if _signal.getsignal(number) == _signal.SIG_IGN]
    umask = posix.umask(0)
    order = marshal.dumps((arguments, safe_path, posix.environ, posix.getcwd(), umask, ignored))
    posix.umask(umask)
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)]
    server.sendmsg([len(order).to_bytes(4, "big")], rights)
    server.sendall(order)
except OSError:  # such as a closed stream
    posix.execv({python!r}, [{python!r}, *sys.argv[1:]])
for number in {signals!r}:
    _signal.signal(number, lambda number, _: server.send(bytes([number])))
# From here on only the process holds the streams, so that they end when it ends.
nothing = posix.open("/dev/null", posix.O_RDWR)
for number in range(3):
    posix.dup2(nothing, number)
code = int.from_bytes(server.recv(4), "big", signed=True)
if code < 0:
    if code != -_signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


@cache
def warm_python() -> str:
    """Start the server, once per test process, and return the path of its launcher."""
    if not hasattr(os, "pidfd_open"):  # not on Linux, where the tests take longer
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    launcher, address = folder / "python", folder / "socket"
    numbers = [int(each) for each in _PASSED_ON]
    launcher.write_text(_LAUNCHER.format(python=sys.executable, address=str(address), signals=numbers))
    launcher.chmod(0o700)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(address), str(launcher)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout is not None
    assert server.stdout.read(1), "the server did not start"
    server.stdout.close()
    atexit.register(_stop, server, folder)
    return str(launcher)


def _stop(server: subprocess.Popen[bytes], folder: Path) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
    shutil.rmtree(folder)


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────


def _serve(address: str, launcher: str) -> NoReturn:
    """Fork a process for each connection until the standard input ends."""
    _load()
    sys.executable = launcher
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(100)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ, partial(_accept, events, listener))
    events.register(sys.stdin, selectors.EVENT_READ, sys.exit)  # our parent is gone
    sys.stdout.write(".")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # or a stream of a process would get the number 1
    while True:
        for key, _ in events.select():
            if key.fileobj in events.get_map():  # else one before it in this round has ended it
                key.data()


def _load() -> None:
    """Import what any command may need, and load the vocabulary."""
    from importlib import import_module
    from pkgutil import walk_packages

    import orchestrator
    from orchestrator.policy.pricing.tokens import count_tokens

    for module in walk_packages(orchestrator.__path__, "orchestrator."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    count_tokens("Load the vocabulary.")
    for name in ("asyncio", "uvloop", "uvicorn", "rich.progress", "rich.traceback", "genai_prices.data"):
        import_module(name)
    gc.collect()
    gc.freeze()


def _accept(events: selectors.BaseSelector, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    order = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL) if size else b""
    if order and not (process := os.fork()):
        _run(streams, *marshal.loads(order))  # noqa: S302 – our own launcher wrote it
    for stream in streams:
        os.close(stream)
    if not order:  # the launcher runs the usual Python, or was killed
        connection.close()
        return
    ended = os.pidfd_open(process)
    events.register(connection, selectors.EVENT_READ, partial(_pass_on, events, connection, process))
    events.register(ended, selectors.EVENT_READ, partial(_report, events, connection, process, ended))


def _pass_on(events: selectors.BaseSelector, connection: socket.socket, process: int) -> None:
    """Pass signals on; a launcher that was killed takes its process with it."""
    numbers = _received(connection)
    for number in numbers or [signal.SIGKILL]:
        os.kill(process, number)
    if not numbers:
        events.unregister(connection)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(100)
    except ConnectionError:
        return b""


def _report(events: selectors.BaseSelector, connection: socket.socket, process: int, ended: int) -> None:
    _, status = os.waitpid(process, 0)
    events.unregister(ended)
    os.close(ended)
    if connection in events.get_map():
        events.unregister(connection)
    with suppress(OSError):  # the launcher was killed
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    connection.close()


# ── the process ───────────────────────────────────────────────────────────────────────────────────────────────


def _run(
    streams: list[int],
    arguments: list[str],
    safe_path: bool,
    environment: dict[bytes, bytes],
    folder: str,
    umask: int,
    ignored: list[int],
) -> NoReturn:
    """Become what ``python ARGUMENTS`` would be, and end."""
    code = 1
    try:
        os.setsid()
        os.umask(umask)
        os.chdir(folder)
        _take_signals(ignored)
        _take_streams(streams)
        _take_environment(environment)
        sys.path[:1] = [] if safe_path else [folder]
        code = _exit_code(partial(_execute, *arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _take_signals(ignored: list[int]) -> None:
    for number in _PASSED_ON:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)


def _take_streams(streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)


def _take_environment(environment: dict[bytes, bytes]) -> None:
    os.environb.clear()
    os.environb.update(environment)
    if os.environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")


def _execute(kind: str, what: str, *arguments: str) -> None:
    gc.unfreeze()
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102


def _exit_code(command: Callable[[], Any]) -> int:
    try:
        command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001 – as the interpreter does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(*sys.argv[1:])
