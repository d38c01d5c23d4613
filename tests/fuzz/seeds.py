"""Seeds for the fuzzer: small files in every layout of the sample market, `python -m tests.fuzz.seeds FOLDER`."""

import random
import sys
from datetime import date, datetime
from pathlib import Path

from grocery.sample.layouts import (
    LAYOUTS,
    fill_record,
    item_facts,
    name_file,
    pack_bytes,
    price_record,
    promotion_records,
    write_list,
    write_stores,
)

IDS = {"chain": "7290000000001", "sub": "1", "store": "001", "check": "7"}


def _item(n: int) -> dict:
    return {
        "item_code": str(7290000000000 + n),
        "item_name": f"חלב {n}%",
        "brand": "מותג",
        "quantity": 1000.0,
        "unit": "ml",
        "pack": 1,
        "is_weighed": n % 3 == 0,
    }


def _promotion(n: int) -> dict:
    terms = {
        "meaning": ["price", "n_for_price", "percent", "second_unit_price", "gift", "min_basket"][n % 6],
        "min_qty": 2,
        "price_ils": 10.0,
        "percent": 20.0,
        "min_purchase_ils": 50.0,
    }
    own = {
        "chain_id": IDS["chain"],
        "store_id": "001",
        "promotion_id": str(100 + n),
        "item_codes": ["7290000000001", "7290000000002"],
        "club_only": n % 2 == 0,
    }
    return (
        terms
        | own
        | {
            "starts_on": date(2026, 3, 1),
            "ends_on": date(2026, 3, 31),
            "updated_on": date(2026, 2, 28),
            "description": "2 ב-10",
            "weekdays": None,
        }
    )


def _stores() -> list[dict]:
    store = {
        "chain_id": IDS["chain"],
        "sub_chain_id": "1",
        "chain_name": "רשת",
        "store_name": "מרכז",
        "address": "הרצל 5",
        "city": "חיפה",
        "city_code": 4000,
        "latitude": 32.8,
        "longitude": 35.0,
    }
    return [store | {"store_id": f"{n:03}"} for n in (1, 2)]


def make_texts(layout_name: str) -> dict[str, str]:
    "Write one document of each kind."
    layout = LAYOUTS[layout_name]
    records = [
        fill_record(
            price_record(item_facts(_item(n), n, layout), layout),
            "2026-03-01 06:00",
            6.9 + n,
            1000,
            layout,
            "2026-02-28 12:00",
        )
        for n in range(3)
    ]
    texts = {
        "PriceFull": write_list(records, layout.price_list, layout, IDS),
        "Stores": write_stores(_stores(), layout, date(2026, 3, 1)),
    }
    promotions = []
    for n in range(6):
        promotions += promotion_records(_promotion(n), layout)
    return texts | {"PromoFull": write_list(promotions, layout.promo_list, layout, IDS)}


def main(folder: Path) -> None:
    for target in ("raw", "rawdiff", "feed", "diff", "names", "text"):
        (folder / target).mkdir(parents=True, exist_ok=True)
    for name, layout in LAYOUTS.items():
        for kind, text in make_texts(name).items():
            for packing in ("plain", "gzip", "zip"):
                data = pack_bytes(text, layout.encoding, packing)
                for target, tail in (("raw", b"\0"), ("rawdiff", b"\7\3\2\1\0\1"), ("text", b"\7\3\1")):
                    (folder / target / f"{name}-{kind}-{packing}").write_bytes(data + tail)
            file_name = name_file(kind, name, "7290000000001", "1", "001", datetime(2026, 3, 1, 3, 41))
            (folder / "names" / f"{name}-{kind}").write_text(file_name)
    numbers = random.Random(7)
    for n in range(60):
        for target in ("feed", "diff"):
            (folder / target / f"{n}").write_bytes(numbers.randbytes(numbers.choice([40, 200, 600])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
