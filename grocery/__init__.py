"""Open price intelligence for groceries: raw supermarket feeds in, evaluated prices, products and forecasts out.

The one page of this package that is written by hand: the version, and the doors a person comes in by. Every other
module is made from the notebook of the same name in nbs/lib. Importing this page imports nothing else.
"""

__version__ = "0.1.0"

_DOORS = {
    "open_lake": "grocery.store.lake",
    "fetch": "grocery.feeds.fetch",
    "ingest": "grocery.store.ingest",
    "check_file": "grocery.feeds.check",
    "make_sample_market": "grocery.sample.market",
    "run_all": "grocery.run",
    "run_pipeline": "grocery.run",
}
__all__ = sorted(_DOORS)


def __getattr__(name: str):
    "Import a door's module when the door is first used."
    if name not in _DOORS:
        raise AttributeError(f"grocery has no {name!r}; at its door stand: {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
