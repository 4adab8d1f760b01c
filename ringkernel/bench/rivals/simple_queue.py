"""`queue.SimpleQueue`: two of them and another thread.

The fastest queue between threads in the standard library: written in C, without bound. Every hop between the
threads takes the GIL from one and gives it to the other.
"""

from platform import python_version
from queue import SimpleQueue

from .peers import blocking_jobs, queues, thread
from .serving import serve

if __name__ == "__main__":
    jobs = blocking_jobs(lambda job: queues(job, thread, SimpleQueue(), SimpleQueue()))
    serve(f"queue.SimpleQueue of Python {python_version()}", jobs)
