"""Why a video or a clip is not used."""


class Rejected(Exception):
    """Ends the work on a video or a clip.

    Attributes:
        stage: Where in the preparation: ``source`` (before it is read), ``read``, ``sound``, ``faces``, ``track`` or
            ``crop``.
        reason: ``kind: details``.
        thumbnail: A small JPEG that shows what it is about; may be empty.
    """

    def __init__(self, stage: str, reason: str, thumbnail: bytes = b"") -> None:
        super().__init__(reason)
        self.stage, self.reason, self.thumbnail = stage, reason, thumbnail
