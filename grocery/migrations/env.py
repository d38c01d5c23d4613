"""Alembic's environment: it runs within the transaction of whoever calls (grocery.serve.database.migrate), on their connection."""

from alembic import context

from grocery.serve.database import Base


def is_ours(thing, name, kind, reflected, compare_to) -> bool:
    "Leave out the tables in which SQLite's FTS5 keeps its trigrams, and the indexes that only PostgreSQL can have."
    if kind == "index" and connection.dialect.name != "postgresql":
        return "postgresql_using" not in thing.kwargs
    return not (kind == "table" and name.startswith("search_names_fts"))


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_object=is_ours,
    compare_type=True,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
