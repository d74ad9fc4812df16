"""Raw videos to a clip data set; see `prepare`."""

from fctfg.data.prepare.run import Summary, prepare

__all__ = ["Summary", "prepare"]
