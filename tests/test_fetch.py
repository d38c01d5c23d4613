"""Fetching, away from any portal: names, sizes, ends of files, manifests and names on the disk; then a fetch killed at many moments.

What needs a portal's dialect stands in test_portals.py.
"""

import gzip
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unicodedata
import zipfile
import zlib
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grocery.errors import SourceError
from grocery.feeds import fetch as fetching
from grocery.feeds.chains import find_chain
from grocery.feeds.fetch import (
    FETCH_REASONS,
    STATUSES,
    Manifest,
    check_file_name,
    fetch,
    find_cut,
    show_text,
    split_by_day,
)
from grocery.feeds.portals import (
    PORTAL_REASONS,
    Listing,
    Manners,
    PortalError,
    Turns,
    check_address,
    find_bases,
    find_password,
    find_refusal,
    find_site,
    make_tls,
    make_wait,
    parse_cerberus,
    parse_json_listing,
    parse_publishprice,
    parse_size,
    parse_table,
    parse_time,
    try_again,
)
from grocery.tables import ISRAEL

DAY = date(2026, 3, 24)
NOON = datetime(2026, 3, 24, 10, tzinfo=UTC)
QUICK = Manners(spacing_s=0, back_off_s=0.01, cap_s=0.02, timeout_s=5)
in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


# --- names


@given(st.text(min_size=1, max_size=260))
def test_a_name_that_passes_stays_in_its_folder(name):
    if check_file_name(name):
        return
    path = Path("folder") / name
    assert path.parent == Path("folder") and path.name == name and not name.startswith(".")
    assert not any(unicodedata.category(c) == "Cc" for c in name)
    assert len(f".{name}.12345678.part.json.tmp".encode()) < 255


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "C:x", "a\0b", "a\nb", "a\u202eb", "a\u200fb", ".x", "a.part", "é" * 120]
)
def test_names_that_lead_astray(name):
    assert check_file_name(name)


@given(st.text())
def test_what_is_shown_harms_no_terminal(text):
    assert not any(c in show_text(text) for c in "\x1b\x07\r\n\x7f\u202e\u200f\u2066")


# --- times and sizes


@given(
    st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)),
    st.sampled_from(["dmy", "mdy"]),
    st.booleans(),
    st.sampled_from("-/."),
)
def test_listed_times_survive_the_way(moment, order, clock_first, sign):
    moment = moment.replace(second=0, microsecond=0)
    day = moment.strftime({"dmy": "%d{0}%m{0}%Y", "mdy": "%m{0}%d{0}%Y"}[order].format(sign))
    text = f"{moment:%H:%M} {day}" if clock_first else f"{day} {moment:%H:%M}"
    wanted = moment.replace(tzinfo=ISRAEL).astimezone(UTC)
    assert parse_time(text, order) == wanted
    assert parse_time(f"{moment:%Y-%m-%d %H:%M:%S}", order) == wanted
    assert parse_time(moment.strftime(f"%m{sign}%d{sign}%Y %I:%M:%S %p"), "mdy") == wanted


@given(st.text(max_size=40))
def test_no_text_breaks_times_and_sizes(text):
    parse_time(text), parse_size(text), find_refusal(text.encode("utf-8", "replace"))


@given(st.integers(0, 1 << 32), st.sampled_from(["KB", "MB"]), st.sampled_from([1000, 1024]), st.integers(1, 2))
def test_a_rounded_size_covers_the_true_one(size, unit, base, decimals):
    power = {"KB": 1, "MB": 2}[unit]
    listed, slack = parse_size(f"{size / base**power:.{decimals}f} {unit}")
    assert abs(listed - size) <= slack + base**power // 10


@pytest.mark.parametrize(
    "head",
    [b"<!---->" * 9000 + b"x", b"<!-- a -->" * 500 + b"<Root>", b"<html><title>" + b" " * 60_000, b"<" * 65_000]
    + [b"<html>" + text * (64_000 // len(text)) for text in (b"<title>", b"<input ", b'name="csrftoken">')],
)
def test_no_page_holds_us_up(head):
    begun = time.process_time()
    find_refusal(head)
    assert time.process_time() - begun < 5


def test_a_page_of_scripts_holds_nobody_up():
    begun = time.process_time()
    with pytest.raises(PortalError):
        parse_publishprice("<script>" * 200_000)
    assert time.process_time() - begun < 5


def test_times_and_sizes_that_nobody_set_are_none():
    assert parse_time("01/01/0001 00:00:00") is None and parse_time("31/12/9999 23:59") is None
    assert parse_size("9" * 400) == parse_size("9" * 30) == parse_size("9" * 400 + " KB") == (None, 0)
    rows = '{"aaData": [{"fname": "a", "size": 1, "time": "0001-01-01T00:00:00+02:00"}]}'
    assert parse_cerberus(rows)[0].modified_at is None


def test_deep_json_is_a_listing_that_nobody_understands():
    for text in ("[" * 200_000, '{"a":' * 200_000):
        with pytest.raises(PortalError, match="allowed: JSON"):
            parse_json_listing(text, "name", "time")


def test_a_page_with_a_declared_encoding_is_read_and_a_bad_link_breaks_nothing():
    name = "PriceFull7290000000001-001-202603240340.gz"
    row = f'<tr><td><a href="{name}">x</a></td></tr>'
    table = f'<table><tr><td><a href="http://[::1/{name}">{name}</a></td></tr>{row}</table>'
    found = parse_table(f'<?xml version="1.0" encoding="utf-8"?><html>{table}</html>')
    assert [entry.name for entry in found] == [name, name]


def test_a_place_holds_no_secret():
    listing = Listing("1", "a", "b.gz", "https://user:secret@host.example:8443/b.gz?sig=secret#secret")
    assert listing.place == "https://host.example:8443/b.gz"
    with pytest.raises(PortalError) as error:
        check_address("ftp://user:secret@host.example/b.gz?sig=secret", "https://host.example")
    assert "secret" not in str(error.value)


def test_a_zip_without_marks_is_not_gone_on_with(tmp_path):
    for head, offset in ((b"\x1f\x8b", 100), (b"PK", 0)):
        part = fetching._Part(tmp_path, listed(f"Price{head[0]}.gz"))
        part.path.write_bytes(head + b"0" * 98)
        part.write_about({"etag": "", "last_modified": "", "total": 200})
        assert part.read()[0] == offset


def test_a_part_with_all_its_bytes_is_still_looked_at(tmp_path):
    whole = gzip.compress(b"<Root>" + os.urandom(500) + b"</Root>")
    for data, reason in ((whole, ""), (whole[:-20], "short_gzip")):
        listing = listed(f"Price{len(data)}.gz", size=len(data))
        part = fetching._Part(tmp_path, listing)
        part.path.write_bytes(data)
        part.write_about({"etag": "x", "last_modified": "", "total": len(data)})
        try:
            got = fetching._receive(None, listing, part, None, threading.Event())
        except PortalError as error:
            got = error.reason
        assert got == reason


# --- the end of a file


@in_folder
@given(data=st.binary(min_size=0, max_size=3000), share=st.floats(0, 1), how=st.sampled_from(["gzip", "zip"]))
def test_no_cut_of_a_packed_file_is_taken_for_whole(tmp_path, data, share, how):
    if how == "gzip":
        whole = gzip.compress(data, mtime=0)
    else:
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.xml", data)
        whole = buffer.getvalue()
    path = tmp_path / "file"
    path.write_bytes(whole)
    assert find_cut(path) == ""
    cut = whole[: max(2, min(int(share * len(whole)), len(whole) - 1))]
    path.write_bytes(cut)
    assert find_cut(path) == "short_gzip"


def test_one_wrong_byte_in_a_gzip_is_found(tmp_path):
    whole, path = bytearray(gzip.compress(os.urandom(2000), mtime=0)), tmp_path / "file"
    for place in range(10, len(whole), 37):
        wrong = bytearray(whole)
        wrong[place] ^= 1
        path.write_bytes(wrong)
        assert find_cut(path) == "short_gzip", place


def test_many_members_zeros_behind_them_and_bombs(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"<a>") * 200 + b"\0" * 512)
    assert find_cut(path) == ""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush())
    monkeypatch.setattr(fetching, "MAX_UNPACKED", 8 << 20)
    began = time.monotonic()
    assert find_cut(path) == "" and time.monotonic() - began < 2


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "cp1255"])
def test_plain_xml_ends_in_a_bracket(tmp_path, codec):
    path, text = tmp_path / "file", "<Root><Name>חלב</Name></Root>\r\n"
    path.write_bytes(text.encode(codec))
    assert find_cut(path) == ""
    path.write_bytes(text[:-9].encode(codec))
    assert find_cut(path) == "short_body"


# --- manners


@given(st.integers(0, 40), st.floats(0, 1), st.none() | st.floats(0, 500))
def test_a_wait_has_bounds(attempt, chance, after):
    manners = Manners(random=lambda: chance)
    assert (after or 0) <= make_wait(attempt, manners, after) <= max(manners.cap_s, after or 0)


def test_a_portal_that_asks_for_more_patience_than_we_have_is_left():
    naps = []
    manners = Manners(sleep=naps.append)

    def ask():
        raise PortalError("http_status", "503", retry=True, after=3600)

    with pytest.raises(PortalError):
        try_again(ask, manners)
    assert naps == []


def test_turns_are_per_site_and_bounded():
    turns, inside, most, lock = Turns(Manners(per_host=2, spacing_s=0)), [0], [0], threading.Lock()

    def visit(number):
        with turns.take(f"http://shop{number}.binaprojects.com/"):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert most[0] == 2
    assert find_site("https://a.b.co.il/x") == "b.co.il" and find_site("http://localhost:1/") == "localhost:1"


# --- addresses, logins, certificates


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://10.0.0.1/",
        "http://localhost/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "data:x",
        "",
    ],
)
def test_addresses_that_no_portal_points_to(address):
    with pytest.raises(PortalError) as caught:
        check_address(address, "https://prices.example.org/")
    assert caught.value.reason == "bad_address"
    check_address("http://127.0.0.1:9/x", "http://localhost:8/")


def test_variables_come_before_the_row_and_the_argument_before_them():
    chain = find_chain("rami_levy")
    assert find_bases(chain, environ={})[0].startswith("ftps://")
    both = {"GROCERY_BASE_CERBERUS": "http://127.0.0.1:1/{login}", "GROCERY_BASE_RAMI_LEVY": "http://127.0.0.1:2"}
    assert find_bases(chain, environ=both) == ("http://127.0.0.1:2",)
    both.pop("GROCERY_BASE_RAMI_LEVY")
    assert find_bases(chain, environ=both) == ("http://127.0.0.1:1/RamiLevi",)
    assert find_bases(chain, "https://127.0.0.1:3", environ=both) == ("https://127.0.0.1:3",)


def test_a_password_is_asked_for_unless_the_row_says_it_is_empty():
    assert find_password(find_chain("rami_levy"), {}) == ""
    assert find_password(find_chain("yellow"), {"GROCERY_PASSWORD_YELLOW": "x"}) == "x"
    with pytest.raises(PortalError, match="GROCERY_PASSWORD_YELLOW") as caught:
        find_password(find_chain("yellow"), {})
    assert caught.value.reason == "no_login"


def test_verification_is_never_off(monkeypatch):
    import ssl

    for wish in ("", "strict", "relaxed", "none"):
        monkeypatch.setenv("GROCERY_TLS_HOST_NAME", wish)
        for relaxed in (False, True):
            context = make_tls(Manners(), relaxed)
            assert context.verify_mode == ssl.CERT_REQUIRED
            assert context.check_hostname == (not relaxed or wish == "strict")


# --- listings


def test_listings_that_are_cut_or_strange_are_said():
    for text in ("", "[", '{"a": 1}', "<html>", "null", '[{"x": 1}]'):
        with pytest.raises(PortalError) as caught:
            parse_json_listing(text, "FileNm", "DateFile")
        assert caught.value.reason in PORTAL_REASONS
    assert parse_json_listing("[]", "FileNm", "DateFile") == []
    for page in ("", "<html><script>const files = [{'</script></html>", "<html></html>"):
        with pytest.raises(PortalError):
            parse_publishprice(page)


@given(st.text(max_size=200))
def test_no_page_breaks_the_table_reader(text):
    parse_table(text)
    parse_table(f"<table><tr><td>{text}</td></tr></table>")


def test_a_table_is_read_by_what_its_cells_hold():
    name = "PriceFull7290000000001-001-202603240610"
    cells = {
        "name": name,
        "time": "24/03/2026 06:10",
        "size": "1.50 KB",
        "link": f'<a href="/d/{name}.gz">x</a>',
        "store": "001",
    }
    for order in (list(cells), list(reversed(cells))):
        page = "<table><tr>" + "".join(f"<td>{cells[c]}</td>" for c in order) + "</tr></table>"
        (entry,) = parse_table(page)
        assert (entry.name, entry.href, entry.size) == (f"{name}.gz", f"/d/{name}.gz", 1536)
        assert entry.modified_at == datetime(2026, 3, 24, 4, 10, tzinfo=UTC)


# --- days


def listed(name: str, **more) -> Listing:
    kind = next(k for k in ("PriceFull", "PromoFull", "Stores", "Price", "Promo") if name.startswith(k))
    return Listing("7290000000001", "corner", name, "/" + name, kind, **more)


def test_the_name_says_the_day_then_the_listing():
    late = datetime(2026, 3, 23, 22, 30, tzinfo=UTC)  # half past midnight in Israel
    named, unnamed, unknown = (
        listed("PriceFull7290000000001-001-202603240010.gz"),
        listed("Price1.gz", modified_at=late),
        listed("Price2.gz"),
    )
    of_day, others = split_by_day([named, unnamed, unknown], DAY)
    assert of_day == [named, unnamed, unknown] and others == []
    assert split_by_day([named, unnamed], DAY + timedelta(1)) == ([], [(named, "other_day"), (unnamed, "other_day")])


def test_stores_of_the_week_before_serve():
    old, older = listed("Stores7290000000001-202603200100.xml"), listed("Stores7290000000001-202603190100.xml")
    assert split_by_day([older, old], DAY)[0] == [old]
    assert split_by_day([older, old], DAY + timedelta(8))[0] == []
    today = listed("Stores7290000000001-202603240100.xml")
    assert split_by_day([older, today, old], DAY)[0] == [today]


# --- the manifest, and names on the disk


def test_a_torn_line_of_the_manifest_is_no_line(tmp_path):
    line = {
        "name": "a",
        "address": "/a",
        "path": "corner/2026-03-24/a",
        "bytes": 1,
        "sha256": "x",
        "whole": True,
        "size": 1,
        "modified_at": None,
    }
    folder = tmp_path / "corner/2026-03-24"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    manifest = Manifest(tmp_path, "corner", DAY)
    manifest.add(line)
    file = folder / ".manifest.jsonl"
    file.write_text(file.read_text() + '{"name": "b", "addr')
    again = Manifest(tmp_path, "corner", DAY)
    one = Listing("7290000000001", "corner", "a", "/a", size=1)
    assert again.find(one)["path"] == line["path"]
    again.add(line | {"name": "c"})
    assert len([1 for x in file.read_text().splitlines() if x.endswith("}") and json.loads(x)]) == 2
    (folder / "a").write_bytes(b"12")
    assert Manifest(tmp_path, "corner", DAY).find(one) is None, "what is no longer there is not held"


@in_folder
@given(contents=st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=8))
def test_nothing_is_ever_overwritten(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("settle")
    for data in contents:
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        part = folder / ".part"
        part.write_bytes(data)
        path, is_new = fetching._settle(part, folder, "name.gz", sha256(data).hexdigest())
        part.unlink(missing_ok=True)
        after = {p.name: p.read_bytes() for p in folder.iterdir()}
        assert before.items() <= after.items() and path.read_bytes() == data
        assert is_new == (data not in before.values())
    assert sorted(p.read_bytes() for p in folder.iterdir()) == sorted(set(contents))


def test_every_word_has_a_meaning():
    assert set(PORTAL_REASONS) <= set(FETCH_REASONS) and all(FETCH_REASONS.values()) and len(STATUSES) == 6


# --- a small portal of one's own


class _Shop(http.server.BaseHTTPRequestHandler):
    "laibcatalog, slowly: files come in pieces."

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802
        files = self.server.files
        if "getfiles" in self.path:
            rows = [
                {"fileName": n, "fileSize": f"{len(d) / 1024:.2f} KB", "fileDate": "2026-03-24 06:10:00"}
                for n, d in files.items()
            ]
            return self._send(json.dumps(rows if "edi=7290455000004" in self.path else []).encode(), {})
        name = self.path.rpartition("/")[2]
        data, tag = files[name], f'"{zlib.crc32(files[name])}"'
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        self.server.asked.append((name, start))
        if start >= len(data):
            return self._send(b"", {"Content-Range": f"bytes */{len(data)}"}, 416)
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        return self._send(data[start:], {"ETag": tag} | more, 206 if start else 200, slow=True)

    def _send(self, data, headers, status=200, slow=False):
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        try:
            for place in range(0, len(data), 4096 if slow else len(data) or 1):
                self.wfile.write(data[place : place + (4096 if slow else len(data))])
                time.sleep(0.002 if slow else 0)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def shop():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    server.daemon_threads = True
    server.asked, server.files = [], {}
    noise = random.Random(3)
    for store in range(1, 13):
        text = f"<Root><StoreId>{store}</StoreId><!-- {noise.randbytes(noise.randrange(100, 20_000)).hex()} --></Root>"
        server.files[f"PriceFull7290455000004-{store:03}-202603240610.gz"] = gzip.compress(text.encode(), mtime=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    yield server
    server.shutdown()
    server.server_close()


def visible(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}


CHILD = "import sys; from datetime import date; from grocery.feeds.fetch import fetch; from grocery.feeds.portals import Manners; fetch('het_cohen', date(2026, 3, 24), sys.argv[1], bases={'het_cohen': sys.argv[2]}, manners=Manners(spacing_s=0))"


def test_killed_at_any_moment_nothing_is_lost(shop, tmp_path):
    "SIGKILL again and again: no half file has a name; in the end all is there, and no byte of a whole file came twice."
    folder, chance = tmp_path / "raw", random.Random(11)
    kills = 0
    while kills < 6:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), shop.url])
        try:
            seen = len(shop.asked)
            while child.poll() is None and len(shop.asked) == seen:
                time.sleep(0.002)
            child.wait(chance.uniform(0, 0.06))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.wait(10)
        kills += 1
        held = visible(folder)
        assert held.items() <= shop.files.items(), "what has a name is whole"
        if child.returncode == 0:
            break
    assert kills > 1
    fetch("het_cohen", DAY, folder, bases={"het_cohen": shop.url}, manners=QUICK, now=lambda: NOON)
    assert visible(folder) == shop.files
    hidden = {p.name for p in folder.rglob(".*") if p.is_file()}
    assert hidden == {".manifest.jsonl", ".lock"}
    starts = [name for name, start in shop.asked if start == 0]
    assert len(set(starts)) == len(shop.files) and len(starts) <= len(shop.files) + 2 * kills


def test_what_was_fetched_is_what_ingest_finds(shop, tmp_path):
    from grocery.store.ingest import find_files

    done = fetch("het_cohen", DAY, tmp_path, bases={"het_cohen": shop.url}, manners=QUICK, now=lambda: NOON)
    assert sorted(find_files([tmp_path])) == done.paths and len(done.paths) == 12
    assert done.chains.loc[0, "fetched"] == 12 and "no Stores" in done.chains.loc[0, "note"]
    assert list(done.files.columns) == fetching.FETCH_COLUMNS and done.loss_share == 0


def test_a_disk_that_cannot_be_written_is_a_wrong_call(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError):
        fetch("het_cohen", DAY, tmp_path / "file" / "raw", manners=QUICK)


def test_the_command_line_tells_and_counts(shop, tmp_path):
    "Exit code 0 with all there, 1 where a chain failed; JSON holds the sums."
    env = os.environ | {"GROCERY_BASE_HET_COHEN": shop.url, "GROCERY_BASE_WOLT": "http://127.0.0.1:9/"}
    command = [sys.executable, "-c", "from grocery.cli import main; main()", "fetch"]

    def type_in(*words):
        return subprocess.run(
            [*command, *words, "--day", "2026-03-24", "--to", str(tmp_path / "raw")],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = type_in("ח. כהן", "--json", "--kind", "PriceFull")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["fetched"], told["failed"], told["per_chain"][0]["slug"]) == (12, 0, "het_cohen")
    again = type_in("het_cohen")
    assert again.returncode == 0 and "12 already held" in again.stdout
    wrong = type_in("het_cohn")
    assert wrong.returncode == 2 and "Did you mean" in wrong.stderr
    assert type_in("het_cohen", "--kind", "Prices").returncode == 2


def test_a_surprise_is_a_row_and_the_others_go_on(shop, tmp_path, monkeypatch):
    "A fault of ours in one chain, or in one file, costs no more than itself."

    def surprise(chain, *arguments, **options):
        if chain.slug == "victory":
            raise RuntimeError("surprise")
        return real(chain, *arguments, **options)

    real, keep = fetching.open_portal, fetching._keep
    monkeypatch.setattr(fetching, "open_portal", surprise)
    monkeypatch.setattr(
        fetching,
        "_keep",
        lambda job, listing, *more, **most: keep(job, listing, *more, **most) if "-003-" not in listing.name else 1 / 0,
    )
    bases = {"het_cohen": shop.url, "victory": shop.url}
    done = fetch(["victory", "het_cohen"], DAY, tmp_path, bases=bases, manners=QUICK, now=lambda: NOON)
    faults = done.files[done.files["reason"] == "fault"]
    assert list(faults["slug"]) == ["het_cohen", "victory"] and "surprise" in faults["detail"].iloc[1]
    assert done.totals["fetched"] == 11 and done.loss_share == 0.5


def test_the_second_address_serves_where_the_first_is_out_of_reach(shop, tmp_path, monkeypatch):
    from dataclasses import replace

    chain = replace(find_chain("het_cohen"), addresses=("http://127.0.0.1:9/", shop.url))
    monkeypatch.setattr(fetching, "find_chains", lambda names: [chain])
    done = fetch("het_cohen", DAY, tmp_path, manners=QUICK, now=lambda: NOON)
    assert done.totals["fetched"] == 12 and done.totals["failed"] == 0


def test_the_lock_is_let_go_and_progress_ends_at_all(shop, tmp_path):
    told = []
    for _ in range(2):
        fetch(
            "het_cohen",
            DAY,
            tmp_path,
            bases={"het_cohen": shop.url},
            manners=QUICK,
            now=lambda: NOON,
            progress=lambda *n: told.append(n),
        )
    assert told[-1] == (12, 12) == told[11]


# --- the real world's files


@pytest.mark.realdata
def test_real_files_are_neither_refused_nor_cut(realdata):
    paths = [p for p in (realdata / "feeds").rglob("*") if p.is_file()]
    assert len(paths) > 50
    for path in paths:
        with path.open("rb") as file:
            assert find_refusal(file.read(2000)) is None, path.name
        assert check_file_name(path.name) == "", path.name
    cut = [path.name for path in paths if find_cut(path)]
    assert len(cut) <= 2, cut
