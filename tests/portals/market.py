"Feed files with real-looking content, for any chain id: the sample market's files under other chains' names."

import gzip
import zipfile
from dataclasses import dataclass
from datetime import date, datetime, time
from io import BytesIO
from pathlib import Path

from grocery.sample.layouts import name_file, pack_bytes
from grocery.sample.market import make_sample_market, read_truth

SAMPLES = {  # layout -> the sample chain that writes it on the last day
    "cerberus": "shukdon",
    "unified": "merkolit",
    "bina": "salsalon",
    "laib": "hatzeron",
    "superpharm": "farmlon",
}


@dataclass(frozen=True)
class Goods:
    "One feed file without a chain."

    kind: str
    layout: str
    sub_chain_id: str
    store_id: str  # "" in a Stores file
    published_at: time  # on Israel's clock
    data: bytes
    old_id: str  # the chain id inside
    records: int

    def text(self) -> bytes:
        "The document, unpacked."
        if self.data[:2] == b"PK":
            with zipfile.ZipFile(BytesIO(self.data)) as archive:
                return archive.read(archive.namelist()[0])
        return gzip.decompress(self.data) if self.data[:2] == b"\x1f\x8b" else self.data

    def for_chain(self, chain_id: str, day: date, plain: bool = False) -> tuple[str, bytes]:
        "The file's name and bytes as another chain would publish it on a day."
        moment = datetime.combine(day, self.published_at)
        name = name_file(self.kind, self.layout, chain_id, self.sub_chain_id, self.store_id, moment)
        name = name.replace("--", "-000-")
        text = self.text()
        for codec in ("ascii", "utf-16-le"):
            text = text.replace(self.old_id.encode(codec), chain_id.encode(codec))
        if plain or name.endswith(".xml"):
            return name.removesuffix(".gz").removesuffix(".xml") + ".xml", text
        return name, gzip.compress(text, compresslevel=1, mtime=0)


def make_goods(
    folder: Path,  # for the market; new or empty
    seed: int = 7,  # another seed has other stores
    stores: int = 1,
) -> dict[str, list[Goods]]:  # layout -> one day's files of each store: Stores, PriceFull, Price, PromoFull, Promo
    "Make a small market and take its last day's files, and the Stores file of the day before."
    last = date(2026, 3, 24)
    make_sample_market(folder, seed=seed, days=2, stores_per_chain=stores, products=30, end_day=last)
    files = read_truth(folder, "files")
    found: dict[str, list[Goods]] = {}
    for layout, slug in SAMPLES.items():
        rows = files[files["path"].str.startswith(slug + "/")].to_dict("records")
        for row in rows:
            moment = row["published_at"].tz_convert("Asia/Jerusalem")
            if moment.date() != last and row["kind"] != "Stores":
                continue
            data = (folder / "feeds" / row["path"]).read_bytes()
            facts = (row["kind"], layout, "1", row["store_id"] or "", moment.time())
            found.setdefault(layout, []).append(Goods(*facts, data, row["chain_id"], row["records"]))
    return found


def big_feed(
    chain_id: str,
    size: int = 600_000,  # about so many bytes when packed
    salt: int = 1,  # other bytes of the same length
) -> bytes:  # gzip
    "A PriceFull that takes a while to arrive: its items are few, its comment is long and does not compress."
    import random

    noise = random.Random(salt).randbytes(size).hex().upper()
    item = "<Item><ItemCode>7290000000015</ItemCode><ItemName>חלב</ItemName><ItemPrice>5.90</ItemPrice></Item>"
    head = f"<Root><ChainId>{chain_id}</ChainId><SubChainId>1</SubChainId><StoreId>1</StoreId>"
    return pack_bytes(f"{head}<Items>{item}</Items><!-- {noise} --></Root>", "utf-8", "gzip")
