"""What is published from the lake, and the record of publishing."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001_market"
down_revision = None
branch_labels = None
depends_on = None

MONEY = sa.Numeric(12, 4)
INSTANT = sa.DateTime(timezone=True)
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    "Make the published tables."
    op.create_table(
        "products",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name_hebrew", sa.Text()),
        sa.Column("name_english", sa.Text()),
        sa.Column("barcode", sa.Text()),
        sa.Column("brand", sa.Text()),
        sa.Column("category", sa.Text()),
        sa.Column("category_confidence", sa.Double()),
        sa.Column("quantity", sa.Double()),
        sa.Column("unit", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_products_barcode", "products", ["barcode"])
    op.create_index("ix_products_category", "products", ["category"])
    op.create_table(
        "stores",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("chain_name", sa.Text()),
        sa.Column("sub_chain_id", sa.Text()),
        sa.Column("sub_chain_name", sa.Text()),
        sa.Column("store_name", sa.Text()),
        sa.Column("store_type", sa.Text()),
        sa.Column("city", sa.Text()),
        sa.Column("address", sa.Text()),
        sa.Column("zip_code", sa.Text()),
        sa.Column("latitude", sa.Double()),
        sa.Column("longitude", sa.Double()),
        sa.Column("prices_seen_at", INSTANT),
        sa.PrimaryKeyConstraint("chain_id", "store_id"),
    )
    op.create_index("ix_stores_city", "stores", ["city"])
    op.create_index("ix_stores_place", "stores", ["latitude", "longitude"])
    op.create_table(
        "items",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("item_code", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text()),
        sa.Column("link_method", sa.Text()),
        sa.Column("link_score", sa.Double()),
        sa.Column("gtin", sa.Text()),
        sa.Column("item_name", sa.Text()),
        sa.Column("manufacturer", sa.Text()),
        sa.Column("quantity", sa.Double()),
        sa.Column("unit", sa.Text()),
        sa.Column("pack_count", sa.Double()),
        sa.Column("is_weighted", sa.Boolean()),
        sa.PrimaryKeyConstraint("chain_id", "item_code"),
    )
    op.create_index("ix_items_gtin", "items", ["gtin"])
    op.create_index("ix_items_product_id", "items", ["product_id"])
    op.create_table(
        "prices",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_code", sa.Text(), nullable=False),
        sa.Column("valid_from", INSTANT, nullable=False),
        sa.Column("valid_to", INSTANT),
        sa.Column("price_ils", MONEY, nullable=False),
        sa.Column("allow_discount", sa.Boolean()),
        sa.PrimaryKeyConstraint("chain_id", "store_id", "item_code", "valid_from"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_prices_ended",
        "prices",
        ["valid_to"],
        postgresql_where=sa.text("valid_to IS NOT NULL"),
        sqlite_where=sa.text("valid_to IS NOT NULL"),
    )
    op.create_index("ix_prices_history", "prices", ["item_code", "chain_id", "store_id", "valid_from"])
    op.create_index(
        "ix_prices_now",
        "prices",
        ["item_code", "price_ils"],
        postgresql_where=sa.text("valid_to IS NULL"),
        sqlite_where=sa.text("valid_to IS NULL"),
    )
    op.create_table(
        "promotions",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("promotion_id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("starts_at", INSTANT),
        sa.Column("ends_at", INSTANT),
        sa.Column("reward_type", sa.Text()),
        sa.Column("discount_type", sa.Text()),
        sa.Column("min_qty", sa.Double()),
        sa.Column("max_qty", sa.Double()),
        sa.Column("discounted_price_ils", MONEY),
        sa.Column("discounted_unit_price_ils", MONEY),
        sa.Column("discount_rate", sa.Double()),
        sa.Column("min_purchase_ils", MONEY),
        sa.Column("club_id", sa.Text()),
        sa.Column("is_coupon", sa.Boolean()),
        sa.Column("is_gift", sa.Boolean()),
        sa.Column("is_weighted", sa.Boolean()),
        sa.Column("allow_multiple", sa.Boolean()),
        sa.Column("redemption_limit", sa.Double()),
        sa.Column("weekdays", sa.Text()),
        sa.Column("remarks", sa.Text()),
        sa.Column("last_seen_at", INSTANT),
        sa.PrimaryKeyConstraint("chain_id", "store_id", "promotion_id"),
    )
    op.create_index("ix_promotions_ends_at", "promotions", ["ends_at"])
    op.create_table(
        "promotion_items",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("promotion_id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("item_code", sa.Text(), nullable=False),
        sa.Column("item_type", sa.Text()),
        sa.Column("is_gift", sa.Boolean()),
        sa.Column("reward_type", sa.Text()),
        sa.Column("min_qty", sa.Double()),
        sa.Column("max_qty", sa.Double()),
        sa.Column("discounted_price_ils", MONEY),
        sa.Column("discount_rate", sa.Double()),
        sa.PrimaryKeyConstraint("chain_id", "store_id", "promotion_id", "group_id", "item_code"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_promotion_items_item", "promotion_items", ["item_code", "chain_id", "store_id"])
    op.create_table(
        "publications",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("published_at", INSTANT, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("lake", sa.Text(), nullable=False),
        sa.Column("lake_version", BIG, nullable=False),
        sa.Column("lake_tables", JSON, nullable=False),
        sa.Column("days", BIG, nullable=False),
        sa.Column("newest_at", INSTANT),
        sa.Column("since", INSTANT),
        sa.Column("rows", JSON, nullable=False),
        sa.Column("changed", JSON, nullable=False),
        sa.Column("left_out", JSON, nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    "Drop them; the lake has it all."
    op.drop_table("publications")
    op.drop_table("promotion_items")
    op.drop_table("promotions")
    op.drop_table("prices")
    op.drop_table("items")
    op.drop_table("stores")
    op.drop_table("products")
