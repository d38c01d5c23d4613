"What a portal holds, how it misbehaves and what it saw: shelves, faults and visits."

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

from grocery.tables import ISRAEL


@dataclass(frozen=True)
class File:
    "A listed file: the listing may lie about its time and size."

    name: str  # as listed; may hold anything
    data: bytes
    listed_at: datetime  # aware
    listed_size: int | None = None  # bytes the listing says; None: the truth
    chain_id: str = ""  # whose it is, where one portal serves several
    address: str | None = None  # the link a listing gives instead of the right one

    @property
    def size(self) -> int:
        return len(self.data) if self.listed_size is None else self.listed_size

    @property
    def local(self) -> datetime:
        "The listed time on Israel's clock."
        return self.listed_at.astimezone(ISRAEL)

    @property
    def day(self) -> date:
        return self.local.date()

    @property
    def hash(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def kind(self) -> str:
        "What the name says: Price, PriceFull, Promo, PromoFull, Stores."
        name = self.name.lower().removeprefix("null")
        kinds = ("PriceFull", "PromoFull", "Stores", "Price", "Promo")
        return next((kind for kind in kinds if name.startswith(kind.lower())), "other")

    @property
    def store(self) -> str:
        "The part of the name before the date, as portals with a store column show it."
        parts = [part for part in self.name.split(".")[0].split("-")[1:] if part.isdigit() and len(part) < 8]
        return parts[0] if parts else ""


@dataclass
class Shelf:
    "One chain's files on a portal."

    chain_id: str
    files: list[File] = field(default_factory=list)
    name_hebrew: str = "רשת לדוגמה"
    user: str = ""  # where a login is needed
    password: str = ""
    folder: str = "/"  # where the files stand after the login
    other_ids: tuple[str, ...] = ()  # further chain ids in this chain's names

    def put(self, name: str, data: bytes, listed_at: datetime, listed_size: int | None = None, **more) -> File:
        "List a file; a second one under the same name stands beside the first."
        file = File(name, data, listed_at, listed_size, self.chain_id, **more)
        self.files.append(file)
        return file

    def swap(self, name: str, data: bytes, listed_at: datetime | None = None) -> None:
        "Give a name other bytes, and another listed time if there is one."
        at = {"listed_at": listed_at} if listed_at else {}
        self.files = [replace(f, data=data, **at) if f.name == name else f for f in self.files]

    def find(self, name: str, turn: int = 0) -> File | None:
        "The file under a name; of several, the one whose turn it is, the last one from then on."
        found = [file for file in self.files if file.name == name]
        return found[min(turn, len(found) - 1)] if found else None


@dataclass
class Fault:
    """One way to misbehave, `times` times.

    kind: silence (accept, never answer) · stall (`after` bytes, then silence) · reset (`after` bytes, then RST) · status (`status`, `retry_after`)
    · short (full length promised, `after` bytes sent) · unsized (no length, `after` bytes; None: all of them) · giant (a length of a petabyte)
    · endless (no length, no end) · drip (small pieces with `pause` seconds between) · page (status 200 and `page` instead) · cut (an
    answer that ends early and says so) · no_range (the whole file whatever was asked) · wrong_range (206 from another place) · refuse (FTP: the login;
    421 at the door when what is `connect`).
    """

    kind: str
    what: str = "file"  # connect, login, list, link or file
    name: str | None = None  # only this file; None: any
    chain_id: str | None = None  # only this chain; None: any
    times: int | None = 1  # None: for ever
    after: int | None = 0  # bytes that get through first
    status: int = 500
    retry_after: str | None = None
    page: str = ""
    pause: float = 0.01
    reached: threading.Event = field(default_factory=threading.Event)  # set when the fault has struck
    then: Callable[[], Any] | None = None  # called when the fault strikes; this answer is already made
    struck: int = 0


@dataclass(frozen=True)
class Visit:
    "One request, as the portal saw it."

    what: str  # connect, login, list, link or file
    name: str = ""  # file asked for, or what was listed
    start: int = 0  # first byte asked for
    fault: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chain_id: str = ""


class Portal:
    "Shelves, faults and a book of visits; a server of any dialect stands on one."

    def __init__(self, *shelves: Shelf, clock: Callable[[], datetime] | None = None):
        self.shelves = list(shelves)
        self.clock = clock or (lambda: datetime.now(UTC))
        self.faults: list[Fault] = []
        self.visits: list[Visit] = []
        self.turns: dict[str, int] = {}  # name -> times served whole
        self.lock = threading.Condition()
        self.busy = 0  # file transfers in progress
        self.most_busy = 0
        self.etags = True
        self.ranges = True
        self.crowd: int | None = None  # hold file transfers until so many are in progress, or patience ends
        self.patience = 0.7  # seconds

    # --- what is there

    @property
    def shelf(self) -> Shelf:
        "The only shelf, or the first."
        return self.shelves[0]

    def put(self, *arguments, **options) -> File:
        return self.shelf.put(*arguments, **options)

    def files(self, day: date | None = None) -> list[File]:
        return [f for shelf in self.shelves for f in shelf.files if day is None or f.day == day]

    def find(self, name: str, chain_id: str | None = None) -> File | None:
        for shelf in self.shelves:
            if chain_id in (None, shelf.chain_id) and (found := shelf.find(name, self.turns.get(name, 0))):
                return found
        return None

    @property
    def today(self) -> date:
        return self.clock().astimezone(ISRAEL).date()

    # --- what goes wrong

    def fail(self, kind: str, what: str = "file", **options) -> Fault:
        "Plan a fault."
        fault = Fault(kind, what, **options)
        self.faults.append(fault)
        return fault

    def take(self, what: str, name: str = "", chain_id: str = "") -> Fault | None:
        "The fault that strikes this request, counted."
        with self.lock:
            for fault in self.faults:
                fits = fault.what == what and fault.name in (None, name) and fault.chain_id in (None, chain_id)
                if fits and (fault.times is None or fault.struck < fault.times):
                    fault.struck += 1
                    return fault
        return None

    # --- what was seen

    def note(self, visit: Visit) -> None:
        with self.lock:
            self.visits.append(visit)
            self.lock.notify_all()

    def seen(self, what: str = "file", name: str | None = None) -> list[Visit]:
        "The visits of one kind so far."
        with self.lock:
            return [v for v in self.visits if v.what == what and name in (None, v.name)]

    def wait_for(self, count: int, what: str = "file", timeout: float = 10) -> bool:
        "Wait until so many visits of a kind were seen."
        with self.lock:
            return self.lock.wait_for(lambda: sum(v.what == what for v in self.visits) >= count, timeout)

    def enter(self) -> None:
        with self.lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self.lock.notify_all()

    def leave(self) -> None:
        with self.lock:
            self.busy -= 1
            self.lock.notify_all()

    @property
    def crowded(self) -> bool:
        return self.crowd is None or self.most_busy >= self.crowd


def hour(day: date, clock: str = "06:10", zone=ISRAEL) -> datetime:
    "An instant from an Israel day and a clock's face."
    moment = datetime.combine(day, datetime.strptime(clock, "%H:%M").time(), tzinfo=zone)
    return moment.astimezone(UTC)
