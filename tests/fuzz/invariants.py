"""What holds for every file whatsoever: the fuzzer looks for bytes that break it, the test suite replays those it found."""

import contextlib
import json
import mmap
import re
import time
from ctypes import CDLL, addressof, c_char, c_int, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from grocery.feeds import check, parse, read, scan
from grocery.feeds.check import Feed, read_feed
from grocery.feeds.names import make_store_id, parse_name
from grocery.feeds.read import Said, read_text
from grocery.tables import REASONS, TABLES

SECONDS = 2.0  # of CPU, for any input below 64 KB


@contextlib.contextmanager
def patched(module, **values):
    "Set a module's names for a while."
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@contextlib.contextmanager
def timed(size: int, what: str):
    "Allow two seconds for what is small, and in proportion for what is not."
    start = time.process_time()
    yield
    took = time.process_time() - start
    assert took < SECONDS * max(1, size / 65536), f"slow: {what}: {took:.1f} s for {size} bytes"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    "Cut bytes into chunks of these sizes, again and again."
    chunks, at, n = [], 0, 0
    while at < len(data):
        size = max(sizes[n % len(sizes)], len(data) // 2000, 1)
        chunks.append(data[at : at + size])
        at, n = at + size, n + 1
    return chunks


def read_chunks(chunks: list[bytes], name: str) -> Feed:
    "Do what read_feed does, with bytes in chunks."
    ledger, tables = check._read(check._Bytes(lambda: chunks, Path(name).name, None), check._Memory())
    rejects = tables.pop("rejects", check.make_table("rejects", [])).drop_columns("file_id").to_pylist()
    if "items" in tables and len(ledger["stores"]) > 1:
        tables["items"] = check.keep_last(tables["items"], TABLES["items"].key)
    return Feed(ledger | {"file": name}, tables, rejects)


def check_feed(feed: Feed, data: bytes) -> None:
    "Check what must be true of any file that was read."
    ledger = feed.ledger
    out = sum(ledger["rejected"].values())
    assert ledger["rows_in"] == ledger["accepted"] + out + ledger["duplicates"], "ledger: it does not add up"
    assert set(ledger["rejected"]) <= set(REASONS), "ledger: a reason that is not in the list"
    assert min(ledger["accepted"], ledger["duplicates"], *ledger["rejected"].values(), 0) == 0, (
        "ledger: less than nothing"
    )
    assert len(feed.rejects) == out, "ledger: rejects are not those that were counted"
    json.dumps(ledger | {"published_at": str(ledger["published_at"])}, allow_nan=False).encode("ascii")
    assert ledger["sha256"] and ledger["bytes"] == len(data), "ledger: not every byte was hashed"
    rows = {name: table.num_rows for name, table in feed.tables.items()}
    if ledger["kind"].startswith("Price"):
        assert rows.get("prices", 0) == ledger["accepted"], "tables: prices are not the rows accepted"
    for name, table in feed.tables.items():
        assert table.schema.equals(TABLES[name].schema), f"tables: {name} has another schema"
        table.validate(full=True)
    check_texts(feed, data)


def check_texts(feed: Feed, data: bytes) -> None:
    "No replacement character is made, no entity is expanded."
    cells = repr([table.to_pylist() for table in feed.tables.values()] + feed.rejects)
    if "\ufffd" in cells or "EXPANDED" in cells or "\\ufffd" in cells:
        text = b"".join(read_text([data], Said())).decode()
        assert "EXPANDED" in text or "EXPANDED" not in cells, "entity: one was expanded"
        assert "\ufffd" in text or re.search("&#0*(65533|x0*fffd);", text, re.I) or "\ufffd" not in cells, (
            "text: a replacement character was made"
        )


def _sorted(rows: list[dict]) -> list[str]:
    return sorted(map(repr, rows))


def _essence(feed: Feed) -> dict:
    "What two readings of the same bytes must agree on."
    ledger = {k: v for k, v in feed.ledger.items() if k != "problems"}
    ledger["stores"] = _sorted(ledger["stores"])
    ledger["rejected"] = dict(sorted(ledger["rejected"].items()))
    said = [p for p in feed.ledger["problems"] if not p.startswith("not well-formed")]
    ledger["problems"] = sorted(
        [p for p in said if p.startswith("refused")] or said
    )  # what lies behind a refusal may have been looked at or not
    tables = {name: _sorted(table.to_pylist()) for name, table in feed.tables.items() if table.num_rows}
    rejects = [r if r["reason"] != "missing_store" else r | {"raw": ""} for r in feed.rejects]
    return {"ledger": ledger, "rejects": _sorted(rejects)} | {f"table {k}": v for k, v in tables.items()}


def check_same(one: Feed, other: Feed, how: str) -> None:
    "Two readings of the same bytes must give the same."
    a, b = _essence(one), _essence(other)
    for key in a.keys() | b.keys():
        if a.get(key) != b.get(key):
            x, y = a.get(key), b.get(key)
            if isinstance(x, dict) and isinstance(y, dict):
                x, y = ({k: v for k, v in x.items() if v != y.get(k)}, {k: v for k, v in y.items() if v != x.get(k)})
            elif isinstance(x, list) and isinstance(y, list):
                x, y = ([r for r in x if r not in y][:2], [r for r in y if r not in x][:2])
            raise AssertionError(f"differs: {how}: {key}: {str(x)[:800]} | {str(y)[:800]}")


# Guarded memory: arrays that end where the process may not read or write.

PAGE = mmap.PAGESIZE
CANARY = 0xA5


def guarded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Copy an array to the end of a page behind which nothing is; also the canary bytes before it."
    size = array.nbytes
    pages = -(-size // PAGE) or 1
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    base = addressof(c_char.from_buffer(memory))
    libc = CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [c_void_p, c_size_t, c_int]
    assert libc.mprotect(base + pages * PAGE, PAGE, 0) == 0
    before = np.frombuffer(memory, np.uint8, pages * PAGE - size)
    before[:] = CANARY
    inside = np.frombuffer(memory, array.dtype, len(array), pages * PAGE - size)
    inside[:] = array
    return inside, before


class GuardedScanner(scan.Scanner):
    "A scanner whose workspace lies between canaries and pages that cannot be touched."

    def _make_room(self, size: int) -> None:
        before = self.size
        super()._make_room(size)
        if self.size != before:
            self.canaries = {}
            for store in (self.out, self.inputs):
                for name, array in store.items():
                    if array is not None and (store is self.out or name in ("buf", "spare")):
                        store[name], self.canaries[name] = guarded(array)
            self.addresses = [array.ctypes.data for array in (*self.inputs.values(), *self.out.values())]

    def scan(self, text: bytes, begin: int = 0, end: int | None = None):
        found = super().scan(text, begin, end)
        for name, canary in getattr(self, "canaries", {}).items():
            assert (canary == CANARY).all(), f"scan: something was written before {name}"
        return found


def read_with(
    data: bytes,
    name: str,
    *,
    sizes: list[int] | None = None,
    fast: bool,
    head: int,
    group: int = 1 << 19,
    chunk: int | None = None,
    guard: bool = False,
) -> Feed:
    "Read bytes with or without the fast scan, whole or in chunks."
    from grocery.feeds import clean

    scanning = {"SCAN_FROM": 1 if fast else 1 << 60}
    makes = check.make_scanner if fast else lambda sample, tag: None
    with (
        patched(parse, HEAD=head, GROUP=group, **scanning),
        patched(check, make_scanner=makes),
        patched(read, CHUNK=chunk or read.CHUNK),
    ):
        with patched(clean, Scanner=GuardedScanner) if guard else contextlib.nullcontext():
            return read_chunks(cut(data, sizes) if sizes else [data], name)


def lengthen(data: bytes) -> bytes:
    "Put so many blanks before a plain feed that its text arrives in chunks: the first 4 KB are looked at together, to find the encoding."
    return b"\n" * 4100 + data if data[:1] == b"<" else data


def check_alike(data: bytes, name: str, sizes: list[int], head: int, group: int, guard: bool = True) -> None:
    "The fast scan, the conforming parser, whole files and chunks: all say the same."
    unpacked = b"".join(read.unpack([data], Said()))
    chunk = (
        64 if read.is_utf8(unpacked) else None
    )  # the first chunk decides between Windows-1255 and damaged UTF-8, so there it stays large
    with timed(4 * len(unpacked), "reading it four times"):
        slow = read_with(data, name, fast=False, head=head)
        fast = read_with(data, name, fast=True, head=head, guard=guard)
        check_same(slow, fast, "the fast scan")
        check_same(
            slow, read_with(data, name, sizes=sizes, fast=False, head=head, group=group, chunk=chunk), "in chunks"
        )
        check_same(
            slow,
            read_with(data, name, sizes=sizes, fast=True, head=head, group=group, chunk=chunk, guard=guard),
            "the fast scan in chunks",
        )
    check_feed(slow, data)
    check_feed(fast, data)


def check_reading(data: bytes, name: str) -> None:
    "Read one file as everybody does."
    with timed(len(data) + 65536 * (len(data) > 1 and data[:2] in (b"\x1f\x8b", b"PK")) * 8, "reading it"):
        feed = read_feed(data, name)
    check_feed(feed, data)


def check_name(text: str) -> None:
    "Names and store numbers of every kind."
    with timed(len(text), "the name"):
        said = parse_name(text)
        store = make_store_id(text)
    assert said.kind is None or said.kind in ("Price", "PriceFull", "Promo", "PromoFull", "Stores")
    assert said.chain_id is None or re.fullmatch(r"[0-9]{8,13}", said.chain_id), "name: a chain that is no number"
    assert said.store_id is None or re.fullmatch(r"[0-9]{3,}", said.store_id), "name: a store that is no number"
    assert said.sub_chain_id is None or re.fullmatch(r"[0-9]+", said.sub_chain_id), (
        "name: a sub-chain that is no number"
    )
    assert said.published_at is None or 1999 <= said.published_at.year <= 2100
    assert store is None or store == make_store_id(store), "store: written twice it differs"
    assert parse_name(f"  {text.strip()} ") == said or text.strip() != text, "name: blanks change it"


def check_decoding(data: bytes, sizes: list[int]) -> None:
    "Where the bytes are cut does not matter; nothing is replaced; nothing is longer than it may be."
    with timed(len(data) * 4 + 65536 * (data[:2] in (b"\x1f\x8b", b"PK")) * 8, "decoding it"):
        whole, said = b"".join(read_text([data], one := Said())), one
        pieces = b"".join(read_text(cut(data, sizes), other := Said()))
    assert whole == pieces, "text: it depends on where the bytes are cut"
    assert (said.compression, said.encoding, said.complete, said.problems) == (
        other.compression,
        other.encoding,
        other.complete,
        other.problems,
    ), "text: what is said depends on chunks"
    text = whole.decode("utf-8")
    if "\ufffd" in text:
        raw = b"".join(read.unpack([data], Said()))
        assert b"\xef\xbf\xbd" in raw or b"\xfd\xff" in raw or b"\xff\xfd" in raw, (
            "text: a replacement character was made"
        )
