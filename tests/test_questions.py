"""The service computes promotions from the database as one does from the lake."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from grocery.sample.market import make_sample_market
from grocery.serve import database as db
from grocery.serve.publish import publish
from grocery.serve.questions import read_offers
from grocery.store.ingest import ingest
from grocery.store.lake import open_lake
from grocery.store.promotions import best_price, price_promotions, read_promotion_lines

CHAIN = "7290027600007"


def plain(row):
    return repr(row | {"group_id": row["group_id"] or None})


def both(lake, address, at, least):
    "Ask lake and database about every item of a store that a promotion names."
    publish(address, lake)
    engine = db.open_database(address)
    with engine.connect() as connection:
        stores = connection.execute(sa.select(db.PromotionItem.chain_id, db.PromotionItem.store_id).distinct()).all()
        asked = 0
        for chain, store in sorted(tuple(s) for s in stores)[:4]:
            own = db.PromotionItem.__table__.c
            codes = sa.select(own.item_code).where(own.chain_id == chain, own.store_id == store)
            codes = sorted(set(connection.scalars(codes)))
            told = price_promotions(read_offers(connection, chain, store, codes), at, {"1"}).to_pylist()
            lines = read_promotion_lines(lake, chain, store)
            lines = lines[lines["item_code"].isin(codes)]
            wanted = price_promotions(lines, at, {"1"}).to_pylist()
            assert sorted(map(plain, told)) == sorted(map(plain, wanted))
            one = read_offers(connection, chain, store, codes[:1])
            assert set(one["item_code"]) == {codes[0]}
            assert best_price(one.to_dict("records"), 2, ["1"], at) == best_price(
                lines[lines["item_code"].eq(codes[0])].to_dict("records"), 2, ["1"], at
            )
            asked += len(told)
    engine.dispose()
    assert asked >= least


def test_the_database_answers_as_the_lake_does(postgres, tmp_path):
    make_sample_market(tmp_path / "in", days=3)
    lake = open_lake(tmp_path / "lake")
    ingest(tmp_path / "in", lake, workers=1)
    at = lake.sql("SELECT max(published_at) AS at FROM store_files")["at"][0].as_py() + timedelta(hours=6)
    for address in (str(tmp_path / "x.db"), postgres):
        both(lake, address, at, 10)


@pytest.mark.realdata
def test_the_database_answers_as_the_lake_does_of_a_real_store(realdata, tmp_path):
    lake = open_lake(tmp_path / "lake")
    names = ("PriceFull7290027600007-001-201505220341.gz", "PromoFull7290027600007-001-201505220341.gz")
    ingest([realdata / "feeds/shufersal" / name for name in names], lake, workers=1)
    both(lake, str(tmp_path / "x.db"), datetime(2015, 5, 22, 12, tzinfo=UTC), 1000)


def test_what_is_not_there_has_no_offers(tmp_path):
    db.migrate(str(tmp_path / "x.db"))
    with db.open_database(str(tmp_path / "x.db")).connect() as connection:
        for codes in ([], ["7290000000015"], ["'; DROP TABLE promotions; --"]):
            assert read_offers(connection, CHAIN, "001", codes).empty
