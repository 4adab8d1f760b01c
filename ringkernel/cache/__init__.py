"""The compile cache: machine code that later processes load instead of compiling it again.

`settings` says where it is and how large it may grow, `store` keeps files, `machine_code` takes code out of numba and
puts it back, `code_cache` puts these together. The key is a `fingerprint`: of the `environment`, and of all that a
function reads (`functions`, `values`, `libraries`), in one hash (`hashing`). The layers above know `code_cache` and
those that deal with keys.
"""
