"""river: its compiled `EWMean`, updated and asked after each number; a statistic without streams around it."""

from importlib.metadata import version

from river import stats

from .smoothing import ALPHA, serve_ewma


def _smooth(values: list[float]) -> list[float]:
    mean = stats.EWMean(fading_factor=ALPHA)
    update, get = mean.update, mean.get
    found = []
    for value in values:
        update(value)
        found.append(get())
    return found


if __name__ == "__main__":
    serve_ewma(f"river {version('river')}", _smooth)
