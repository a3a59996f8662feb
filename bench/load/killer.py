"""Kill one worker of a server with signal 9 every so often: `killer PID INTERVAL COUNT`.

PID leads the session of the server and is left alone. In a process of its own, because to look
through /proc would keep the generator from its schedule. Prints how many it killed.
"""

import os
import signal
import sys
import time

from bench import proc


def main(leader: int, interval: float, count: int) -> None:
    """Kill workers in turn, by age: the one that has lived longest."""
    begin = time.monotonic()
    killed = 0
    for number in range(count):
        time.sleep(max(0.0, begin + (number + 0.5) * interval - time.monotonic()))
        for worker in proc.workers(leader):
            try:
                os.kill(worker, signal.SIGKILL)
                killed += 1
                break
            except ProcessLookupError:
                continue
    print(killed)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
