"""The compile cache: machine code that later processes load instead of compiling it again.

`settings` says where it is and how large it may grow, `store` keeps files, `machine_code` takes code out of numba and
puts it back, `fingerprint` and `environment` make up the key, `programs` puts these together. The layers above know
only `programs` and those that deal with keys.
"""
