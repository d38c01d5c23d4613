"""Files made to break a reader, each read in a process of its own that is measured: `python -m tests.fuzz.hostile [CASE...]` prints one line of JSON for each."""

import gzip
import io
import json
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator

from grocery.feeds import check, read, scan
from grocery.feeds.read import CHUNK

NAME = "PriceFull7290000000001-001-202603010341.gz"
HEAD = b"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>"
ITEM = "<Item><ItemCode>7290000000015</ItemCode><ItemName>חלב</ItemName><ItemPrice>6.90</ItemPrice></Item>".encode()
FOOT = b"</Items></Root>"
MB = 1 << 20
CASES: dict[str, Callable[[], Iterator[bytes]]] = {}


def case(function):
    "Name a case after its function."
    CASES[function.__name__] = function
    return function


def _in(text: bytes, mb: float) -> Iterator[bytes]:
    "Repeat a text up to so many megabytes, in chunks as a disk gives them."
    block = text * (CHUNK // len(text) + 1)
    for n in range(0, int(mb * MB), CHUNK):
        yield block[: min(len(block), int(mb * MB) - n)]


def _chunks(data: bytes) -> Iterator[bytes]:
    for n in range(0, len(data), CHUNK):
        yield data[n : n + CHUNK]


def _gz(parts: Iterator[bytes], level: int = 9) -> Iterator[bytes]:
    packer = zlib.compressobj(level, wbits=31)
    for part in parts:
        if data := packer.compress(part):
            yield data
    yield packer.flush()


def _zip(data: bytes, method: int, name: str = "feed.xml", more: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, data)
        for n in range(more):
            archive.writestr(str(n), b"")
    return buffer.getvalue()


def _around(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield HEAD
    yield from parts
    yield FOOT


# Entities


@case
def entity_laughs():
    names = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    yield f'<!DOCTYPE r [<!ENTITY a0 "EXP&#65;NDED">{names}]><Root><Items><Item><ItemCode>15</ItemCode><ItemPrice>&a11;</ItemPrice></Item></Items></Root>'.encode()


@case
def entity_outside():
    yield b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + HEAD + ITEM.replace(b"6.90", b"&a;") + FOOT


@case
def entity_late():
    yield (
        b"<?xml version='1.0'?>"
        + b" " * 200_000
        + b'<!DOCTYPE r [<!ENTITY a "EXP&#65;NDED">]>'
        + HEAD
        + ITEM.replace(b"6.90", b"&a;")
        + FOOT
    )


@case
def entity_within():
    yield (
        HEAD
        + b'<Item><!DOCTYPE r [<!ENTITY a "EXP&#65;NDED">]><ItemCode>15</ItemCode><ItemName>&a;</ItemName><ItemPrice>5</ItemPrice></Item>'
        + ITEM
        + FOOT
    )


# Bombs


@case
def bomb_gzip():
    yield from _gz(_in(bytes(1024), 400))


@case
def bomb_gzip_members():
    member = gzip.compress(b" " * (20 * MB), 9, mtime=0)
    yield gzip.compress(HEAD, mtime=0) + member * 60


@case
def bomb_gzip_nested():
    yield gzip.compress(gzip.compress(b"".join(_gz(_in(bytes(1024), 400))), 9), 9)


@case
def bomb_gzip_tiny_members():
    yield gzip.compress(HEAD + ITEM, mtime=0)
    yield from _chunks(gzip.compress(b"", mtime=0) * 400_000 + gzip.compress(FOOT, mtime=0))


@case
def bomb_gzip_one_byte_members():
    member = gzip.compress(b" ", mtime=0)
    yield from _chunks(gzip.compress(HEAD + ITEM, mtime=0) + (member + b"\0") * 300_000 + gzip.compress(FOOT, mtime=0))


@case
def bomb_gzip_utf16_members():
    members = b"".join(gzip.compress(bytes([byte]), mtime=0) for byte in (" " * 500).encode("utf-16-le"))
    yield from _chunks(
        gzip.compress((HEAD + ITEM).decode().encode("utf-16"), mtime=0)
        + members * 300
        + gzip.compress(FOOT.decode().encode("utf-16-le"), mtime=0)
    )


@case
def bomb_gzip_records():
    yield from _gz(_around(_in(ITEM, 20)))


@case
def bomb_zip():
    yield from _chunks(_zip(bytes(120 * MB), zipfile.ZIP_DEFLATED))


@case
def bomb_zip_bzip2():
    yield _zip(bytes(200 * MB), zipfile.ZIP_BZIP2)


@case
def bomb_zip_lzma():
    data = _zip(HEAD + ITEM + FOOT, zipfile.ZIP_LZMA)
    yield data.replace(data[data.index(b"\x5d\0\0") : data.index(b"\x5d\0\0") + 5], b"\x5d\xff\xff\xff\xff")


@case
def bomb_zip_many_files():
    yield from _chunks(_zip(HEAD + ITEM + FOOT, zipfile.ZIP_DEFLATED, more=20_000))


# Names in archives


@case
def archive_names():
    for name in ("../../../tmp/evil", "/etc/evil", "..\\evil", "C:\\evil"):
        data = _zip(HEAD + ITEM + FOOT, zipfile.ZIP_DEFLATED, name)
    yield data


# Depth and width


@case
def deep_before():
    yield from _in(b"<a>", 3)
    yield HEAD + ITEM + FOOT


@case
def deep_then_close():
    yield b"<a>" * 300_000 + b"</b>" * 300_000 + HEAD + ITEM + FOOT


@case
def deep_inside():
    yield (
        HEAD
        + ITEM
        + b"<Item><ItemCode>16</ItemCode>"
        + b"<a>" * 1_000_000
        + b"</a>" * 1_000_000
        + b"</Item>"
        + ITEM.replace(b"15<", b"22<")
        + FOOT
    )


@case
def deep_promotion():
    yield (
        b"<Root><Promotions><Promotion><PromotionId>1</PromotionId>"
        + b"<Groups><Group>" * 100_000
        + b"</Group></Groups>" * 100_000
        + b"</Promotion></Promotions></Root>"
    )


@case
def attribute_huge():
    yield HEAD + ITEM + b"<Item a='"
    yield from _in(b"x", 100)
    yield b"'>" + ITEM[6:] + ITEM + FOOT


@case
def attributes_many():
    yield (
        HEAD
        + ITEM
        + b"<Item "
        + b" ".join(b"a%d='1'" % n for n in range(500_000))
        + b">"
        + ITEM[6:]
        + ITEM.replace(b"15<", b"22<")
        + FOOT
    )


@case
def record_huge():
    yield HEAD + ITEM + b"<Item><ItemCode>16</ItemCode><ItemName>"
    yield from _in("חלב ".encode(), 1000)
    yield b"</ItemName></Item>" + ITEM + FOOT


@case
def record_of_empty_fields():
    yield HEAD + ITEM + b"<Item>"
    yield from _in(b"<a/>", 15)
    yield b"</Item>" + FOOT


@case
def records_long_names():
    yield HEAD
    for n in range(60):
        yield (
            b"<Item><ItemCode>%d</ItemCode><ItemName>%d" % (n + 1, n)
            + b"x" * MB
            + b"</ItemName><ItemPrice>1</ItemPrice></Item>"
        )
    yield FOOT


@case
def records_rather_long_names():
    yield HEAD
    for n in range(60):
        yield b"".join(
            b"<Item><ItemCode>%d</ItemCode><ItemName>%d" % (n * 100 + k + 1, n * 100 + k)
            + b"x" * 9_000
            + b"</ItemName><ItemPrice>1</ItemPrice></Item>"
            for k in range(100)
        )
    yield FOOT


@case
def records_empty():
    yield HEAD + ITEM
    yield from _in(b"<Item></Item>", 13)
    yield FOOT


@case
def records_empty_short():
    yield HEAD + ITEM
    yield from _in(b"<Item/>", 2)
    yield FOOT


@case
def records_never_closed():
    yield HEAD + ITEM
    yield from _in(b"<Item>", 6)


@case
def records_never_closed_but_once():
    yield HEAD + ITEM
    yield from _in(b"<Item>", 6)
    yield b"</Item>" + FOOT


@case
def records_closed_only():
    yield HEAD + ITEM
    yield from _in(b"</Item>", 3)
    yield FOOT


@case
def records_apart():
    yield HEAD
    for n in range(0, 5_000, 1000):
        yield b"".join(
            b"<Item><ItemCode>%d</ItemCode><ItemPrice>1</ItemPrice></Item><a%d>x</a%d>" % (k + 1, k, k)
            for k in range(n, n + 1000)
        )
    yield FOOT


@case
def stores_many():
    yield b"<Root>"
    for n in range(0, 5_000, 1000):
        yield b"".join(
            b"<Store><ChainId>%d</ChainId><StoreId>%d</StoreId><Items>%s</Items></Store>" % (7290000000000 + k, k, ITEM)
            for k in range(n, n + 1000)
        )
    yield b"</Root>"


@case
def places_in_records():
    yield b"<Root><Items>"
    for n in range(0, 50_000, 5000):
        yield b"".join(
            b"<Item><ChainId>%d</ChainId><StoreId>%d</StoreId>%s" % (7290000000000 + k, k, ITEM[6:])
            for k in range(n, n + 5000)
        )
    yield b"</Items></Root>"


@case
def promotion_of_many_items():
    yield b"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Promotions><Promotion><PromotionId>1</PromotionId><PromotionItems>"
    yield b"".join(b"<Item><ItemCode>%d</ItemCode></Item>" % n for n in range(1, 350_000))
    yield b"</PromotionItems></Promotion></Promotions></Root>"


@case
def promotion_of_wide_groups():
    fields, codes = (
        b"".join(b"<x%d>1</x%d>" % (n, n) for n in range(400)),
        b"".join(b"<ItemCode>%d</ItemCode>" % n for n in range(1, 200_000)),
    )
    yield (
        b"<Root><Promotions><Promotion><PromotionId>1</PromotionId><Items>"
        + fields
        + codes
        + b"</Items></Promotion></Promotions></Root>"
    )


@case
def promotion_of_many_groups():
    yield (
        b"<Root><Promotions><Promotion><PromotionId>1</PromotionId><Groups>"
        + b"<Group><a>1</a></Group>" * 300_000
        + b"</Groups></Promotion></Promotions></Root>"
    )


@case
def promotion_of_many_clubs():
    yield (
        b"<Root><Promotions><Promotion><PromotionId>1</PromotionId><Clubs>"
        + b"<ClubId>1</ClubId>" * 300_000
        + b"</Clubs></Promotion></Promotions></Root>"
    )


# Texts made for regular expressions


@case
def pattern_tag():
    yield b"<Root><" + b"a" * 3_000_000 + b"<ItemCode>1</ItemCode>" + HEAD + ITEM + FOOT


@case
def pattern_tags():
    yield b"<Root>" + (b"<" + b"a" * 30_000) * 100 + HEAD + ITEM + FOOT


@case
def pattern_leaf():
    yield HEAD + b"<Item><" + b"a" * 60_000 + b"<ItemCode>1</ItemCode></Item>"
    yield from _in(ITEM, 3)
    yield FOOT


@case
def pattern_comment():
    yield b"<Root>"
    yield from _in(b"<!--", 4)
    yield HEAD + ITEM + FOOT


@case
def pattern_cdata():
    yield HEAD + ITEM
    yield from _in(b"<![CDATA[", 4)
    yield ITEM + FOOT


@case
def pattern_declared():
    yield b"<?xml " + b"encoding=" * 500_000 + b"?>" + HEAD.replace(b"1<", b"\xe0<") + ITEM + FOOT


@case
def pattern_count():
    yield HEAD.replace(b"<Items>", b"<Items " + b"count " * 500_000 + b"count=" + b" " * 500_000 + b">") + ITEM + FOOT


@case
def pattern_money():
    for n in range(20):
        yield (HEAD if not n else b"") + ITEM.replace(b"6.90", b"1" * 9_000 + b"x") * 10
    yield FOOT


@case
def pattern_entity():
    yield (
        HEAD
        + ITEM
        + b"<Item><ItemName>"
        + b"&" * 2_000_000
        + b"</ItemName></Item>"
        + b"<Item><ItemName>"
        + b"& <" * 500_000
        + b"</ItemName></Item>"
        + FOOT
    )


@case
def pattern_names():
    texts = [
        "1" * 9_000,
        "1*" * 4_000,
        " " * 9_000 + "1",
        "1.5 " * 2_000,
        ")" * 9_000,
        "a)" * 4_000 + "(",
        "''" * 4_000,
        "1,000" * 1_500,
        "0" * 9_000 + "x",
        'ק"ג' * 2_000,
        "(" * 4_000 + ")" * 4_000,
    ]
    for field in (
        "ItemName",
        "UnitQty",
        "Quantity",
        "UnitOfMeasure",
        "QtyInPackage",
        "PriceUpdateDate",
        "ManufacturerName",
    ):
        for k, text in enumerate(texts):
            head = HEAD if field == "ItemName" and not k else b""
            yield (
                head
                + f"<Item><ItemCode>{field}{k}</ItemCode><ItemPrice>5</ItemPrice><{field}>{text}</{field}></Item>".encode()
            )
    yield FOOT


@case
def prefixes_many():
    yield HEAD + ITEM + b"<Item>" + b"".join(b"<p%d:a/>" % n for n in range(100_000)) + b"</Item>" + FOOT


@case
def blanks_before():
    yield from _in(b" \r\n", 3)
    yield HEAD + ITEM + FOOT


@case
def comment_never_ends():
    yield HEAD + ITEM + b"<!-- "
    yield from _in(ITEM, 40)


@case
def comment_inside_never_ends():
    yield HEAD + ITEM + b"<Item><ItemCode>16</ItemCode><!-- "
    yield from _in(ITEM, 40)


@case
def cdata_inside_never_ends():
    yield HEAD + ITEM + b"<Item><ItemCode>16</ItemCode><ItemName><![CDATA["
    yield from _in(ITEM, 40)


@case
def key_far_away():
    yield b"<Root><x>"
    yield from _in(b"nothing ", 40)
    yield b"</x>" + HEAD[6:] + ITEM + FOOT


@case
def key_quite_far_away():
    yield b"<Root><x>"
    yield from _in(b"<y/>", 10)
    yield b"</x>" + HEAD[6:] + ITEM + FOOT


@case
def no_key_at_all():
    yield b"<Root><Items>"
    yield from _in(b"<Item><a>1</a></Item>", 4)
    yield FOOT


@case
def header_endless():
    yield b"<Root>"
    for n in range(0, 60_000, 1000):
        yield b"".join(b"<f%d>%d</f%d>" % (k, k, k) for k in range(n, n + 1000))
    yield HEAD[6:] + ITEM + FOOT


@case
def names_strange():
    words = ["\u202eבזק\u202c", "a\x00b", "\x1b[31m", "\u2066x\u2069", "\ufeff", "x\u200fy", "\x1f", "\x7f\x85"]
    yield (
        HEAD
        + b"".join(
            f"<Item><ItemCode>{n + 10}</ItemCode><ItemName>{word}</ItemName><ItemPrice>5</ItemPrice></Item>".encode()
            for n, word in enumerate(words)
        )
        + FOOT
    )


@case
def codes_twice():
    for n in range(0, 100_000, 5000):
        yield (HEAD if not n else b"") + b"".join(
            b"<Item><ItemCode>%d</ItemCode><ItemName>%d</ItemName><ItemPrice>5</ItemPrice></Item>"
            % (k % 50_000 + 1, k % 3)
            for k in range(n, n + 5000)
        )
    yield FOOT


@case
def names_all_different():
    for n in range(0, 100_000, 20_000):
        yield (HEAD if not n else b"") + b"".join(
            b"<Item><ItemCode>%d</ItemCode><ItemName>%d</ItemName><ItemPrice>5</ItemPrice></Item>" % (k + 1, k)
            for k in range(n, n + 20_000)
        )
    yield FOOT


# Not XML


@case
def text_endless():
    yield from _in(b"nothing at all, ", 100)


@case
def table_quotes():
    yield b"store_id,verification_num,store_type,store_name,address,city,zip_code\n"
    yield (b'"a,' * 20_000 + b"\n") * 20


@case
def table_one_line():
    yield b"a," * 5_000_000


@case
def table_open_quotes():
    yield b"store_id,verification_num,store_type,store_name,address,city,zip_code\n"
    yield b'1,2,"a,b\n' * 20_000


# Measuring


def measure(name: str) -> dict:
    "Read a case in a forked process."
    got, put = os.pipe()
    start = time.time()
    child = os.fork()
    if not child:
        os.close(got)
        try:
            chunks = list(CASES[name]()) if name.startswith(("bomb", "archive")) else None
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            began = time.process_time()
            if name == "bomb_gzip_records":
                read.FREE_BYTES, read.MAX_RATIO = 2 * MB, 20
            sink = check._Nothing()
            open_it = (lambda: iter(chunks)) if chunks is not None else CASES[name]
            ledger, _ = check._read(check._Bytes(open_it, NAME, None), sink)
            keys = ("kind", "rows_in", "accepted", "rejected", "duplicates", "complete", "problems", "bytes")
            out = {"case": name, "cpu_s": round(time.process_time() - began, 2)} | {k: ledger[k] for k in keys}
            peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
            out["peak_mb"] = int(peak.split()[1]) // 1024
            out["input_mb"] = round(ledger["bytes"] / MB, 1)
            out["layout"] = len(ledger["layout"])
            os.write(put, json.dumps(out).encode())
        finally:
            os._exit(0)
    os.close(put)
    with open(got, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return json.loads(data) if data else {"case": name, "died": True, "after_s": round(time.time() - start, 1)}


def main() -> None:
    scan.can_scan()
    for name in sys.argv[1:] or CASES:
        print(json.dumps(measure(name), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
