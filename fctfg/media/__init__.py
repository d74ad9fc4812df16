"""Reading and writing pictures, sound and video (PyAV; no ffmpeg program is needed).

One clock: time 0 of a file is the moment its first picture is shown. Frames are picked by time stamps, never by
counting, and sound is cut or padded so that sample n belongs to time n / sample_rate on that clock.
"""

from fctfg.media.audio import read_audio
from fctfg.media.image import read_image, write_image
from fctfg.media.probe import MediaInfo, probe
from fctfg.media.units import FPS, SAMPLE_RATE, Pixels, Samples
from fctfg.media.video import read_frames
from fctfg.media.write import write_video

__all__ = [
    "FPS",
    "SAMPLE_RATE",
    "MediaInfo",
    "Pixels",
    "Samples",
    "probe",
    "read_audio",
    "read_frames",
    "read_image",
    "write_image",
    "write_video",
]
