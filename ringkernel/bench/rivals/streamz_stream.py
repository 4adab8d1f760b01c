"""streamz: a source, `accumulate` and a sink, without an event loop, which is its fastest way."""

from importlib.metadata import version

from streamz import Stream

from .smoothing import serve_ewma, step


def _smooth(values: list[float]) -> list[float]:
    found: list[float] = []
    source = Stream()
    source.accumulate(step, start=None).sink(found.append)
    emit = source.emit
    for value in values:
        emit(value)
    return found


if __name__ == "__main__":
    serve_ewma(f"streamz {version('streamz')}", _smooth)
