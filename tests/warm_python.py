"""A Python that starts at once: scripts run in forks of this process, which has imported all that they import.

Benchmarks start our scripts as users do, by `sys.executable`; most of the time they would import torch. A program of a
few lines takes its place, hands its arguments, environment and files over to a server that was forked from this process
before anything ran in it, and ends as the fork there ends. Killing the program kills the fork.
"""

import array
import json
import os
import runpy
import signal
import socket
import struct
import sys
import threading
import traceback
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState, PartialState

CLIENT = """#!{python} -IS
import array, json, os, socket, struct, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
files = [0, 1, 2]
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
server.sendmsg([struct.pack("!I", len(request))], rights)
server.sendall(request)
status = server.recv(4)
os._exit(struct.unpack("!i", status)[0] if len(status) == 4 else 137)
"""


def serve(folder: Path) -> Path:
    """Fork the server and write the program into a folder; returns its path. The server ends with this process."""
    address, program = str(folder / "warm"), folder / "python"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    alive, ours = os.pipe()
    if os.fork() == 0:
        os.close(ours)
        sys.executable = str(program)  # launchers start their processes by it
        _accept(listener, alive)
    os.close(alive)
    listener.close()
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    return program


def _accept(listener: socket.socket, alive: int) -> None:
    """Fork for every connection, until the other end of the pipe `alive` is closed."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(null, file)
    _close_but(0, 1, 2, alive, listener.fileno())
    for helper in (forkserver._forkserver, resource_tracker._resource_tracker):
        type(helper).__init__(helper)  # what a test before has started belongs to the process forked from
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks aren't waited for
    threading.Thread(target=lambda: (os.read(alive, 1), os._exit(0)), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(connection)
        connection.close()


def _close_but(*kept: int) -> None:
    """Close what was open in the process forked from: its files would stay open as long as the server lives."""
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) not in kept:
            try:
                os.close(int(path.name))
            except OSError:  # the listing's own
                continue


def _run(connection: socket.socket) -> None:
    """Be the process that was asked for."""
    head, rights, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    request = connection.recv(struct.unpack("!I", head)[0], socket.MSG_WAITALL)
    files = array.array("i", rights[0][2])
    for target, file in enumerate(files):
        os.dup2(file, target)
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(file, "w", closefd=False) for file in (1, 2))
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    arguments, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=lambda: (connection.recv(1), os._exit(137)), daemon=True).start()
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()  # what a test before has left: the processes of a launcher would each think to be alone
    status = _execute(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(struct.pack("!i", status))
    os._exit(status)


def _execute(arguments: list[str]) -> int:
    """Run a script or a module; returns its exit code."""
    while arguments[0] == "-u":
        arguments = arguments[1:]
    try:
        if arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], str(Path.cwd())
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # whatever it is, a process ends with it
        traceback.print_exc()
        return 1
    return 0
