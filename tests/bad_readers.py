"""Readers that break as a stranger's file can break them. Workers import them from here; the file's name says what happens."""

import os
import time
from pathlib import Path

from grocery.feeds.check import write_feed


def read(path, folder, mapping=None) -> dict:
    "Read as grocery does, but raise, hang, die or take memory where the name says so."
    name = Path(path).name
    if "-901-" in name:
        raise ValueError("this file breaks its reader")
    if "-902-" in name:
        time.sleep(600)
    if "-903-" in name:
        os.kill(os.getpid(), 9)
    if "-904-" in name and not (mark := Path(path).parent.parent / "died_once").exists():
        mark.write_text("")
        os.kill(os.getpid(), 9)
    if "-905-" in name:
        raise MemoryError
    return write_feed(path, folder, mapping)


def read_slowly(path, folder, mapping=None) -> dict:
    "Read as grocery does, but take a while."
    time.sleep(0.05)
    return write_feed(path, folder, mapping)
