r"""The demo of streams: trades and quotes of a day, joined by time, made into bars, and into a signal.

    quotes \               / cost
             priced -------
    trades /               \ bars -> signal

Who is in a hurry, buyers or sellers? A trade says so only beside the quote that was there. `priced` joins the two in
the order of their times, with a state for each symbol; `cost` says what each trade paid for its hurry. `bars` closes
its bars at each minute that time passes, and `signal` weighs what was bought against what was sold. In the end pandas
computes the same in its own way, and both have to agree.
"""

from .run import run

__all__ = ["run"]
