"""Portals of the web dialects: a plain ASGI app under uvicorn in a thread, one socket a portal.

An engine (engines.py) turns a Call into an Answer; this file counts it, lets it misbehave and sends it.
"""

import asyncio
import json
import logging
import re
import socket
import struct
import threading
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, unquote

import uvicorn

from .shelf import Fault, File, Portal, Visit
from .tls import Paper

BLOCK_PAGE = (
    "<!DOCTYPE html><html><head><title>Access denied</title></head><body><h1>Sorry, you have been blocked</h1>"
    "<p>You are unable to access this site. Your IP: 203.0.113.7. Incident ID: 1234-5678</p></body></html>"
)
EXPIRED_PAGE = "<html><body>link expired</body></html>"
PETABYTE = 10**15


@dataclass(frozen=True)
class Call:
    "A request."

    method: str
    path: str  # unquoted
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]
    cookies: dict[str, str]
    base: str  # http://127.0.0.1:PORT


@dataclass(frozen=True)
class Answer:
    "What an engine says, and what it was about."

    what: str  # login, list, link or file
    body: bytes
    kind: str = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    file: File | None = None
    chain_id: str = ""


def html(what: str, text: str, **options) -> Answer:
    return Answer(what, text.encode(), **options)


def as_json(what: str, value, **options) -> Answer:
    data = json.dumps(value, ensure_ascii=False).encode()
    return Answer(what, data, kind="application/json; charset=utf-8", **options)


def missing(what: str = "file", name: str = "") -> Answer:
    return html(what, "<html><body><h1>404 Not Found</h1></body></html>", status=404, name=name)


def gives(file: File | None, name: str, **options) -> Answer:
    "The answer that hands a file over."
    if file is None:
        return missing("file", name)
    return Answer("file", file.data, "application/octet-stream", name=name, file=file, chain_id=file.chain_id)


class Web(Portal):
    "A portal reached by HTTP; engines say what it answers."

    def answer(self, call: Call) -> Answer:
        raise NotImplementedError

    url: str = ""  # set when a street opens it
    paper: Paper | None = None  # set to be reached by HTTPS

    async def serve(self, scope, receive, send) -> None:
        call = await _read_call(scope, receive, self.url)
        answer = self.answer(call)
        answer = self.ranged(answer, call) if answer.file else answer
        fault = self.take(answer.what, answer.name, answer.chain_id)
        if fault and fault.kind in ("no_range", "wrong_range"):
            answer = self.misplaced(fault, answer)
        start = _asked(call) if answer.file else 0
        status = fault.status if fault and fault.kind == "status" else answer.status
        headers = call.headers
        self.note(Visit(answer.what, answer.name, start, fault.kind if fault else "", status, headers, answer.chain_id))
        if answer.what == "file":
            self.enter()
        if fault and fault.then:
            fault.then()
        try:
            if answer.what == "file" and not self.crowded:
                await asyncio.to_thread(self._await_crowd)
            await (_send(answer, send) if not fault else _misbehave(fault, answer, receive, send))
            if answer.file and not fault and answer.status in (200, 206):
                with self.lock:
                    self.turns[answer.name] = self.turns.get(answer.name, 0) + 1
        finally:
            if answer.what == "file":
                self.leave()
            if fault:
                fault.reached.set()

    def _await_crowd(self) -> None:
        with self.lock:
            self.lock.wait_for(lambda: self.crowded, self.patience)
            self.crowd = None  # held once

    def validators(self, file: File) -> dict[str, str]:
        "ETag and Last-Modified, where the portal serves them."
        if not self.etags:
            return {}
        return {"etag": f'"{file.hash[:16]}"', "last-modified": format_datetime(file.listed_at, usegmt=True)}

    def ranged(self, answer: Answer, call: Call) -> Answer:
        "Answer a conditional request or one for a range as RFC 9110 says."
        file, marks, size = answer.file, self.validators(answer.file), len(answer.body)
        marks |= {"accept-ranges": "bytes"} if self.ranges else {}
        same_tag = marks.get("etag") and marks["etag"] in call.headers.get("if-none-match", "")
        same_time = "if-none-match" not in call.headers and marks.get("last-modified") == call.headers.get(
            "if-modified-since", ""
        )
        if same_tag or (marks.get("last-modified") and same_time):
            return replace(answer, body=b"", status=304, headers=marks)
        start, guard = _asked(call), call.headers.get("if-range")
        if not self.ranges or not start or (guard and guard not in (marks.get("etag"), marks.get("last-modified"))):
            return replace(answer, headers=marks)
        if start >= size:
            return replace(answer, body=b"", status=416, headers=marks | {"content-range": f"bytes */{size}"})
        place = {"content-range": f"bytes {start}-{size - 1}/{size}"}
        return replace(answer, body=file.data[start:], status=206, headers=marks | place)

    def misplaced(self, fault: Fault, answer: Answer) -> Answer:
        "The whole file where a part was asked for, or a part from another place."
        data = answer.file.data
        kept = {k: v for k, v in answer.headers.items() if k not in ("content-range", "accept-ranges")}
        if fault.kind == "no_range":
            return replace(answer, body=data, status=200, headers=kept)
        start = fault.after or 0
        kept["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return replace(answer, body=data[start:], status=206, headers=kept)


def _asked(call: Call) -> int:
    found = re.fullmatch(r"bytes=(\d+)-", call.headers.get("range", ""))
    return int(found[1]) if found else 0


async def _read_call(scope, receive, base: str) -> Call:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
    cookies = {key: morsel.value for key, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    one, other = ({key: values[-1] for key, values in pairs.items()} for pairs in (query, form))
    raw = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
    return Call(scope["method"], unquote(raw), one, other, headers, cookies, base)


def _head(answer: Answer) -> list[tuple[bytes, bytes]]:
    pairs = {"content-type": answer.kind, **answer.headers}
    return [(key.encode(), value.encode("latin-1")) for key, value in pairs.items()]


async def _send(answer: Answer, send) -> None:
    length = [] if answer.status == 304 else [(b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": _head(answer) + length})
    await send({"type": "http.response.body", "body": answer.body})


# --- misbehaving: the bytes are written past uvicorn, which is too well-mannered for it


def _raw_head(answer: Answer, length: int | None) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {'Partial Content' if answer.status == 206 else 'OK'}".encode()]
    lines += [key + b": " + value for key, value in _head(answer)]
    lines += [f"content-length: {length}".encode()] if length is not None else []
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


async def _gone(receive) -> None:
    "Wait until the other side has hung up."
    while (await receive())["type"] != "http.disconnect":
        pass


def _break(transport) -> None:
    "Close with RST."
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _misbehave(fault: Fault, answer: Answer, receive, send) -> None:
    transport, body = receive.__self__.transport, answer.body
    part = body if fault.after is None else body[: fault.after]
    match fault.kind:
        case "no_range" | "wrong_range":
            return await _send(answer, send)
        case "status":
            again = {"retry-after": fault.retry_after} if fault.retry_after else {}
            text = (fault.page or f"<html><body><h1>{fault.status}</h1></body></html>").encode()
            return await _send(Answer(answer.what, text, status=fault.status, headers=again), send)
        case "page":
            return await _send(html(answer.what, fault.page), send)
        case "cut":
            return await _send(Answer(answer.what, part, answer.kind, headers=answer.headers), send)
    if fault.kind == "silence":
        fault.reached.set()
        return await _gone(receive)
    if fault.kind == "reset" and not fault.after:
        _break(transport)
        return await _gone(receive)
    length = {"unsized": None, "endless": None, "giant": PETABYTE}.get(fault.kind, len(body))
    transport.write(_raw_head(answer, length))
    await _body(fault, part, body, transport, receive, answer.what == "file")
    await _gone(receive)


async def _body(fault: Fault, part: bytes, body: bytes, transport, receive, answer_is_file: bool) -> None:
    match fault.kind:
        case "stall":
            transport.write(part)
            fault.reached.set()
        case "reset":
            transport.write(part)
            while transport.get_write_buffer_size():  # the kernel takes what the other side has room for
                await asyncio.sleep(0.001)
            _break(transport)
        case "short" | "unsized":
            transport.write(part)
            transport.close()
        case "giant":
            transport.write(body)
            fault.reached.set()
        case "endless":
            transport.write(b"\x1f\x8b\x08" if answer_is_file else b"<html>")
            while not transport.is_closing():
                transport.write(bytes(65536))
                await receive.__self__.flow.drain()
                await asyncio.sleep(0)
        case "drip":
            for place in range(0, len(body), max(fault.after or 64, 1)):
                transport.write(body[place : place + max(fault.after or 64, 1)])
                await asyncio.sleep(fault.pause)
            transport.close()
        case other:
            raise ValueError(f"no such fault on the web: {other}")


# --- serving


class Street:
    "Doors that portals can stand behind: one uvicorn thread for all, or for all of one certificate."

    def __init__(self, doors: int, paper: Paper | None = None, host: str = "127.0.0.1"):
        sockets = [socket.create_server((host, 0), backlog=128) for _ in range(doors)]
        for door in sockets:  # what is accepted inherits it; without, each answer waits 40 ms for an acknowledgement
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.scheme = host, "https" if paper else "http"
        self.free = [door.getsockname()[1] for door in sockets]
        self.portals: dict[int, Web] = {}
        self.slips: list[Exception] = []
        tls = dict(ssl_certfile=str(paper.cert), ssl_keyfile=str(paper.key)) if paper else {}
        options = dict(log_config=None, lifespan="off", interface="asgi3", http="h11", loop="asyncio", access_log=False)
        config = uvicorn.Config(self.app, proxy_headers=False, server_header=False, **options, **tls)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs=dict(sockets=sockets), daemon=True)
        self.thread.start()

    def open(self, *portals: Web) -> "Street":
        "Give each portal a door."
        for portal in portals:
            port = self.free.pop(0)
            portal.url = f"{self.scheme}://{self.host}:{port}"
            self.portals[port] = portal
        return self

    def leave(self, portal: Web) -> None:
        "Give a portal's door back; who still knocks there is told so."
        port = int(portal.url.rpartition(":")[2])
        self.portals.pop(port)
        self.free.append(port)

    async def app(self, scope, receive, send) -> None:
        portal = self.portals.get(scope["server"][1])
        try:
            await (portal.serve(scope, receive, send) if portal else _send(missing(), send))
        except Exception as error:  # a portal's own slip must not look like a planned fault
            self.slips.append(error)
            raise

    def close(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)


logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
