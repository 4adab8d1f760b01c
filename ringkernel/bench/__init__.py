"""The benchmark of ringkernel: its cases, what it is compared with, and the floors."""
