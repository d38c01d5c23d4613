"""Cerberus by FTP: explicit TLS by pyftpdlib, PROT P required, MLSD and NLST, REST, listed names that no disk would hold.

Files never touch a disk: listings and bodies come from the shelf of whoever logged in.
"""

import logging
import socket
import struct
import threading
from pathlib import Path

from pyftpdlib.authorizers import AuthenticationFailed, DummyAuthorizer
from pyftpdlib.handlers import TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from .shelf import Fault, File, Portal, Shelf, Visit
from .tls import Paper

LOG = logging.getLogger("pyftpdlib")
LOG.addHandler(logging.NullHandler())  # else pyftpdlib writes to stderr
LOG.propagate = False


def _break(channel) -> None:
    "Close a channel with RST, without TLS's good-bye."
    with socket.socket(fileno=socket.dup(channel.socket.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    channel._ssl_established, channel._ssl_accepting, channel._error = False, False, True
    channel.close()


class _Body:
    "Gives bytes in pieces, then does what the fault says."

    def __init__(self, data: bytes, fault: Fault | None, control: "Handler"):
        self.data, self.fault, self.control, self.place = data, fault, control, 0
        if fault and fault.kind in ("reset", "short", "stall") and fault.after is not None:
            self.data = data[: fault.after]

    def more(self) -> bytes:
        piece = self.data[self.place : self.place + 32768]
        self.place += len(piece)
        if not piece and self.fault:
            self._end()
        return piece

    def _end(self) -> None:
        fault, self.fault = self.fault, None
        fault.reached.set()
        control, data = self.control, self.control.data_channel
        if fault.kind == "stall":
            data.modify_ioloop_events(data.ioloop.READ)  # nothing more to write; the loop may sleep
        if fault.kind == "reset":
            _break(data)
            _break(control)
        if fault.then:
            fault.then()


class Channel(TLS_DTPHandler):
    "A data channel that can fall silent."

    def close_when_done(self) -> None:
        if not self.cmd_channel.stalled:
            super().close_when_done()

    def close(self) -> None:
        if not self._closed and self.cmd_channel.serving:
            self.cmd_channel.serving = False
            self.cmd_channel.portal.leave()
        super().close()


class Handler(TLS_FTPHandler):
    "A control channel; the portal stands on the class."

    portal: Portal
    dtp_handler = Channel
    tls_control_required = True
    tls_data_required = True
    use_sendfile = False
    stalled = False
    serving = False
    auth_failed_timeout = 0.05

    def note(self, what: str, name: str = "", start: int = 0, fault: Fault | None = None) -> None:
        shelf = self.shelf
        word, chain = fault.kind if fault else "", shelf.chain_id if shelf else ""
        self.portal.note(Visit(what, name, start, word, chain_id=chain))

    @property
    def shelf(self) -> Shelf | None:
        return next((s for s in self.portal.shelves if s.user == self.username), None)

    def take(self, what: str, name: str = "") -> Fault | None:
        shelf = self.shelf
        return self.portal.take(what, name, shelf.chain_id if shelf else "")

    def handle(self) -> None:
        fault = self.portal.take("connect")
        self.note("connect", fault=fault)
        if fault and fault.kind == "silence":
            fault.reached.set()
            return  # no banner, ever
        if fault and fault.kind == "reset":
            return _break(self)
        if fault:
            self.respond("421 Too many connections. Service temporarily unavailable.")
            return self.close_when_done()
        super().handle()

    def ftp_PASS(self, line: str) -> None:
        fault = self.portal.take("login", self.username)
        self.note("login", self.username, fault=fault)
        if fault and fault.kind == "refuse":
            self.respond("530 Authentication failed.")
            return
        super().ftp_PASS(line)

    def _folder(self, path: str) -> list[File] | None:
        shelf = self.shelf
        asked, own = self.fs.fs2ftp(path).rstrip("/"), shelf.folder.rstrip("/")
        return shelf.files if asked == own else [] if asked == "" else None

    def _listed(self, path: str, command: str, lines) -> None:
        fault = self.take("list")
        self.note("list", self.fs.fs2ftp(path), fault=fault)
        if fault and fault.kind == "status":
            return self.respond(f"{fault.status} Requested action not taken.")
        files = self._folder(path)
        if files is None:
            return self.respond("550 No such directory.")
        self.stalled = bool(fault and fault.kind == "stall")
        self.push_dtp_data(_Body(lines(files), fault, self), isproducer=True, cmd=command)

    def ftp_MLSD(self, path: str) -> None:
        if not self.portal.mlsd:
            return self.respond("502 Command not implemented.")

        def lines(files: list[File]) -> bytes:
            facts = "type=file;size={};modify={:%Y%m%d%H%M%S};perm=r; {}\r\n"
            return "".join(facts.format(f.size, f.listed_at, f.name) for f in files).encode()

        self._listed(path, "MLSD", lines)

    def ftp_NLST(self, path: str) -> None:
        self._listed(path, "NLST", lambda files: "".join(f"{f.name}\r\n" for f in files).encode())

    def _file(self, path: str) -> tuple[str, File | None]:
        folder, _, name = self.fs.fs2ftp(path).rpartition("/")
        mine = self.shelf if self.shelf.folder.rstrip("/") == folder else None
        return name, mine and mine.find(name, self.portal.turns.get(name, 0))

    def ftp_SIZE(self, path: str) -> None:
        file = self._file(path)[1]
        self.respond(f"213 {len(file.data)}" if file else "550 No such file.")

    def ftp_MDTM(self, path: str) -> None:
        file = self._file(path)[1]
        self.respond(f"213 {file.listed_at:%Y%m%d%H%M%S}" if file else "550 No such file.")

    def ftp_REST(self, line: str) -> None:
        if not self.portal.ranges:
            return self.respond("502 Command not implemented.")
        super().ftp_REST(line)

    def ftp_RETR(self, path: str) -> None:
        (name, file), start = self._file(path), self._restart_position
        self._restart_position = 0
        fault = self.take("file", name)
        self.note("file", name, start, fault)
        if fault and fault.kind == "status":
            return self.respond(f"{fault.status} Requested action not taken.")
        if not file:
            return self.respond("550 No such file.")
        if start > len(file.data):
            return self.respond(f"554 REST position ({start}) > file size ({len(file.data)})")
        if fault and fault.kind == "silence":
            fault.reached.set()
            return None
        self.stalled = bool(fault and fault.kind == "stall")
        self.serving = True
        self.portal.enter()
        if not fault:
            with self.portal.lock:
                self.portal.turns[name] = self.portal.turns.get(name, 0) + 1
        data = file.data[start:]
        data = data.replace(b"\n", b"\r\n") if self._current_type == "a" else data  # text mode spoils a gzip
        self._give(_Body(data, fault, self))

    def _give(self, body: _Body, waited: float = 0.0) -> None:
        "Send a body once the portal is as crowded as the test wants it."
        if self.portal.crowded or waited > self.portal.patience:
            self.portal.crowd = None  # held once
            return self.push_dtp_data(body, isproducer=True, cmd="RETR")
        self.ioloop.call_later(0.01, self._give, body, waited + 0.01)


class _Logins(DummyAuthorizer):
    "The shelves' users."

    def __init__(self, portal: Portal, home: Path):
        super().__init__()
        for shelf in portal.shelves:
            place = home / shelf.user
            (place / shelf.folder.strip("/")).mkdir(parents=True, exist_ok=True)
            self.add_user(shelf.user, shelf.password, str(place), perm="elr")

    def validate_authentication(self, username: str, password: str, handler) -> None:
        if not self.has_user(username) or self.user_table[username]["pwd"] != password:
            raise AuthenticationFailed("Authentication failed.")


class Ftps(Portal):
    "A portal reached by explicit FTPS."

    mlsd = True  # False: only NLST, SIZE and MDTM

    def open(self, paper: Paper, home: Path, host: str = "127.0.0.1") -> "Ftps":
        "Begin to serve on a free port."
        kinds = dict(portal=self, certfile=str(paper.cert), keyfile=str(paper.key), authorizer=_Logins(self, home))
        handler = type("HandlerHere", (Handler,), kinds | dict(banner="Cerberus FTP Server - Home Edition"))
        self.server = FTPServer((host, 0), handler, ioloop=IOLoop())
        self.server.max_cons_per_ip = 0
        self.url = f"ftps://{host}:{self.server.address[1]}"
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self) -> None:
        while not self.ending.is_set():
            self.server.ioloop.loop(0.02, blocking=False)
        self.server.close_all()

    def close(self) -> None:
        self.ending.set()
        self.thread.join(10)

    def __enter__(self) -> "Ftps":
        return self

    def __exit__(self, *_) -> None:
        self.close()
