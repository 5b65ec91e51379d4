"""Autoscaling by a forecast of arrivals."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, expm1
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want
from clustersim.units import DAY_S, PerSecond, PositiveSeconds


class Forecast:
    """Holt's damped trend on what is left of a rate when the shape of a day is divided out of it.

        level   l' = a y / s + (1 - a) (l + f b)          a = 1 - exp(-interval / level_s)
        trend   b' = c (l' - l) + (1 - c) f b             c = 1 - exp(-interval / trend_s)
        k intervals ahead  (l + (f + f^2 + ... + f^k) b) s(then)

    Sources: Gardner and McKenzie, Management Science 31 (1985), damped trend; Winters, Management Science 6 (1960),
    multiplicative seasons. s, by the time of day, is 1 until a whole day has been seen; then each bin's mean rate over
    the mean of the day, later days mixed in by `season_gain`.
    """

    def __init__(self, settings: Predictive) -> None:
        self.settings = settings
        interval = settings.interval_s
        self.gain = -expm1(-interval / settings.level_s)
        self.trend_gain = -expm1(-interval / settings.trend_s)
        self.num_bins = round(settings.season_s / settings.season_bin_s)
        self.season: list[float] = []
        self.level: float | None = None
        self.trend = 0.0
        self._day = 0
        self._sums = [[0.0, 0] for _ in range(self.num_bins)]

    def shape(self, time_s: float) -> float:
        """Return the rate at a time of day over the day's mean; 1 until that is known."""
        return self.season[self._bin(time_s)] if self.season else 1.0

    def _bin(self, time_s: float) -> int:
        day = self.settings.season_s
        return min(self.num_bins - 1, int((time_s % day) / day * self.num_bins))

    def saw(self, time_s: float, rate: float) -> None:
        """Take in the rate of the interval that ends at a time."""
        middle = time_s - self.settings.interval_s / 2
        self._learn(middle, rate)
        flat = rate / self.shape(middle)
        if self.level is None:
            self.level = flat
            return
        before, damping = self.level, self.settings.damping
        self.level = self.gain * flat + (1 - self.gain) * (before + damping * self.trend)
        self.trend = self.trend_gain * (self.level - before) + (1 - self.trend_gain) * damping * self.trend

    def _learn(self, time_s: float, rate: float) -> None:
        day = int(time_s // self.settings.season_s)
        if day > self._day:
            self._day = day
            self._end_day()
        entry = self._sums[self._bin(time_s)]
        entry[0] += rate
        entry[1] += 1

    def _end_day(self) -> None:
        sums, self._sums = self._sums, [[0.0, 0] for _ in range(self.num_bins)]
        seen = sum(count for _, count in sums)
        mean = sum(total for total, _ in sums) / max(1, seen)
        if mean <= 0.0 or any(not count for _, count in sums):
            return
        fresh = [max(total / count / mean, self.settings.least_shape) for total, count in sums]
        gain = self.settings.season_gain if self.season else 1.0
        old = self.season or fresh
        self.season = [gain * new + (1 - gain) * was for new, was in zip(fresh, old, strict=True)]
        if gain == 1.0 and self.level is not None:  # what was level until now had the day's shape in it
            self.level, self.trend = mean, 0.0

    def ahead(self, now_s: float, seconds: float) -> float:
        """Return the rate forecast for so many seconds from now, at least 0."""
        if self.level is None:
            return 0.0
        damping, steps = self.settings.damping, seconds / self.settings.interval_s
        reach = steps if damping == 1.0 else damping * (1 - damping**steps) / (1 - damping)
        return max(0.0, self.level + reach * self.trend) * self.shape(now_s + seconds)


@register("autoscaler")
class Predictive(Autoscaler):
    """As many replicas as carry the arrivals forecast for a cold start from now, with `headroom`, and the backlog.

        replicas = ceil((forecast x (1 + headroom) + waiting / catch_up) / replica_rate)

    The forecast is Holt's damped trend, and from the second day on it knows the shape of the first. The largest within
    the cold start counts, so that none is taken away just before it is needed.
    """

    kind: Literal["predictive"] = "predictive"
    replica_rate_per_s: PerSecond
    """What one replica carries within its promises."""
    headroom: Annotated[float, Field(ge=0)] = 0.2
    """Assumed: covers the spread of arrivals and of the forecast."""
    catch_up_s: PositiveSeconds = 300.0
    """Within which requests that wait for a place in a batch are to be caught up with; assumed."""
    level_s: PositiveSeconds = 120.0
    """Time constant of the level's smoothing; assumed."""
    trend_s: PositiveSeconds = 900.0
    """Time constant of the trend's smoothing; assumed."""
    damping: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Of the trend, each interval (Gardner and McKenzie: 0.8 to 0.98 is usual)."""
    season_s: PositiveSeconds = DAY_S
    """Length of what recurs."""
    season_bin_s: PositiveSeconds = 900.0
    """Times of day within one are taken as one; the season is a whole number of them, each no shorter than an
    interval."""
    season_gain: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Weight of a new day against those before; assumed."""
    least_shape: Annotated[float, Field(gt=0, le=1)] = 0.05
    """A time of day counts as at least this share of the mean; assumed."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8, "replica_rate": "2 req/s"},
        {
            "max_replicas": 4,
            "replica_rate": "1 req/s",
            "season": "10 s",
            "season_bin": "2 s",
            "interval": "1 s",
        },
    )

    @model_validator(mode="after")
    def _in_bins(self) -> Self:
        bins = self.season_s / self.season_bin_s
        if round(bins) < 1 or abs(bins - round(bins)) > 1e-6:
            raise ValueError(
                f"season: {self.season_s:g} s is no whole number of season_bin: {self.season_bin_s:g} s"
            )
        if self.interval_s > self.season_bin_s * (1 + 1e-9):
            raise ValueError(
                f"season_bin: {self.season_bin_s:g} s is less than interval: {self.interval_s:g} s, so that no look "
                "would fall into some bins"
            )
        return self

    def start(self) -> Want:
        """See the class."""
        forecast = Forecast(self)

        def want(seen: Seen) -> int:
            forecast.saw(seen.now_s, seen.arrived_requests / self.interval_s)
            rate = _most(forecast.ahead, seen, self.interval_s) * (1 + self.headroom)
            return ceil((rate + seen.waiting_requests / self.catch_up_s) / self.replica_rate_per_s - 1e-9)

        return want


def _most(ahead: Callable[[float, float], float], seen: Seen, interval_s: float) -> float:
    """Return the largest forecast from now until replicas that were started at the next look would be up."""
    reach = seen.start_s + interval_s
    return max(ahead(seen.now_s, reach * step / 4) for step in range(5))
