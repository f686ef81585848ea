"""What the server that workers are forked from imports first: with it, the server ends with the training process.

By itself it looks for its end only when all is imported, which takes seconds, and a minute on a busy machine.
"""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that this process gets when its parent ends; no child inherits it

if (parent := os.environ.get("AVC_PARENT")) is not None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(parent):  # that one had ended before
        os._exit(1)
