"""What `fctfg evaluate` does: which results are measured, how, and how the figures are told."""
