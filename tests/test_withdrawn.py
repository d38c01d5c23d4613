"""A promotion that its store's next complete list does not name is withdrawn, whatever its own dates say."""

import random
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from grocery.serve import database as db
from grocery.serve.publish import publish
from grocery.store.ingest import ingest
from grocery.store.lake import open_lake
from grocery.store.promotions import best_price, price_promotions, read_promotion_lines

CHAIN = "7290000000001"
LIST = "<Root><ChainId>{chain}</ChainId><StoreId>{store}</StoreId><Promotions>{body}</Promotions></Root>"
ONE = (
    "<Promotion><PromotionId>{0}</PromotionId><PromotionDescription>חטיף ב-5</PromotionDescription><PromotionStartDate>2026-01-01</PromotionStartDate>"
    "<PromotionEndDate>2030-01-01</PromotionEndDate><RewardType>1</RewardType><MinQty>1</MinQty><DiscountedPrice>5</DiscountedPrice><Clubs><ClubId>0</ClubId></Clubs>"
    "<PromotionItems><Item><ItemCode>7290000000015</ItemCode></Item></PromotionItems></Promotion>"
)
PRICES = (
    f"<Root><ChainId>{CHAIN}</ChainId><StoreId>001</StoreId><Items><Item><ItemCode>7290000000015</ItemCode><ItemName>חטיף</ItemName>"
    "<ItemPrice>10</ItemPrice></Item></Items></Root>"
)
HOURS = ("0600", "1200", "1800")


def write(folder, store, day, hour, names, full=True, cut=False):
    kind = "PromoFull" if full else "Promo"
    path = folder / f"{kind}{CHAIN}-{store:03}-202601{day:02}{HOURS[hour]}.xml"
    text = LIST.format(chain=CHAIN, store=f"{store:03}", body="".join(map(ONE.format, names)))
    path.write_text(text[: -len("</Promotions></Root>") - 9] if cut else text)
    return path


def moment(day, hour):
    return datetime(2026, 1, day, int(HOURS[hour][:2]), tzinfo=UTC) - timedelta(hours=2)  # Israel's winter time


def told(lake):
    rows = lake.sql("SELECT store_id, promotion_id, withdrawn_at FROM promotions").to_pylist()
    return {(r["store_id"], r["promotion_id"]): r["withdrawn_at"] for r in rows}


def truth(files, until):
    "The same, told slowly."
    found = {}
    for store in {f[0] for f in files}:
        own = sorted((moment(day, hour), full, names) for s, day, hour, names, full in files if s == store)
        own = [f for f in own if f[0] <= until]
        for name in {n for f in own for n in f[2]}:
            last = max(at for at, _, names in own if name in names)
            found[f"{store:03}", name] = min((at for at, full, _ in own if full and at > last), default=None)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_and_at_any_moment(seed, tmp_path):
    chance, files, paths = random.Random(seed), [], []
    for store in (1, 2):
        for day in range(5, 10):
            for hour in range(3):
                if chance.random() < 0.6:
                    full = chance.random() < 0.6
                    names = chance.sample("123456", chance.randint(0 if full else 1, 4))
                    files.append((store, day, hour, names, full))
                    paths.append(write(tmp_path, store, day, hour, names, full))
    chance.shuffle(paths)
    lake = open_lake(tmp_path / "lake")
    while paths:
        some = [paths.pop() for _ in range(min(len(paths), chance.randint(1, 5)))]
        ingest(some + some[:1], lake, workers=1)
    assert told(lake) == truth(files, moment(28, 0))
    assert any(told(lake).values()) and not all(told(lake).values())
    last = [f for f in files if f[1:3] == max(g[1:3] for g in files if g[0] == f[0])]
    at = min(moment(*f[1:3]) for f in last)  # nobody's newest list is older, so nothing that was seen later stood then
    stood = {k for k, v in told(open_lake(lake.path, as_of=at)).items() if v is None}
    for key, gone in truth(files, at).items():
        assert key not in stood or gone is None or told(lake)[key] is None or told(lake)[key] > at


def test_a_cut_list_withdraws_nothing_and_an_empty_one_everything(tmp_path):
    lake = open_lake(tmp_path / "lake")
    ingest([write(tmp_path, 1, 5, 0, "12"), write(tmp_path, 2, 5, 0, "12")], lake, workers=1)
    ingest([write(tmp_path, 1, 6, 0, "13", cut=True)], lake, workers=1)
    assert set(told(lake).values()) == {None}
    ingest([write(tmp_path, 1, 7, 0, "")], lake, workers=1)
    gone = {k for k, v in told(lake).items() if v == moment(7, 0)}
    assert gone == {k for k in told(lake) if k[0] == "001"} and len(gone) >= 2
    then = open_lake(lake.path, as_of=moment(7, 0) - timedelta(seconds=1))
    assert set(told(then).values()) == {None}
    ingest([write(tmp_path, 1, 8, 0, "1")], lake, workers=1)
    assert told(lake)["001", "1"] is None and told(lake)["001", "2"] == moment(7, 0)


def test_what_is_withdrawn_does_not_apply(tmp_path):
    lake = open_lake(tmp_path / "lake")
    price = tmp_path / f"PriceFull{CHAIN}-001-202601050600.xml"
    price.write_text(PRICES)
    ingest([price, write(tmp_path, 1, 5, 0, "12"), write(tmp_path, 1, 7, 0, "2")], lake, workers=1)
    wanted = {5: {"1": "applies", "2": "applies"}, 7: {"1": "not_now", "2": "applies"}}
    for day, status in wanted.items():
        at = moment(day, 1)
        for place in (lake, open_lake(lake.path, as_of=at)):
            rows = price_promotions(read_promotion_lines(place), at).to_pylist()
            assert {row["promotion_id"]: row["status"] for row in rows} == status
            found = best_price(read_promotion_lines(place, item_code="7290000000015").to_dict("records"), at=at)
            assert (found.status, found.promotion_ils) == ("applies", 5)
    gone = next(row for row in rows if row["promotion_id"] == "1")
    assert "no longer names it" in gone["why"]


def test_what_is_withdrawn_is_not_published(tmp_path):
    lake, address = open_lake(tmp_path / "lake"), str(tmp_path / "x.db")
    price = tmp_path / f"PriceFull{CHAIN}-001-202601050600.xml"
    price.write_text(PRICES)
    ingest([price, write(tmp_path, 1, 5, 0, "12")], lake, workers=1)
    publish(address, lake)
    for day, names in ((6, "2"), (7, "12")):
        ingest([write(tmp_path, 1, day, 0, names)], lake, workers=1)
        publish(address, lake)
        with db.open_database(address).connect() as connection:
            for model in (db.Promotion, db.PromotionItem):
                assert set(connection.scalars(sa.select(model.promotion_id))) == set(names)
