"""The ranges of settings."""

import math


def check_range(low: float, high: float = math.inf, group: str = "model.init_args", **settings: float | None) -> None:
    """Refuse settings that are out of range.

    Args:
        low: smallest value.
        high: largest value; infinity and NaN are refused always.
        group: where the settings stand.
        settings: values by name; None passes.

    Raises:
        ValueError: names the first such setting, its value and the range.
    """
    wanted = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    for name, value in settings.items():
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise ValueError(f"{group}.{name} is {value}, but must be {wanted}")
