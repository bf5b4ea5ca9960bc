"""
The node with a signal at one line of its start: a program for test_node_start.py.

The last argument is the line of zoe_ros.ros.main._run, counted from the function's first. rclpy
has the time to shut its context down before the line runs.
"""
import os
import signal
import sys
import time

INTERRUPT = 'SIGINT at line'


def main():
    """Run the node under a trace that sends the signal."""
    from zoe_ros.ros import main

    code, offset = main._run.__code__, int(sys.argv[-1])

    def trace(frame, event, _):
        if frame.f_code is not code:
            return None
        if event == 'line' and frame.f_lineno == code.co_firstlineno + offset:
            sys.settrace(None)
            sys.stdout.write(f'{INTERRUPT} {offset}\n')
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return trace

    sys.settrace(trace)
    main.main()


if __name__ == '__main__':
    main()
