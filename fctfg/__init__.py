"""Train and run fully controllable talking faces (FC-TFG)."""

__version__ = "0.1.0"
