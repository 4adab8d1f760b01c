"""`multiprocessing.Queue`: two of them and another process.

As documented: `put` hands the object to a feeder thread, which pickles it into a pipe; a tuple pickles faster than
an object of a class. `SimpleQueue` of the same module answers sooner and has no buffer, so that a flood through an
echo would block both sides for ever.
"""

from multiprocessing import get_context
from platform import python_version

from .peers import blocking_jobs, process, queues
from .serving import serve

if __name__ == "__main__":
    new_queue = get_context("spawn").Queue
    jobs = blocking_jobs(lambda job: queues(job, process, new_queue(), new_queue()))
    serve(f"multiprocessing.Queue of Python {python_version()}", jobs)
