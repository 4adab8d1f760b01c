"""The cases by name, in the order of the table."""

import cases_arrays
import cases_messages
import cases_scale

CASES = {
    "ring": cases_arrays.ring,
    "roundtrip": cases_messages.roundtrip,
    "map": cases_arrays.map,
    "batch": cases_arrays.batch,
    "chain": cases_arrays.chain,
    "coroutine": cases_messages.coroutine,
    "send": cases_messages.send,
    "idle": cases_scale.idle,
    "many": cases_scale.many,
}
