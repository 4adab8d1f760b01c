"""The floors: the least that this machine takes for the same job, without ring, runtime or lifecycle.

    flags      two compiled threads, one flag each:     main --flag--> thread --flag--> main
    loops      one compiled loop over an array; a copy
    wakeups    two Python threads that block:           main --eventfd--> thread --eventfd--> main
    queues     one task that puts, one task that gets

Each checks that it did the job.
"""
