# SPDX-License-Identifier: Apache-2.0
"""Child processes that end with the test, however the test ends."""
import atexit
import queue
import subprocess
import threading

_requests = queue.SimpleQueue()
_alive = set()
_lock = threading.Lock()
_spawner = None


def _spawn_for_good():
    # The kernel sends the death signal when the *thread* that forked ends, so all children come from one that stays.
    while True:
        args, options, answer = _requests.get()
        try:
            answer.put(subprocess.Popen(args, **options))
        except OSError as error:
            answer.put(error)


def spawn(args, netns=None, **options):
    """subprocess.Popen, in a network namespace if one is named. The process is killed when this one ends."""
    global _spawner
    with _lock:
        if _spawner is None:
            _spawner = threading.Thread(target=_spawn_for_good, name="spawner", daemon=True)
            _spawner.start()
    prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    if netns:
        prefix += ["ip", "netns", "exec", netns]  # it execs: the process id stays the same
    answer = queue.SimpleQueue()
    _requests.put((prefix + [str(a) for a in args], options, answer))
    child = answer.get()
    if isinstance(child, OSError):
        raise child
    with _lock:
        _alive.add(child)
    return child


def kill(child):
    """Ends `child` by its process id and waits for its end. Returns its exit status; may be called again."""
    if child.poll() is None:
        child.kill()
    status = child.wait()
    with _lock:
        _alive.discard(child)
    return status


@atexit.register
def _kill_all():
    for child in list(_alive):
        kill(child)
