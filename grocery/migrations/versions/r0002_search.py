"""Names that are searched by their trigrams, and products as vectors."""

import sqlalchemy as sa
from alembic import op

revision = "0002_search"
down_revision = "0001_market"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FTS = [
    "CREATE VIRTUAL TABLE search_names_fts USING fts5(text, content='search_names', content_rowid='id', tokenize='trigram')",
    "CREATE TRIGGER search_names_added AFTER INSERT ON search_names BEGIN "
    "INSERT INTO search_names_fts(rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER search_names_removed AFTER DELETE ON search_names BEGIN "
    "INSERT INTO search_names_fts(search_names_fts, rowid, text) VALUES ('delete', old.id, old.text); END",
    "CREATE TRIGGER search_names_changed AFTER UPDATE OF text ON search_names BEGIN "
    "INSERT INTO search_names_fts(search_names_fts, rowid, text) VALUES ('delete', old.id, old.text); "
    "INSERT INTO search_names_fts(rowid, text) VALUES (new.id, new.text); END",
]


class Vector(sa.types.UserDefinedType):
    "pgvector's own type."

    cache_ok = True

    def get_col_spec(self, **_):
        "Write the type as SQL."
        return "vector(256)"


VECTOR = sa.LargeBinary().with_variant(Vector(), "postgresql")


def upgrade() -> None:
    "Make what is searched."
    kind = op.get_bind().dialect.name
    if kind == "postgresql":
        for extension in ("vector", "pg_trgm"):
            op.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    op.create_table(
        "search_names",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain_id", "code", name="uq_search_names_code"),
    )
    op.create_table(
        "product_embeddings",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("embedding", VECTOR, nullable=False),
        sa.PrimaryKeyConstraint("product_id"),
    )
    if kind == "postgresql":
        op.create_index(
            "ix_search_names_text",
            "search_names",
            ["text"],
            postgresql_using="gin",
            postgresql_ops={"text": "gin_trgm_ops"},
        )
        op.create_index(
            "ix_product_embeddings_near",
            "product_embeddings",
            ["embedding"],
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        )
    else:
        for statement in FTS:
            op.execute(statement)


def downgrade() -> None:
    "Drop it; the extensions stay, others may use them."
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_names_fts")
    op.drop_table("product_embeddings")
    op.drop_table("search_names")
