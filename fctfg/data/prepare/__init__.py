"""Raw videos to a clip data set; see `prepare`."""

from fctfg.data.prepare.run import prepare
from fctfg.data.prepare.summary import Summary

__all__ = ["Summary", "prepare"]
