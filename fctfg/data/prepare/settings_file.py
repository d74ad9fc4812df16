"""``dataset.json``: the settings that a data set is made with, from the first video on."""

import json
from pathlib import Path

from fctfg.atomic import write_json
from fctfg.data.ledger import FOLDER
from fctfg.data.manifest import FILE_NAME, FORMAT
from fctfg.data.pack import LOOSE
from fctfg.data.prepare.settings import Settings
from fctfg.data.scores.sync_choice import KEY
from fctfg.data.shards import FOLDER as SHARDS
from fctfg.errors import FctfgError

SETTINGS = "dataset.json"


def check_settings(out: Path, settings: Settings) -> None:
    """Write the settings of a new data set, or compare them with those that an old one was made with.

    Raises:
        FctfgError: they differ, or the folder holds a data set of another version.
    """
    path = out / SETTINGS
    if not path.is_file():
        taken = [name for name in (FILE_NAME, LOOSE, SHARDS, FOLDER) if (out / name).exists()]
        if taken:
            raise FctfgError(f"{out} holds something else already ({taken[0]}); choose another folder")
        write_json(path, {"format": FORMAT, "settings": settings.header()})
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{path} is damaged; choose another folder") from error
    now = settings.header()
    if before.get("sync_expert", "") != settings.sync_expert:
        raise FctfgError(
            f"{out} was prepared with {_named(before.get('sync_expert', ''))}, now {_named(settings.sync_expert)}, and "
            f"their scores cannot be compared; use the same one ({KEY}), or choose another folder"
        )
    other = [f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in now if before.get(name) != now[name]]
    if other:
        raise FctfgError(f"{out} was prepared with other settings ({'; '.join(other)}); choose another folder")


def _named(sync_expert: str) -> str:
    return f"a sync expert of your own (sha256 {sync_expert})" if sync_expert else "the sync expert in the package"
