"""A whole day of every chain in the registry, on servers of every engine, with a few losses planted.

Chains that share a host in life share one here: the chains of the Laib catalogue, and the accounts of Cerberus (behind three doors
instead of one, so that being polite to it takes a third of the time).
"""

import gzip
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from grocery.feeds.chains import Chain, find_chain, read_chains

from . import engines
from .ftps import Ftps
from .market import Goods, make_goods
from .shelf import Portal, Shelf, hour
from .tls import Authority
from .web import BLOCK_PAGE, Street

LAYOUTS = {"ncr": "cerberus", "shufersal": "unified", "unified": "unified", "bina": "bina", "nibit": "laib"}
LAYOUTS |= {"super_pharm": "superpharm"}
PLAIN = ("netiv_hahesed", "mishnat_yosef_1")  # publish .xml
PAGED = {"hazi_hinam": engines.HaziHinam, "city_market": engines.CityMarket}


@dataclass
class Day:
    "What stands, what was published, and what is planted."

    day: date
    bases: dict[str, str] = field(default_factory=dict)  # chain's slug -> address
    portals: dict[str, Portal] = field(default_factory=dict)  # chain's slug -> its portal
    passwords: dict[str, str] = field(default_factory=dict)  # variable -> password
    published: dict[str, list[str]] = field(default_factory=dict)  # slug -> names of sound files of the day
    records: dict[str, int] = field(default_factory=dict)  # sha256 -> records inside
    whole: dict[str, bytes] = field(default_factory=dict)  # name of a file that is published cut -> its bytes
    resting: set[str] = field(default_factory=set)  # sha256 of files of a chain that lists nothing
    servers: list[Street | Ftps] = field(default_factory=list)

    def close(self) -> None:
        for server in self.servers:
            server.close()


def _portal(chain: Chain) -> type[Portal]:
    "The engine that serves a chain; Cerberus by FTPS."
    return Ftps if chain.engine == "cerberus" else PAGED.get(chain.slug) or engines.ENGINES[chain.engine]


def _shelf(chain: Chain, password: str) -> Shelf:
    facts = dict(name_hebrew=chain.name_hebrew, user=chain.login or "", folder=chain.quirks.get("directory", "/"))
    return Shelf(chain.chain_id, other_ids=tuple(chain.other_ids), password=password, **facts)


def _fill(day: Day, chain: Chain, shelf: Shelf, goods: list[Goods]) -> None:
    "Publish a chain's files."
    names = day.published.setdefault(chain.slug, [])
    for one in goods:
        if one.kind not in chain.kinds:
            continue
        name, data = one.for_chain(chain.chain_id, day.day, plain=chain.slug in PLAIN)
        clock = f"{one.published_at:%H:%M}"
        file = shelf.put(name, data, hour(day.day, clock))
        day.records[file.hash] = one.records
        names.append(name)


def open_day(
    folder: Path,  # for certificates, homes and the market
    authority: Authority,
    day: date = date(2026, 3, 24),
) -> Day:
    "Open the portals of all chains of the registry with a day's small files."
    made = Day(day)
    goods, others = make_goods(folder / "market", seed=8), make_goods(folder / "other", seed=9)
    noon = hour(day, "12:00")
    clock, portals = (lambda: noon), {}
    taken: set[str] = set()
    for slug in read_chains()["slug"]:
        chain = find_chain(slug)
        password = f"open-{slug}" if chain.quirks.get("password") == "asked" else ""
        shelf = _shelf(chain, password)
        if password:
            made.passwords[chain.password_env] = password
        layout = LAYOUTS[chain.quirks["layout"].split(",")[0]]
        _fill(made, chain, shelf, (others if chain.chain_id in taken else goods)[layout])
        taken.add(chain.chain_id)
        shared = {"laibcatalog": "laib", "cerberus": f"cerberus {len(made.portals) % 3}"}.get(chain.engine, slug)
        portals.setdefault(shared, _portal(chain)(clock=clock)).shelves.append(shelf)
        made.portals[slug] = portals[shared]
    webs = [portal for portal in portals.values() if not isinstance(portal, Ftps)]
    made.servers.append(Street(len(webs)).open(*webs))
    for place, portal in enumerate(p for p in portals.values() if isinstance(p, Ftps)):
        made.servers.append(portal.open(authority.paper("*.publishedprices.example"), folder / f"home{place}"))
    made.bases = {slug: portal.url for slug, portal in made.portals.items()}
    return made


def shelf_of(day: Day, slug: str) -> Shelf:
    chain = find_chain(slug)
    return next(s for s in day.portals[slug].shelves if s.chain_id == chain.chain_id)


def find_name(day: Day, slug: str, kind: str) -> str:
    "The name of a chain's first file of a kind."
    return next(f.name for f in shelf_of(day, slug).files if f.kind == kind)


def plant(day: Day) -> dict[str, str]:
    "Plant losses and traps that an honest summary must tell; slug -> what is lost or strange there."
    today = day.day
    told = {}

    def lose(slug: str, kind: str, word: str) -> str:
        name = find_name(day, slug, kind)
        day.published[slug].remove(name)
        told[slug] = word
        return name

    name = lose("osher_ad", "PromoFull", "gone")
    day.portals["osher_ad"].fail("status", name=name, status=550, times=None)
    name = lose("carrefour", "PriceFull", "gone")
    day.portals["carrefour"].fail("status", name=name, status=404, times=None)
    day.portals["politzer"].fail("short", name=find_name(day, "politzer", "PromoFull"), after=100)  # passes by itself
    name = lose("keshet", "PriceFull", "short_gzip")
    shelf = shelf_of(day, "keshet")
    day.whole[name] = shelf.find(name).data
    shelf.swap(name, day.whole[name][:-200])
    day.portals["wolt_market"].fail("page", "list", page=BLOCK_PAGE, times=None)
    day.published["wolt_market"] = []
    told["wolt_market"] = "blocked"
    day.resting = {file.hash for file in shelf_of(day, "mahsanei_hashuk").files}
    shelf_of(day, "mahsanei_hashuk").files.clear()
    day.published["mahsanei_hashuk"] = []
    told["mahsanei_hashuk"] = "nothing_listed"
    evil = f"../../PriceFull{find_chain('hazi_hinam').chain_id}-001-{today:%Y%m%d}0610.gz"
    shelf_of(day, "hazi_hinam").put(evil, b"evil", hour(today))
    told["hazi_hinam"] = "bad_name"
    old = f"PriceFull{find_chain('yohananof').chain_id}-001-202405060610.gz"
    shelf_of(day, "yohananof").put(old, gzip.compress(b"<Root/>"), hour(date(2024, 5, 6)))
    told["yohananof"] = "stale"
    shelf = shelf_of(day, "shufersal")
    shelf.files.append(shelf.files[0])
    told["shufersal"] = "listed_twice"
    poison = f"Price{find_chain('good_pharm').chain_id}-999-{today:%Y%m%d}1200.gz"
    shelf_of(day, "good_pharm").put(
        poison, gzip.compress(b"this is no XML at all\n" * 40, mtime=0), hour(today, "12:00")
    )
    told["good_pharm"] = "poison"
    for slug in ("netiv_hahesed", "maayan_2000", "super_pharm"):  # pass by themselves
        day.portals[slug].fail("status", name=find_name(day, slug, "PriceFull"), status=503, retry_after="0")
    day.portals["city_market"].fail("reset", name=find_name(day, "city_market", "PriceFull"), after=300)
    return told


def mend(day: Day) -> None:
    "Let the portals be well again: what failed is there, and the cut file is published whole."
    for portal in day.portals.values():
        portal.faults.clear()
    for name, data in day.whole.items():
        shelf_of(day, "keshet").swap(name, data)
