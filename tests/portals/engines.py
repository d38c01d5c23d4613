"The web engines, each as its dialect is described: what is asked for, and how it is answered."

import base64
import hmac
import json
import re
from datetime import date, datetime, timedelta
from html import escape
from urllib.parse import quote

from grocery.tables import ISRAEL

from .shelf import File, Portal, Shelf
from .web import BLOCK_PAGE, EXPIRED_PAGE, Answer, Call, Web, as_json, gives, html, missing

ALL = "הכל"


def _date(text: str, form: str) -> date | None:
    try:
        return datetime.strptime(text, form).date()
    except ValueError:
        return None


def _table(head: list[str], rows: list[list[str]], foot: str = "") -> str:
    "A page with one table; cells are HTML."
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        "<!DOCTYPE html><html dir='rtl'><head><meta charset='utf-8'><title>קבצי מחירים</title></head><body>"
        f"<nav><a href='/'>בית</a></nav><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody>{foot}</table></body></html>"
    )


def _link(address: str, text: str = "להורדה") -> str:
    return f'<a href="{escape(address)}" target="_blank">{text}</a>'


def _page(call: Call, key: str) -> int:
    return int(call.query.get(key) or 1) if (call.query.get(key) or "1").isdigit() else 1


def _kilobytes(file: File, form: str = "{:.2f} KB") -> str:
    return form.format(file.size / 1024)


def _sign(secret: str, *parts: str) -> str:
    digest = hmac.digest(secret.encode(), "\n".join(parts).encode(), "sha256")
    return base64.b64encode(digest).decode()  # holds + / and =, which must survive the way


class CerberusWeb(Web):
    "GET /login, POST /login/user, POST /file/json/dir, GET /file/d/NAME; csrf tokens change with the login."

    def __init__(self, *shelves: Shelf, **options):
        super().__init__(*shelves, **options)
        self.tokens: dict[str, str] = {}  # session -> csrf token
        self.users: dict[str, str] = {}  # session -> user
        self.made = 0

    def _session(self, user: str = "") -> str:
        self.made += 1
        session = f"s{self.made:06d}"
        self.tokens[session], self.users[session] = f"t{self.made:06d}/+=", user
        return session

    def log_out(self) -> None:
        "Forget every session, as the portal does after a while."
        self.tokens.clear()
        self.users.clear()

    def _form(self, session: str, what: str = "login", name: str = "") -> Answer:
        token = escape(self.tokens[session])
        text = (
            f'<!DOCTYPE html><html><head><title>Cerberus</title><meta name="csrftoken" content="{token}"/></head><body>'
            '<form id="login-form" action="/login/user" method="post"><input name="r" type="hidden"/>'
            '<input type="text" name="username"/><input type="password" name="password"/>'
            f'<input type="hidden" name="csrftoken" value="{token}"/><input type="submit" name="Submit"/></form></body></html>'
        )
        cookie = {"set-cookie": f"cftpSID={session}; Path=/; HttpOnly"}
        return html(what, text, headers=cookie, name=name)

    def _shelf(self, user: str) -> Shelf | None:
        return next((shelf for shelf in self.shelves if shelf.user == user and user), None)

    def answer(self, call: Call) -> Answer:
        session = call.cookies.get("cftpSID", "")
        if call.path == "/login" and call.method == "GET":
            return self._form(session if session in self.tokens else self._session())
        if call.path == "/login/user" and call.method == "POST":
            return self._log_in(call, session)
        what = "file" if call.path.startswith("/file/d/") else "list"
        shelf = self._shelf(self.users.get(session, ""))
        name = call.path.removeprefix("/file/d/") if what == "file" else ""
        if not shelf:
            return self._form(self._session(), what, name)  # the login page, with status 200
        if call.path in ("/file", "/"):
            return html("login", f'<html><head><meta name="csrftoken" content="{self.tokens[session]}"/></head></html>')
        if call.path == "/file/json/dir" and call.method == "POST":
            return self._list(call, shelf, session)
        if what == "file":
            folder = shelf.folder.strip("/")
            name = name.removeprefix(folder + "/") if folder else name
            return gives(shelf.find(name, self.turns.get(name, 0)), name)
        return missing(what)

    def _log_in(self, call: Call, session: str) -> Answer:
        shelf = self._shelf(call.form.get("username", ""))
        right_token = session in self.tokens and call.form.get("csrftoken") == self.tokens[session]
        if not right_token or not shelf or shelf.password != call.form.get("password", ""):
            return html("login", "", status=302, headers={"location": "/login"}, name=call.form.get("username", ""))
        self.tokens.pop(session)
        fresh = self._session(shelf.user)  # a new session and a new token after the login
        headers = {"location": "/file", "set-cookie": f"cftpSID={fresh}; Path=/; HttpOnly"}
        return html("login", "", status=302, headers=headers, name=shelf.user, chain_id=shelf.chain_id)

    def _list(self, call: Call, shelf: Shelf, session: str) -> Answer:
        if call.form.get("csrftoken") != self.tokens[session]:
            return as_json("list", {"error": "csrf"}, status=403, chain_id=shelf.chain_id)
        files = shelf.files if call.form.get("cd", "/").rstrip("/") == shelf.folder.rstrip("/") else []
        start, length = int(call.form.get("iDisplayStart", 0)), int(call.form.get("iDisplayLength", 100))
        rows = [
            {
                "fname": f.name,
                "DT_RowId": f.name,
                "size": f.size,
                "type": "file",
                "time": f"{f.listed_at:%Y-%m-%dT%H:%M:%SZ}",
                "ftime": f"{f.local:%m/%d/%Y %H:%M}",
                "typeLabel": "",
            }
            for f in files
        ]
        more = dict(sEcho=call.form.get("sEcho"), iTotalRecords=len(rows), iTotalDisplayRecords=len(rows))
        return as_json("list", more | {"aaData": rows[start : start + length]}, chain_id=shelf.chain_id)


class Bina(Web):
    "GET MainIO_Hok.aspx, GET Download.aspx?FileNm= -> [{SPath}], GET SPath, which expires."

    TYPES = {"1": "Stores", "2": "Price", "3": "Promo", "4": "PriceFull", "5": "PromoFull"}
    lifetime = timedelta(minutes=5)

    def __init__(self, *shelves: Shelf, **options):
        super().__init__(*shelves, **options)
        self.etags = False
        self.links = 0

    def answer(self, call: Call) -> Answer:
        name = call.query.get("FileNm", "")
        if call.path == "/MainIO_Hok.aspx":
            return self._list(call)
        if call.path == "/Download.aspx":
            return self._link(call, name)
        if call.path.startswith("/Download/"):
            name = call.path.rpartition("/")[2]
            fresh = call.query.get("k", "").isdigit() and int(call.query["k"]) >= self.clock().timestamp()
            return gives(self.find(name), name) if fresh else html("file", EXPIRED_PAGE, name=name)
        return missing()

    def _list(self, call: Call) -> Answer:
        ids = {i for shelf in self.shelves for i in (shelf.chain_id, *shelf.other_ids)}
        day = _date(call.query["WDate"], "%d/%m/%Y") if call.query.get("WDate") else self.today
        kind, store = self.TYPES.get(call.query.get("WFileType", "0")), call.query.get("WStore", "")
        files = self.files(day) if call.query.get("_") in ids and call.query.get("wReshet") == ALL else []
        files = [f for f in files if kind in (None, f.kind) and (not store or int(f.store or 0) == int(store))]
        rows = [{"FileNm": f.name, "Company": "", "DateFile": f"{f.local:%H:%M %d/%m/%Y}"} for f in files]
        return as_json("list", rows, name=call.query.get("WFileType", ""))

    def _link(self, call: Call, name: str) -> Answer:
        if not self.find(name):
            return as_json("link", [], name=name)
        self.links += 1
        until = int((self.clock() + self.lifetime).timestamp())
        path = self.find(name).address or f"{call.base}/Download/{quote(name)}?k={until}&n={self.links}"
        return as_json("link", [{"SPath": path}], name=name)


class Shufersal(Web):
    "GET /FileObject/UpdateCategory?catID=0..5&storeId=&page=N: 20 rows a page, signed blob addresses that expire."

    CATEGORIES = {"1": "Price", "2": "PriceFull", "3": "Promo", "4": "PromoFull", "5": "Stores"}
    PAGE = 20
    lifetime = timedelta(hours=1)

    def answer(self, call: Call) -> Answer:
        if call.path == "/FileObject/UpdateCategory":
            return self._list(call)
        if call.path.startswith("/blob/"):
            return self._blob(call)
        return missing("list")

    def _address(self, base: str, file: File) -> str:
        until = f"{self.clock() + self.lifetime:%Y-%m-%dT%H:%M:%SZ}"
        name = file.name if file.name.endswith(".gz") else file.name + ".gz"
        sig = quote(_sign("blob", name, until), safe="")
        return f"{base}/blob/{file.kind.lower()}/{quote(name)}?sv=2014-02-14&sr=b&sig={sig}&se={quote(until, safe='')}&sp=r"

    def _list(self, call: Call) -> Answer:
        kind = self.CATEGORIES.get(call.query.get("catID", "0"))
        store = call.query.get("storeId") or "0"
        files = [f for f in self.files() if kind in (None, f.kind)]
        files = [f for f in files if store == "0" or int(f.store or 0) == int(store)]
        last, page = max(1, -(-len(files) // self.PAGE)), _page(call, "page")
        rows = [
            [
                _link(f.address or self._address(call.base, f), "לחץ להורדה"),
                f"{f.local.month}/{f.local.day}/{f.local.year} {f.local.hour % 12 or 12}:{f.local:%M:%S %p}",
                _kilobytes(f),
                "GZ",
                f.kind.lower(),
                f"{f.store} - סניף",
                escape(f.name.removesuffix(".gz")),
                str(place),
            ]
            for place, f in enumerate(files[(page - 1) * self.PAGE : page * self.PAGE], 1)
        ]
        where = f"/FileObject/UpdateCategory?catID={call.query.get('catID', '0')}&amp;storeId={store}&amp;page="
        pages = "".join(f'<a href="{where}{n}">{n}</a>' for n in range(1, min(last, 5) + 1) if n != page)
        foot = f"<tfoot><tr><td colspan='8'>{pages}" + (f'<a href="{where}{last}">&gt;&gt;</a>' if page < last else "")
        head = ["", "זמן עדכון", "גודל", "סוג קובץ", "קטגוריה", "סניף", "שם", "#"]
        return html("list", _table(head, rows, foot + "</td></tr></tfoot>"), name=f"{kind or 'all'}:{page}")

    def _blob(self, call: Call) -> Answer:
        name, until = call.path.rpartition("/")[2], call.query.get("se", "")
        file = self.find(name) or self.find(name.removesuffix(".gz"))
        ok = hmac.compare_digest(_sign("blob", name, until), call.query.get("sig", ""))
        if not ok or until < f"{self.clock():%Y-%m-%dT%H:%M:%SZ}":
            text = "<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>"
            return Answer("file", text.encode(), "application/xml", 403, name=name)
        return gives(file, name)


class Laib(Web):
    "GET /webapi/api/getfiles?edi=CHAIN, GET /webapi/FIRST-CHAIN/NAME; [] from midnight to eight, some also on Saturday."

    def __init__(self, *shelves: Shelf, saturday: tuple[str, ...] = (), **options):
        super().__init__(*shelves, **options)
        self.resting = saturday  # chain ids that list nothing on Saturday

    def answer(self, call: Call) -> Answer:
        if call.path == "/webapi/api/getfiles":
            return self._list(call)
        if call.path == "/webapi/api/getbranches":
            return as_json("list", [{"number": int(f.store or 0)} for f in self.files()])
        found = re.fullmatch(r"/webapi/(\d+)/(.+)", call.path)
        if not found:
            return missing("list")
        shelf = next((s for s in self.shelves if s.chain_id == found[1]), None)  # the first id only
        return gives(shelf and shelf.find(found[2], self.turns.get(found[2], 0)), found[2])

    def _list(self, call: Call) -> Answer:
        edi, now = call.query.get("edi", ""), self.clock().astimezone(ISRAEL)
        shelf = next((s for s in self.shelves if edi in (s.chain_id, *s.other_ids)), None)
        rests = now.hour < 8 or (now.weekday() == 5 and edi in self.resting)
        files = [] if shelf is None or rests else [f for f in shelf.files if edi in f.name]
        if branch := call.query.get("branchNumber"):
            files = [f for f in files if int(f.store or 0) == int(branch)]
        rows = [
            dict(
                fileName=f.name,
                fileSize=_kilobytes(f),
                fileDate=f"{f.local:%Y-%m-%d %H:%M:%S}",
                fileType=f.kind.lower(),
            )
            for f in files
        ]
        return as_json("list", rows, name=edi, chain_id=edi)


class PublishPrice(Web):
    "GET /?p=./yyyymmdd with the list as JSON in the last but one script; GET /PATH/NAME."

    def answer(self, call: Call) -> Answer:
        if call.path == "/":
            return self._list(call)
        found = re.fullmatch(r"/(\d{8})/(.+)", call.path)
        return gives(self.find(found[2]), found[2]) if found else missing()

    def _list(self, call: Call) -> Answer:
        path = call.query.get("p", "").removeprefix("./") or f"{self.today:%Y%m%d}"
        day = _date(path, "%Y%m%d")
        rows = [dict(name=f.name, size=f.size, modified=f"{f.local:%H:%M %d-%m-%Y}") for f in self.files(day)]
        data = json.dumps(rows, ensure_ascii=False)
        text = (
            "<html><head><script>const lang = 'he';</script></head><body><div id='files'></div>"
            f"<script>\n const path = '{path}';\n const files = {data};\n const shown = files.filter(f => f.size);\n</script>"
            "<script>document.title = 'x';</script></body></html>"
        )
        return html("list", text, name=path)


class SuperPharm(Web):
    "GET /?Date-equals=dd/mm/yyyy&Category-equals=KIND&page=N: td[2] name, td[3] m/d/Y H:M:S, td[6]/a Download/*.gz."

    PAGE = 5
    clamps = False  # a page beyond the last shows the last one again

    def answer(self, call: Call) -> Answer:
        if call.path == "/":
            return self._list(call)
        if call.path.startswith("/Download/"):
            name = call.path.removeprefix("/Download/")
            return gives(self.find(name), name)
        return missing()

    def _list(self, call: Call) -> Answer:
        kind = call.query.get("Category-equals", "")
        day = _date(call.query.get("Date-equals", ""), "%d/%m/%Y")
        files = [f for f in self.files(day) if kind in ("", f.kind)] if kind != "Promo" else []
        last, page = max(1, -(-len(files) // self.PAGE)), _page(call, "page")
        page = min(page, last) if self.clamps else page
        rows = [
            [
                str(place),
                escape(f.name),
                f"{f.local.month}/{f.local.day}/{f.local:%Y %H:%M:%S}",
                f.kind,
                f"{f.store} סניף",
                _link(f.address or f"Download/{quote(f.name)}"),
            ]
            for place, f in enumerate(files[(page - 1) * self.PAGE : page * self.PAGE], 1)
        ]
        pages = "".join(f'<button data-page="{n}">{n}</button>' for n in range(1, last + 1))
        foot = f"<tfoot><tr><td colspan='6'><div class='mvc-grid-pager'>{pages}</div></td></tr></tfoot>"
        return html("list", _table(["#", "שם", "תאריך", "קטגוריה", "סניף", ""], rows, foot), name=f"{kind}:{page}")


class HaziHinam(Web):
    "GET ?d=yyyy-mm-dd&t={1 price,2 promo,3 stores,null}&f=null&p=N: td[1] time, td[3] name, td[5] KB, td[6]/a."

    PAGE = 15
    TYPES = {"1": ("Price", "PriceFull"), "2": ("Promo", "PromoFull"), "3": ("Stores",)}

    def answer(self, call: Call) -> Answer:
        if call.path.rstrip("/") in ("", "/Prices"):
            return self._list(call)
        if call.path.startswith("/files/"):
            name = call.path.removeprefix("/files/")
            return gives(self.find(name), name)
        return missing()

    def _found(self, call: Call) -> list[File]:
        day, kinds = _date(call.query.get("d", ""), "%Y-%m-%d"), self.TYPES.get(call.query.get("t", ""))
        return [f for f in self.files(day) if day and (kinds is None or f.kind in kinds)]

    def _row(self, call: Call, f: File) -> list[str]:
        link = _link(f.address or f"{call.base}/files/{quote(f.name)}")
        time = f"{f.local:%d-%m-%Y %H:%M}"
        return [time, f"{f.store} סניף", escape(f.name), f.kind, f"{f.size / 1024:.2f}", link]

    def _list(self, call: Call) -> Answer:
        files = self._found(call)
        last, page = max(1, -(-len(files) // self.PAGE)), _page(call, "p")
        rows = [self._row(call, f) for f in files[(page - 1) * self.PAGE : page * self.PAGE]]
        asked = "&amp;".join(f"{key}={escape(call.query.get(key, ''))}" for key in ("d", "t", "f"))
        pages = "".join(f'<li><a href="?{asked}&amp;p={n}">{n}</a></li>' for n in range(1, last + 1))
        head = ["", "סניף", "קובץ", "סוג", "גודל", "הורדה"]
        foot = f"<tfoot><tr><td colspan='7'><ul class='pagination'>{pages}</ul></td></tr></tfoot>"
        return html("list", _table(head, rows, foot), name=f"{call.query.get('d')}:{page}")


class CityMarket(HaziHinam):
    "GET ?d=yyyy-mm-dd&s=<store zfill3>&t={1,2,3}&f={0,1 full}&p=N: td[3] name, td[6] KB, td[7]/a."

    def _found(self, call: Call) -> list[File]:
        store, full = call.query.get("s", ""), call.query.get("f", "")
        files = [f for f in super()._found(call) if store in ("", "null") or f.store.zfill(3) == store]
        return [f for f in files if full not in ("0", "1") or f.kind.endswith("Full") == (full == "1")]

    def _row(self, call: Call, f: File) -> list[str]:
        link, time = _link(f.address or f"/files/{quote(f.name)}"), f"{f.local:%d/%m/%Y %H:%M}"
        return [f.store.zfill(3), "סניף", escape(f.name), f.kind, time, f"{f.size / 1024:.2f}", link]


class Netiv(Web):
    "GET ?Date=yyyy-mm-dd[&StoreNumber=], three days back; a browser's User-Agent or a block page with status 200."

    def answer(self, call: Call) -> Answer:
        what = "file" if call.path.startswith("/files/") else "list"
        name = call.path.removeprefix("/files/") if what == "file" else ""
        if "Mozilla/5.0" not in call.headers.get("user-agent", ""):
            return html(what, BLOCK_PAGE, name=name)
        if what == "file":
            return gives(self.find(name), name)
        return self._list(call) if call.path == "/" else missing()

    def _list(self, call: Call) -> Answer:
        day, store = _date(call.query.get("Date", ""), "%Y-%m-%d") or self.today, call.query.get("StoreNumber", "")
        files = self.files(day) if self.today - timedelta(3) <= day <= self.today else []
        files = [f for f in files if not store or int(f.store or 0) == int(store)]
        rows = [
            [
                escape(f.name),
                f.kind,
                f.store,
                "נתיב",
                f"{f.local:%d/%m/%Y %H:%M}",
                _link(f.address or f"/files/{quote(f.name)}"),
            ]
            for f in files
        ]
        return html("list", _table(["שם", "סוג", "סניף", "רשת", "תאריך", ""], rows), name=call.query.get("Date", ""))


class Wolt(Web):
    "GET yyyy-mm-dd.html for ten days; <li><a href=download/NAME>."

    def answer(self, call: Call) -> Answer:
        if found := re.fullmatch(r"/(\d{4}-\d\d-\d\d)\.html", call.path):
            day = _date(found[1], "%Y-%m-%d")
            if not day or not self.today - timedelta(10) <= day <= self.today:
                return missing("list", found[1])
            links = [(f.address or f"download/{quote(f.name)}", f.name) for f in self.files(day)]
            rows = "".join(f'<li><a href="{escape(href)}">{escape(name)}</a></li>' for href, name in links)
            return html("list", f"<html><body><h1>{found[1]}</h1><ul>{rows}</ul></body></html>", name=found[1])
        name = call.path.removeprefix("/download/")
        return gives(self.find(name), name)


class MishnatYosef(Web):
    "GET / -> [{name, url, date Y-m-d H:M:S}]."

    def answer(self, call: Call) -> Answer:
        if call.path == "/":
            rows = [
                dict(
                    name=f.name,
                    url=f.address or f"{call.base}/get/{quote(f.name)}",
                    date=f"{f.local:%Y-%m-%d %H:%M:%S}",
                )
                for f in self.files()
            ]
            return as_json("list", rows)
        name = call.path.removeprefix("/get/")
        return gives(self.find(name), name)


class LaibMatrix(Web):
    "GET /: one HTML table of all chains, told apart by their Hebrew names; td[7] dd/mm/yyyy H:M:S."

    def answer(self, call: Call) -> Answer:
        if call.path != "/":
            name = call.path.rpartition("/")[2]
            return gives(self.find(name), name)
        rows = [
            [
                escape(f.name),
                escape(shelf.name_hebrew),
                f.store,
                f.kind,
                f.name.rpartition(".")[2],
                _kilobytes(f, "{:.2f}"),
                f"{f.local:%d/%m/%Y %H:%M:%S}",
                _link(f"CompetitionRegulationsFiles/latest/{shelf.chain_id}/{quote(f.name)}"),
            ]
            for shelf in self.shelves
            for f in shelf.files
        ]
        head = ["שם קובץ", "רשת", "סניף", "סוג", "סיומת", "גודל", "תאריך", "הורדה"]
        return html("list", _table(head, rows))


ENGINES: dict[str, type[Portal]] = dict(
    cerberus=CerberusWeb, binaprojects=Bina, shufersal=Shufersal, laibcatalog=Laib, publishprice=PublishPrice,
    superpharm=SuperPharm, hazi_hinam=HaziHinam, city_market=CityMarket, netiv=Netiv, wolt=Wolt,
    mishnatyosef=MishnatYosef, laibmatrix=LaibMatrix,
)  # fmt: skip
